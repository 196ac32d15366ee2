"""Small videos for tests, made on the spot, and ways to spoil them."""

import fractions
import io

import av
import numpy as np


def moving(frames=40, size=(48, 32)):
    """A bright disc on a gradient; frame n can be told by where the disc is. uint8 [T, H, W, 3]."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    made = np.zeros((frames, height, width, 3), np.uint8)
    for number in range(frames):
        made[number, ..., 0] = 40 + 2 * number
        made[number, ..., 1] = np.where((x - number) ** 2 + (y - 16) ** 2 < 36, 220, 60)
        made[number, ..., 2] = x * 2
    return made


def encode(
    frames, *, container="mp4", codec="libx264", pix_fmt="yuv420p", times=None, gop=8, options=None
):
    """A file of the frames; `times` in seconds, 25 frames a second where they are None."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        stream.codec_context.gop_size = gop
        stream.bit_rate = 4_000_000
        if options is None:
            options = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}
        stream.options = options
        if times is not None:
            stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if times is None else round(times[number] * 1000)
            frame.time_base = fractions.Fraction(1, 25 if times is None else 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def sound():
    """A file without pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def turned(data):
    """An mp4 file whose header asks for a quarter turn."""
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    one, minus_one, unit = (n.to_bytes(4, "big", signed=True) for n in (1 << 16, -1 << 16, 1 << 30))
    none = bytes(4)
    return data[:at] + none + one + none + minus_one + none * 4 + unit + data[at + 36 :]

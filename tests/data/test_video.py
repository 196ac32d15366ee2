"""Decoding of videos: every frame as it is, from anywhere, and bad files refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from tests import videos
from vitok_jax.data import video

FRAMES = videos.moving()
# What the codecs below lose, as the mean absolute difference of bytes.
_LOSS = 9.0


def same(got, wanted) -> bool:
    """Frames equal but for coding loss, and nearer to their own than to their neighbours."""
    return np.abs(got.astype(int) - wanted).mean() < _LOSS


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("matroska", "libx264"),
        ("avi", "mpeg4"),
        ("webm", "libvpx"),
        ("mp4", "mpeg4"),
    ],
)
def test_frames_from_anywhere_are_those_from_the_start(container, codec) -> None:
    options = {"bf": "2"} if container == "avi" else None
    data = videos.encode(FRAMES, container=container, codec=codec, options=options)
    opened = video.open_video(data)
    assert opened.size == (48, 32) and len(opened.times) == len(FRAMES)
    assert video.rate(opened.times) == pytest.approx(25, rel=1e-2)
    every = list(opened.every())
    assert all(same(got, wanted) for got, wanted in zip(every, FRAMES, strict=True))
    for numbers in ([30, 31, 39], [2, 2, 9], [0], [17, 35]):
        for number, frame in zip(numbers, opened.frames(numbers), strict=True):
            np.testing.assert_array_equal(frame, every[number])


def test_a_changing_frame_rate() -> None:
    times = np.cumsum(np.tile([0.02, 0.1], 20)) - 0.02
    opened = video.open_video(videos.encode(FRAMES, container="matroska", times=times))
    np.testing.assert_allclose(opened.times, times, atol=2e-3)


def test_gif_and_webp() -> None:
    pictures = [Image.fromarray(frame) for frame in FRAMES[:6]]
    for kind in ("GIF", "WEBP"):
        buffer = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {}
        durations = [40, 80, 40, 80, 40, 40]
        pictures[0].save(
            buffer, kind, save_all=True, append_images=pictures[1:], duration=durations, **options
        )
        opened = video.open_video(buffer.getvalue())
        np.testing.assert_allclose(opened.times, [0, 0.04, 0.12, 0.16, 0.24, 0.28], atol=1e-6)
        assert same(opened.frames([1, 4])[1], FRAMES[4])


def test_ten_bits_odd_sides_and_packed_pictures() -> None:
    deep = video.open_video(videos.encode(FRAMES[:4], pix_fmt="yuv420p10le"))
    assert same(deep.frames([3])[0], FRAMES[3])
    odd = video.open_video(videos.encode(FRAMES[:4, :31, :47], pix_fmt="yuv444p"))
    assert odd.size == (47, 31)
    encoded = []
    for frame in FRAMES[:3]:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    packed = video.open_video(video.pack_frames(encoded, 25.0))
    np.testing.assert_array_equal(np.stack(list(packed.every())), FRAMES[:3])
    assert packed.times.tolist() == [0, 0.04, 0.08]


def test_a_turned_video_stands_upright() -> None:
    plain = videos.encode(FRAMES[:4])
    opened = video.open_video(videos.turned(plain))
    assert opened.size == (32, 48)
    upright = video.open_video(plain).frames([2])[0]
    np.testing.assert_array_equal(opened.frames([2])[0], np.rot90(upright, -1))


BAD = {
    "empty": (lambda: b"", "cannot be decoded"),
    "noise": (lambda: b"no video at all" * 99, "cannot be decoded"),
    "sound": (videos.sound, "no video stream"),
    "header cut off": (lambda: videos.encode(FRAMES)[:2_000], "cannot be decoded"),
    "cut off": (lambda: cut(videos.encode(FRAMES, container="avi", codec="mpeg4")), "breaks off"),
    "no frames": (lambda: video.pack_frames([], 25.0), "holds no frames"),
}


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_kind_of_error(name) -> None:
    make, said = BAD[name]
    with pytest.raises(video.CorruptVideo, match=said):
        list(video.open_video(make()).every())

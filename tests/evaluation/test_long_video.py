"""Videos longer than those of training: blended windows, remembered pieces, files in and out."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests import videos
from tests.evaluation import tiny
from tests.evaluation.test_reconstruction import Identity
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import video
from vitok_jax.evaluation import (
    codec,
    devices,
    long_video,
    picture_files,
    reconstruction,
    tiling,
    yardsticks,
)
from vitok_jax.models import shapes, variants, vitok


class Longer(Identity):
    """Keeps everything, in tubelets of two frames."""

    variant = variants.parse("S-S/2x8x384")
    budget = yardsticks.Budget(2, 8, 384)


def path_of(coder, frames, params=None) -> long_video.LongVideo:
    rows = devices.local(jax.devices()[:1])
    bound = codec.Bound(coder, params or {}, (16,), frames)
    path = reconstruction.Reconstructor(bound, rows, settings=tiny.settings())
    return long_video.LongVideo(bound, path, tiny.settings())


@pytest.mark.parametrize("count", [1, 4, 7, 21])
def test_what_the_codec_keeps_comes_back_in_windows(count) -> None:
    coder = Longer()
    frames = videos.moving(count, size=(20, 16))
    made = list(path_of(coder, 8).reconstruct(iter(frames), count))
    np.testing.assert_array_equal(np.stack(made), frames)
    assert max(shape[1] for shape in coder.calls) <= 8


def test_no_more_than_a_few_windows_are_held() -> None:
    held = []

    def read():
        for number, frame in enumerate(videos.moving(60, size=(16, 16))):
            held.append(number)
            yield frame

    for number, _ in enumerate(path_of(Longer(), 8).reconstruct(read(), 60)):
        # Two windows and their overlap: one of pixels waits for one of latents.
        assert held[-1] - number <= 2 * 8


def test_blending_one_by_one_is_blending_at_once() -> None:
    plan = tiling.plan((11,), limits=(4,), overlap=0.3)
    random = np.random.default_rng(0)
    tiles = [random.normal(size=(8, 3, 2)).astype(np.float32) for _ in plan.starts]
    got = np.stack(list(long_video.overlap_add(tiles, plan, 2)))
    np.testing.assert_allclose(got, tiling.blend(tiles, plan, scale=(2,)), atol=1e-6)


def test_clips_that_are_arrays_are_cut_in_time_alike() -> None:
    coder = Longer()
    rows = devices.local(jax.devices()[:1])
    bound = codec.Bound(coder, {}, (16,), 8)
    path = reconstruction.Reconstructor(bound, rows, settings=tiny.settings())
    clip = videos.moving(21, size=(20, 16))[None]
    np.testing.assert_array_equal(path.reconstruct(clip, draws_B3=None), clip)
    assert "overlapping tiles of 8 frames of 16x16" in path.route((21, 16, 20)).describe()
    assert path.route((1, 16, 16)).describe() == "16x16: whole"


def test_a_causal_model_makes_of_pieces_what_it_makes_of_the_whole() -> None:
    count = 13  # the first frame alone, and six tubelets
    config = config_lib.ModelConfig(
        variant="w24d1h1-w24d1h1/2x8x12",
        time_attention="causal",
        time_window=2,
        layers="loop",
        dtype="float32",
    )
    params = vitok.init_params(vitok.build(config), jax.random.key(1))
    coder = codec.Codec(config, part="all")
    frames = videos.moving(count, size=(16, 16))
    made = np.stack(list(path_of(coder, 4, params).reconstruct(iter(frames), count)))
    tokens = coder.encode(params, frames[None], None)
    grid = shapes.grid_of((count, 16, 16), coder.variant.tubelet, "causal")
    whole = coder.decode(params, tokens, grid=grid, kind="uint8")
    assert np.abs(made.astype(int) - np.asarray(whole)[0]).max() <= 1  # rounding of a half


def test_files_go_in_and_come_out(tmp_path) -> None:
    frames = videos.moving(9, size=(25, 16))
    times = np.cumsum(np.tile([0.04, 0.12, 0.08], 3)) - 0.04
    (tmp_path / "in").mkdir()
    even = np.pad(frames, ((0, 0), (0, 0), (0, 1), (0, 0)), mode="edge")
    (tmp_path / "in" / "clip.mkv").write_bytes(
        videos.encode(even, container="matroska", times=times)
    )
    Image.fromarray(frames[0]).save(tmp_path / "in" / "still.gif")
    (tmp_path / "in" / "torn.mp4").write_bytes(videos.encode(even)[:900])
    path = path_of(Longer(), 8)
    given = picture_files.find(tmp_path / "in")
    lines = []
    with pytest.raises(errors.UsageError, match=r"1 of 3 files cannot be read: torn\.mp4"):
        for line in picture_files.reconstruct(given, path._path, path, out=tmp_path / "out"):
            lines.append(line)
    assert len(lines) == 2 and "11.76 fps" in lines[0] and "PSNR 100.00" in lines[0]
    done = video.open_video((tmp_path / "out" / "clip.mp4").read_bytes())
    np.testing.assert_allclose(done.times, times, atol=2e-3)
    assert done.size == (26, 16)
    beside = video.open_video((tmp_path / "out" / "clip.compare.mp4").read_bytes())
    assert beside.size == (56, 16) and len(beside.times) == 9
    sheet = Image.open(tmp_path / "out" / "clip.sheet.png")
    assert sheet.size == (8 * 30 + 4, 2 * 20 + 4)
    assert (tmp_path / "out" / "still.png").is_file()

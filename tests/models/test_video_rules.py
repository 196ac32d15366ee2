"""What a video model promises: its number of frames, causality, pieces, and inflation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from vitok_jax.errors import UsageError
from vitok_jax.models import inflate, shapes, transformer, tubelets, variants, vitok
from vitok_jax.models.variants import Tubelet

CAUSAL = small.config(variant="w24d2h2-w16d1h2/2x4x3", time_attention="causal")


@pytest.mark.parametrize(
    ("frames", "attention", "grid"),
    [
        (8, "full", (2, "tubelet", 8)),
        (8, "causal", (2, "tubelet", 8)),
        (9, "causal", (3, "frame", 9)),
        (1, "causal", (1, "frame", 1)),
        (1, "full", (1, "frame", 1)),
    ],
)
def test_the_number_of_frames(frames, attention, grid) -> None:
    found = shapes.grid_of((frames, 8, 8), Tubelet(4, 4), attention)
    assert (found.t, found.start, found.frames(Tubelet(4, 4))) == grid


@pytest.mark.parametrize(
    ("frames", "attention", "said"),
    [
        (9, "full", "9 frames do not divide .* allowed: multiples of 4, or 1$"),
        (7, "causal", "7 frames .* allowed: multiples of 4, or 1 . multiples of 4$"),
    ],
)
def test_other_numbers_of_frames(frames, attention, said) -> None:
    with pytest.raises(UsageError, match=said):
        shapes.grid_of((frames, 8, 8), Tubelet(4, 4), attention)


def test_a_lone_first_frame_goes_in_repeated_and_comes_out_as_the_mean() -> None:
    video = small.inputs(2, (5, 4, 8))
    cut = tubelets.patchify(video, Tubelet(4, 4), "causal")
    assert cut.patches.shape == (2, 2 * 2, 4 * 4 * 4 * 3)
    assert cut.positions[0, :, 0].tolist() == [0, 0, 1, 1]
    grid = shapes.grid_of((5, 4, 8), Tubelet(4, 4), "causal")
    np.testing.assert_allclose(tubelets.unpatchify(cut.patches, grid, Tubelet(4, 4)), video)
    ramp = cut.patches.reshape(2, 4, 4, -1) + jnp.arange(4.0)[:, None]
    back = tubelets.unpatchify(ramp.reshape(2, 4, -1), grid, Tubelet(4, 4))
    np.testing.assert_allclose(back[:, 0], video[:, 0] + 1.5, rtol=1e-6)


@pytest.fixture(scope="module")
def causal() -> tuple[vitok.ViTok, dict]:
    model = vitok.build(CAUSAL)
    return model, small.params_of(model)


def reconstruct(config, params, video):
    variant = variants.parse(config.variant)
    cut = tubelets.patchify(video, variant.tubelet, config.time_attention)
    grid = shapes.grid_of(video.shape[1:4], variant.tubelet, config.time_attention)
    patches = small.run(config, params, cut).patches
    return tubelets.unpatchify(patches, grid, variant.tubelet)


def test_causal_frames_do_not_see_what_comes_later(causal) -> None:
    _, params = causal
    video = small.inputs(1, (7, 8, 8))
    changed = video.at[:, 5:].set(-video[:, 5:])
    before, after = (reconstruct(CAUSAL, params, v)[0] for v in (video, changed))
    np.testing.assert_allclose(before[:5], after[:5], atol=1e-6)
    assert float(jnp.abs(before[5:] - after[5:]).max()) > 0.1
    full = dataclasses.replace(CAUSAL, time_attention="full")
    before, after = (reconstruct(full, params, v[:, 1:])[0] for v in (video, changed))
    assert float(jnp.abs(before[:4] - after[:4]).max()) > 1e-3


def test_a_window_forgets(causal) -> None:
    _, params = causal
    config = dataclasses.replace(CAUSAL, time_window=1)
    video = small.inputs(1, (6, 8, 8))
    changed = video.at[:, :2].set(-video[:, :2])
    before, after = (reconstruct(config, params, v)[0] for v in (video, changed))
    np.testing.assert_allclose(before[2:], after[2:], atol=1e-6)
    with pytest.raises(UsageError, match="time_window: 2 needs"):
        vitok.build(small.config(time_window=2))


def test_a_causal_model_sees_a_video_in_pieces_as_it_does_whole(causal) -> None:
    model, params = causal
    config = CAUSAL
    video = small.inputs(2, (9, 8, 8))
    cut = tubelets.patchify(video, model.variant.tubelet, "causal")
    whole = small.run(config, params, cut).posterior.mean
    past = {"transformer": transformer.empty_past(config, model.variant.encoder, 2)}
    encoder = vitok.build_encoder(config)
    parts = []
    for start, stop in ((0, 8), (8, 20)):
        piece = tubelets.Tubelets(cut.patches[:, start:stop], cut.positions[:, start:stop])
        variables = {"params": params["encoder"], "past": past}
        posterior, kept = jax.jit(lambda v, p: encoder.apply(v, p, mutable=["past"]))(
            variables, piece
        )
        parts.append(posterior.mean)
        past = kept["past"]
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=2e-5)


@pytest.mark.parametrize(
    ("attention", "positions"), [("full", "2d"), ("full", "3d"), ("causal", "3d")]
)
def test_a_still_video_through_an_inflated_model_is_the_image(attention, positions) -> None:
    image_config = small.config(variant="w24d1h2-w16d1h2/1x4x3", positions=positions)
    config = dataclasses.replace(
        image_config, variant="w24d1h2-w16d1h2/4x4x3", time_attention=attention
    )
    params = small.params_of(vitok.build(image_config))
    wanted = jax.eval_shape(lambda: vitok.init_params(vitok.build(config), jax.random.key(0)))
    inflated = inflate.inflate(params, wanted)
    image = small.inputs(1, (1, 8, 12))
    expected = reconstruct(image_config, params, image)
    # T = 1: the first frame alone, or the frame repeated and the mean of what comes out.
    np.testing.assert_allclose(reconstruct(config, inflated, image), expected, atol=1e-5)
    still = jnp.repeat(image, 4, axis=1)
    np.testing.assert_allclose(
        reconstruct(config, inflated, still), jnp.repeat(expected, 4, axis=1), atol=1e-5
    )
    if positions == "2d":
        longer = jnp.repeat(image, 8, axis=1)
        made = reconstruct(config, inflated, longer)
        np.testing.assert_allclose(made, jnp.repeat(expected, 8, axis=1), atol=1e-5)

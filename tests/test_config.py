"""Settings: defaults, round trip, and one line for every kind of mistake."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitok_jax import config as config_lib
from vitok_jax import errors


def with_value(path: str, value: object) -> dict:
    values = config_lib.to_dict(config_lib.TokenizerConfig())
    *parents, last = path.split(".")
    level = values
    for key in parents:
        level = level[key]
    level[last] = value
    return values


def test_config_dict_round_trip() -> None:
    config = config_lib.TokenizerConfig(seed=7)
    locked = config_lib.to_config_dict(config)
    assert config_lib.from_config_dict(config_lib.TokenizerConfig, locked) == config
    with pytest.raises((AttributeError, KeyError)):
        locked.model.no_such_key = 1


def test_missing_keys_take_their_defaults() -> None:
    built = config_lib.from_config_dict(
        config_lib.TokenizerConfig, {"model": {"block": "parallel"}}
    )
    assert built == dataclasses.replace(
        config_lib.TokenizerConfig(), model=config_lib.ModelConfig(block="parallel")
    )


def test_lists_and_whole_numbers_take_the_declared_type() -> None:
    values = with_value("data.sizes", [32, 64])
    values["optimizer"]["clip_norm"] = 1
    built = config_lib.from_config_dict(config_lib.TokenizerConfig, values)
    assert built.data.sizes == (32, 64)
    assert isinstance(built.optimizer.clip_norm, float)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("loss.pixel", "bogus", ["config.loss.pixel", "'bogus'", "mse, l1, huber, charbonnier"]),
        ("model.blok", "x", ["config.model", "'blok'", "did you mean 'block'"]),
        ("data.size", 0, ["config.data.size", "1 and more"]),
        ("data.batch_size", True, ["config.data.batch_size", "int"]),
        ("seed", 1.5, ["config.seed", "1.5", "int"]),
        ("loss.lpips", "much", ["config.loss.lpips", "'much'", "float"]),
        ("data.crop_scale", (1.0,), ["config.data.crop_scale", "1 entries, not 2"]),
        ("data.sizes", (32, "a"), ["config.data.sizes[1]", "'a'"]),
        ("data.sizes", 32, ["config.data.sizes", "not a tuple"]),
        ("optimizer.b1", float("nan"), ["config.optimizer.b1", "finite"]),
        ("loss.kl", -1.0, ["config.loss.kl", "negative"]),
        ("model", 3, ["config.model", "not a mapping"]),
    ],
)
def test_each_mistake_is_one_line_that_names_the_key(
    path: str, value: object, words: list[str]
) -> None:
    with pytest.raises(errors.UsageError) as raised:
        config_lib.from_config_dict(config_lib.TokenizerConfig, with_value(path, value))
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@given(st.text(min_size=1, max_size=12))
def test_no_unknown_key_passes(key: str) -> None:
    known = {field.name for field in dataclasses.fields(config_lib.TokenizerConfig)}
    if key not in known:
        with pytest.raises(errors.UsageError):
            config_lib.from_config_dict(config_lib.TokenizerConfig, {key: 1})

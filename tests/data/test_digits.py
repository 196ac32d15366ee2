"""The digits of scikit-learn as a source."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from vitok_jax.data import sources
from vitok_jax.errors import UsageError


def test_they_are_scikit_learns() -> None:
    records, digits = sources.Records("digits"), datasets.load_digits()
    assert len(records) == len(digits.target) == 1_797
    for index in (0, 7, 1_436, 1_437, 1_796):
        record = records[index]
        with Image.open(io.BytesIO(record.data)) as image:
            pixels = np.asarray(image)
        assert np.abs(pixels - digits.images[index] * 255 / 16).max() <= 0.5
        assert record.label == digits.target[index]


def test_no_digit_is_in_both_splits() -> None:
    train, heldout = sources.Records("digits:train"), sources.Records("digits:heldout")
    assert (len(train), len(heldout)) == (1_437, 360)
    names = {train[i].name for i in range(len(train))}
    assert heldout[0].name == "digits/1437.png" and heldout[0].name not in names
    assert train.fingerprint() != heldout.fingerprint()
    assert {heldout[i].label for i in range(360)} == set(range(10))


def test_an_unknown_split() -> None:
    with pytest.raises(UsageError, match="digits, split: unknown value 'test'"):
        sources.Records("digits:test")

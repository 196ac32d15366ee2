"""Names of variants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitok_jax.errors import UsageError
from vitok_jax.models import variants
from vitok_jax.models.variants import Size, Tubelet

counts = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "tubelet", "channels"),
    [
        ("S-B/16", (768, 6, 12), (768, 12, 12), (1, 16), 16),
        ("S-B/4x8", (768, 6, 12), (768, 12, 12), (4, 8), 16),
        ("L-H/1x16x16", (1152, 24, 16), (1312, 32, 16), (1, 16), 16),
        ("w128d1h4-w96d3h3/1x8x20", (128, 1, 4), (96, 3, 3), (1, 8), 20),
        ("Sd4-Bd10h8/32", (768, 4, 12), (768, 10, 8), (1, 32), 16),
        ("v2:Ld4-Ld24/1x16x64", (1024, 4, 16), (1024, 24, 16), (1, 16), 64),
        ("v2:Td4-T/1x32x256", (3072, 4, 24), (3072, 40, 24), (1, 32), 256),
        ("v2:G-E/8", (1728, 32, 24), (4096, 48, 32), (1, 8), 16),
    ],
)
def test_named(name, encoder, decoder, tubelet, channels):
    variant = variants.parse(name)
    assert variant == variants.Variant(
        name, Size(*encoder), Size(*decoder), Tubelet(*tubelet), channels
    )


@given(
    letter=st.sampled_from(["", *variants.PAPER_SIZES]),
    order=st.permutations("wdh"),
    head_dim=counts,
    heads=st.integers(1, 64),
    depth=counts,
    tubelet=st.tuples(counts, counts, counts),
)
def test_every_override_is_read(letter, order, head_dim, heads, depth, tubelet):
    values = {"w": head_dim * heads, "d": depth, "h": heads}
    half = letter + "".join(f"{field}{values[field]}" for field in order)
    variant = variants.parse(f"B-{half}/{'x'.join(map(str, tubelet))}")
    assert variant.encoder == variants.PAPER_SIZES["B"]
    assert variant.decoder == Size(values["w"], depth, heads)
    assert variant.decoder.head_dim == head_dim
    assert variant.tubelet == Tubelet(*tubelet[:2])
    assert variant.tubelet.dim == 3 * tubelet[0] * tubelet[1] ** 2
    assert variant.channels == tubelet[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("S-B", "does not parse"),
        ("S/16", "does not parse"),
        ("S-B/", "does not parse"),
        ("S-B/1x2x3x4", "does not parse"),
        ("S-B/-4", "does not parse"),
        ("s-B/16", "'s' does not parse"),
        ("S-Bx3/16", "'Bx3' does not parse"),
        ("S-T/16", "unknown value 'T'"),
        ("v2:S-B/16", "unknown value 'S'"),
        ("V2:L-L/16", "does not parse"),
        ("S-w64d2/16", "needs all of w, d and h"),
        ("S-Bd2d3/16", "twice"),
        ("S-Bd0/16", "0 in 'Bd0'"),
        ("S-B/0", "0 in the tubelet"),
        ("S-Bh7/16", "7 heads do not divide width 768"),
        ("S-B/16\n", "does not parse"),
    ],
)
def test_wrong_names_are_named(name, said):
    with pytest.raises(UsageError) as caught:
        variants.parse(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)

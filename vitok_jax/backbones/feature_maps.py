"""Feature maps of frozen networks for a discriminator's heads.

Anything with `maps(pixels_BHWC, *, dtype)` that is a pytree can stand here; see
`vitok_jax.models.feature_discriminator.Backbone`.
"""

from collections.abc import Sequence
from typing import Any

import flax.struct
from jaxtyping import Array, Float

from vitok_jax.backbones import lpips


@flax.struct.dataclass
class Vgg16Maps:
    """The five maps that LPIPS reads, from the very arrays that LPIPS uses.

    Attributes:
      weights: `backbones.vgg.load_vgg16_lpips()`.
    """

    weights: lpips.LpipsWeights

    def maps(
        self, pixels_BHWC: Float[Array, "b h w 3"], *, dtype: Any
    ) -> Sequence[Float[Array, "b i j c"]]:
        """Maps of 1, 1/2, 1/4, 1/8 and 1/16 of the side of pictures in [-1, 1].

        Args:
          pixels_BHWC: sides are multiples of 16.
          dtype: of the products.
        """
        return lpips.features(self.weights, pixels_BHWC, dtype=dtype)

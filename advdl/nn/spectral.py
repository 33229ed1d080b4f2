"""Spectral normalization: Miyato et al. 2018 (arXiv:1802.05957)."""

from collections.abc import Callable

import flax.linen as nn
import jax


class SpectralNorm(nn.Module):
    """A layer whose kernel is divided by the largest singular value of the matrix that it is
    reshaped to, (product of all axes but the last, last) (section 2.1; kernels of convolutions are
    reshaped as in the released code).

    What this bounds: a dense layer is 1-Lipschitz, it makes no distance longer. A convolution is
    not: the matrix acts on windows, and each pixel lies in up to kh·kw of them, so the Lipschitz
    constant of a layer with a kernel of kh × kw and stride 1 is at most √(kh·kw). That bound is
    reached: a normalized 3×3 kernel of equal values multiplies a constant image by 3 away from the
    border.

    The singular value is estimated by power iteration (algorithm 1), one step for each application,
    from the vector `u` in the collection `batch_stats`. `u` advances wherever that collection is
    mutable: in training, and not in evaluation. It depends on the kernel alone, so it is the same
    under all placements. Parameters are the layer's, under the layer's own name.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.SpectralNorm(self.layer)(
            x, update_stats=self.is_mutable_collection("batch_stats")
        )


def spectral(layer: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A constructor of normalized layers, called as the plain one is: `spectral(Conv)(64,
    kernel_size=3, name="first")`."""
    return lambda *args, **fields: SpectralNorm(layer(*args, **fields))

"""Spectral normalization: Miyato et al. 2018 (arXiv:1802.05957)."""

from collections.abc import Callable

import flax.linen as nn
import jax


class SpectralNorm(nn.Module):
    """A layer whose kernel is divided by its largest singular value, so that it is 1-Lipschitz (section 2.1).

    The kernel is the matrix (all axes but the last, last). One step of the power iteration an application (algorithm 1)
    starts from the vector `u` in the collection `batch_stats`, which moves on wherever that collection is mutable: in
    training, and not in evaluation. It depends on the kernel alone, so it is the same under all placements. Parameters
    are the layer's, under the layer's own name.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.SpectralNorm(self.layer)(x, update_stats=self.is_mutable_collection("batch_stats"))


def spectral(layer: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A constructor of normalized layers, called as the plain one is: `spectral(Conv)(64, kernel_size=3, name="first")`."""
    return lambda *args, **fields: SpectralNorm(layer(*args, **fields))

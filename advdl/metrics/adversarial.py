"""How a generator and a discriminator stand in training. Axes: B batch."""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from advdl import losses
from advdl.metrics.base import Mean


def adversarial(
    real_logit_B: jax.Array, fake_logit_B: jax.Array, mask_B: jax.Array | None = None
) -> dict[str, Mean]:
    """What a discriminator makes of data and of as many samples.

    `value`: V(D, G) = E log D(x) + E log(1 - D(G(z))), -log 4 at the equilibrium of Goodfellow et
    al. 2014. `d_real`, `d_fake`: the means of D(x) and of D(G(z)), 1/2 at the equilibrium.
    `d_accuracy`: the share of both that it tells right, at a probability of 1/2.
    """
    right = ((real_logit_B > 0).astype(jnp.float32) + (fake_logit_B < 0)) / 2
    return {
        "value": Mean.of(losses.value(real_logit_B, fake_logit_B), mask_B),
        "d_real": Mean.of(jax.nn.sigmoid(real_logit_B), mask_B),
        "d_fake": Mean.of(jax.nn.sigmoid(fake_logit_B), mask_B),
        "d_accuracy": Mean.of(right, mask_B),
    }


def preferences(logits: Mapping[str, jax.Array], mask_B: jax.Array) -> dict[str, Mean]:
    """How often a discriminator prefers an image to the one before it, of several versions of each:
    `{"b_to_a": …, "c_to_b": …}` of logits (B,) by name, a, b, c. mask_B: 0 leaves an image out."""
    return {
        f"{name}_to_{before}": Mean.of(logits[name] > logits[before], mask_B)
        for before, name in itertools.pairwise(logits)
    }


def varieties(real_BHWC: jax.Array, fake_BHWC: jax.Array) -> dict[str, Mean]:
    """`variety_data`, `variety_samples`: the mean square difference of two images that stand side
    by side in the batch, near 0 where all are one image. The last of an odd number is left out."""

    def variety(images):
        even = images[: len(images) // 2 * 2]
        pairs = even.reshape(-1, 2, images[0].size).astype(jnp.float32)
        return Mean.of(jnp.square(pairs[:, 0] - pairs[:, 1]).mean(1))

    return {"variety_data": variety(real_BHWC), "variety_samples": variety(fake_BHWC)}

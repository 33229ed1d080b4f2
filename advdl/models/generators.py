"""Generators by name, as `gan.py` trains them and others build on them."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from advdl.errors import UserError
from advdl.models import dcgan, goodfellow, sngan

NOISE_BOUNDS = {"uniform": math.sqrt(3), "unit-uniform": 1.0}
"""b of the priors U(-b, b), by name: of variance 1 as in the code released by Goodfellow et al.
2014, and that of Radford et al. 2015. The prior "normal" has no bound."""


def generator(
    name: str,
    shape: tuple[int, int, int],
    width: int,
    classes: int = 0,
    dtype: Any = jnp.float32,
    pixel_means: np.ndarray | None = None,
) -> tuple[nn.Module, float]:
    """(noise (B, Z) -> images (B, *shape), the lowest pixel value; the highest is 1).

    name: dcgan, resnet or mlp. width, classes: see those networks. pixel_means: means of the
    training images, in [0, 1], from which mlp starts; the others do not use them. Raises UserError
    for a shape that does not halve as often as the network doubles, and for classes where it knows
    none.
    """
    if name == "mlp":
        if classes:
            raise UserError("--network mlp knows no --conditional; take dcgan")
        return goodfellow.Generator(
            shape, hidden=(width, width), pixel_means=pixel_means, dtype=dtype
        ), 0.0
    try:
        {"dcgan": dcgan.levels_of, "resnet": sngan.halvings}[name](*shape[:2])
    except ValueError as error:
        raise UserError(f"{error}; give --image-size, or --network mlp") from error
    made = {"dcgan": dcgan.Generator, "resnet": sngan.Generator}[name]
    return made(shape, width=width, classes=classes, dtype=dtype), -1.0

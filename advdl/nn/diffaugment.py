"""Differentiable augmentation of images for training GANs on little data: Zhao et al. 2020
(arXiv:2006.10738).

Data and samples are distorted alike before the discriminator sees them, and gradients pass through
to the generator; so the discriminator cannot learn the images by heart, and the generator does not
learn the distortions. Sizes of the boxes and of the shifts are those of the released code
(github.com/mit-han-lab/data-efficient-gans).

Axes: B batch, H height, W width, C channels. Pixels lie in [-1, 1]. Every image has a key of its
  own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from advdl.nn import replica


def _color(x: jax.Array, key: jax.Array) -> jax.Array:
    """Brightness by U(-1/2, 1/2), saturation by a factor U(0, 2), contrast by a factor U(1/2,
    3/2)."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,), x.dtype)
    x = x + (brightness - 0.5)
    gray = x.mean(-1, keepdims=True)
    x = (x - gray) * (2 * saturation) + gray
    return (x - x.mean()) * (contrast + 0.5) + x.mean()


def _translation(x: jax.Array, key: jax.Array) -> jax.Array:
    """Each side is shifted by up to an eighth, to either direction with the same probability; zeros
    move in."""
    for axis, own in enumerate(jax.random.split(key)):
        side = x.shape[axis]
        room = (side + 4) // 8
        place, shift = jnp.arange(side), jax.random.randint(own, (), -room, room + 1)
        # A product with a matrix of ones: a slice whose start differs by image is a gather, slow
        # and not partitioned.
        move = (place[:, None] == place[None] + shift).astype(x.dtype)
        x = jnp.moveaxis(jnp.tensordot(move, x, (1, axis), precision="highest"), 0, axis)
    return x


def _cutout(x: jax.Array, key: jax.Array) -> jax.Array:
    """A box of half of each side, its center anywhere in the image, becomes zero.

    The center of a box of an odd number of pixels is one of the `side` pixels. That of an even
    number lies between two pixels or at the border, which makes `side + 1` places; with fewer of
    them one side of the image is cut more often.
    """
    keys, inside = jax.random.split(key), jnp.ones((1, 1), bool)
    for axis, (key, side) in enumerate(zip(keys, x.shape[:2], strict=True)):
        size, place = (side + 1) // 2, jnp.arange(side)
        first = jax.random.randint(key, (), 0, side + 1 - size % 2) - size // 2
        inside = inside & jnp.expand_dims((place >= first) & (place < first + size), 1 - axis)
    return jnp.where(inside[..., None], 0, x)


POLICIES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def differentiable_augment(
    x_BHWC: jax.Array, key: jax.Array, policies: tuple[str, ...]
) -> jax.Array:
    """Images of the same shape after each of `policies`, names of `POLICIES`, in turn. Raises
    KeyError for another name."""
    for name in policies:
        key, own = jax.random.split(key)
        x_BHWC = jax.vmap(POLICIES[name])(x_BHWC, replica.keys(own, len(x_BHWC)))
    return x_BHWC

"""Mixing two images and their labels, on the device and inside a loss; ten crops of an image for a
prediction.

Partners are neighbors, examples 2i and 2i + 1 of a batch, with one share for both: nothing moves
between devices, hosts or replicas, and every placement draws the same numbers. A loss reads a mixed
batch by

    batch["weight"] * cross_entropy(logits, batch["label"])
    + (1 - batch["weight"]) * cross_entropy(logits, batch["other"])

Axes: B batch, P pairs, H height, W width, C channels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advdl.nn import replica

# (key, height, width) -> (how much of each pixel stays the example's own (H, W), their mean ())
Draw = Callable[[jax.Array, int, int], tuple[jax.Array, jax.Array]]


def mixup(batch: Mapping[str, Any], key: jax.Array, alpha: float) -> dict[str, Any]:
    """Example λ·x + (1 - λ)·partner with λ ~ Beta(alpha, alpha) for a pair (Zhang et al. 2017,
    arXiv:1710.09412, section 2).

    batch: `image` (B, H, W, C) float, `label` (B,) and whatever else, which stays. Gives it back
    with the images mixed, `other` (B,), the partner's label, and `weight` (B,) float32, the share
    of the example's own. Raises ValueError for an odd batch, images of whole numbers, or alpha 0 or
    less.
    """
    return _mixed(batch, key, _blend(_positive(alpha)))


def cutmix(batch: Mapping[str, Any], key: jax.Array, alpha: float) -> dict[str, Any]:
    """A rectangle becomes the partner's, of share 1 - λ, λ ~ Beta(alpha, alpha), about a uniform
    center and cut off at the image's border, the same for a pair (Yun et al. 2019,
    arXiv:1905.04899, section 3.1). `weight` is 1 - the share of the pixels that were replaced; the
    rest is as in `mixup`."""
    return _mixed(batch, key, _paste(_positive(alpha)))


def mix(
    batch: Mapping[str, Any], key: jax.Array, mixup_alpha: float, cutmix_alpha: float
) -> dict[str, Any]:
    """`mixup` where cutmix_alpha is 0, `cutmix` where mixup_alpha is 0, and where neither is, one
    of the two for each pair, as likely; with both 0 the images as they are, weight 1. Raises
    ValueError for negative ones, and as `mixup` does."""
    if min(mixup_alpha, cutmix_alpha) < 0:
        raise ValueError(
            f"mixup's alpha is {mixup_alpha} and cutmix's {cutmix_alpha}; expected 0 or more"
        )
    if not mixup_alpha:
        return _mixed(batch, key, _paste(cutmix_alpha) if cutmix_alpha else _keep)
    if not cutmix_alpha:
        return _mixed(batch, key, _blend(mixup_alpha))
    blend, paste = _blend(mixup_alpha), _paste(cutmix_alpha)

    def either(key: jax.Array, height: int, width: int):
        which, key = jax.random.split(key)
        chosen = jax.random.bernoulli(which)
        (share, weight), (part, rest) = blend(key, height, width), paste(key, height, width)
        return jnp.where(chosen, share, part), jnp.where(chosen, weight, rest)

    return _mixed(batch, key, either)


def ten_crop(image_BHWC, size: int | tuple[int, int]):
    """The four corners and the middle of each image, and their mirror images: (B, 10, h, w, C), of
    NumPy or JAX as given.

    A prediction is the mean of theirs (Krizhevsky et al. 2012, section 4.1). Raises ValueError for
    too small an image.
    """
    h, w = (size, size) if isinstance(size, int) else size
    _, height, width, _ = image_BHWC.shape
    if h > height or w > width:
        raise ValueError(f"crops of {h} by {w} from images of {height} by {width}")
    bottom, right = height - h, width - w
    corners = (
        (0, 0),
        (0, right),
        (bottom, 0),
        (bottom, right),
        (round(bottom / 2), round(right / 2)),
    )
    crops = [image_BHWC[:, top : top + h, left : left + w] for top, left in corners]
    stack = np.stack if isinstance(image_BHWC, np.ndarray) else jnp.stack
    return stack(crops + [crop[:, :, ::-1] for crop in crops], 1)


def _blend(alpha: float) -> Draw:
    def draw(key: jax.Array, height: int, width: int):
        share = jax.random.beta(key, alpha, alpha)
        return jnp.full((height, width), share), share

    return draw


def _paste(alpha: float) -> Draw:
    def draw(key: jax.Array, height: int, width: int):
        for_share, for_center = jax.random.split(key)
        side = jnp.sqrt(
            1 - jax.random.beta(for_share, alpha, alpha)
        )  # of the rectangle, as a share of the image's
        center = jax.random.uniform(for_center, (2,))
        vertical, horizontal = _inside(height, center[0], side), _inside(width, center[1], side)
        own = 1 - vertical[:, None] * horizontal[None, :]
        return own, own.mean()

    return draw


def _keep(key: jax.Array, height: int, width: int):
    return jnp.ones((height, width)), jnp.float32(1)


def _inside(length: int, center: jax.Array, share: jax.Array) -> jax.Array:
    """1 for places of 0 … length - 1 within half of `share` of a center, else 0; (length,)."""
    half, middle = (
        jnp.floor(length * share).astype(int) // 2,
        jnp.floor(length * center).astype(int),
    )
    places = jnp.arange(length)
    return ((places >= middle - half) & (places < middle + half)).astype(jnp.float32)


def _mixed(batch: Mapping[str, Any], key: jax.Array, draw: Draw) -> dict[str, Any]:
    image_BHWC = batch["image"]
    count, height, width, _ = image_BHWC.shape
    if count % 2:
        raise ValueError(
            f"pairs are mixed and a batch, or a replica's part of it, has {count} images; take an"
            " even number"
        )
    if not jnp.issubdtype(image_BHWC.dtype, jnp.floating):
        raise ValueError(f"images of {image_BHWC.dtype} cannot be mixed; put to_float before")
    own_PHW, share_P = replica.sample(lambda key: draw(key, height, width), key, count // 2)
    own_BHWC = _both(own_PHW)[..., None].astype(image_BHWC.dtype)
    image_BHWC = own_BHWC * image_BHWC + (1 - own_BHWC) * _partners(image_BHWC)
    return {
        **batch,
        "image": image_BHWC,
        "other": _partners(batch["label"]),
        "weight": _both(share_P),
    }


def _both(x_P: jax.Array) -> jax.Array:
    """A pair's value for each of the two, (2P, …)."""
    return jnp.repeat(x_P, 2, axis=0)


def _partners(x_B: jax.Array) -> jax.Array:
    """Every example's partner: 2i and 2i + 1 change places."""
    pairs = jnp.reshape(x_B, (-1, 2, *x_B.shape[1:]))
    return jnp.reshape(pairs[:, ::-1], x_B.shape)


def _positive(alpha: float) -> float:
    if alpha <= 0:
        raise ValueError(f"alpha is {alpha}; expected more than 0")
    return alpha

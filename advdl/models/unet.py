"""U-Net: Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597). Axes: B batch, H height, W width, C
channels, K classes."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import BatchNorm, Conv, ConvTranspose, Dropout, max_pool, remat, resize_bilinear, tap
from advdl.nn.elementwise import relu
from advdl.nn.pixels import UNIT, Pixels

HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""Section 3."""


class UNet(nn.Module):
    """(B, H, W, C) -> logits (B, H', W', K) and the intermediates by name, in `dtype`.

    Levels of two 3×3 convolutions; down by 2×2 max pooling with twice the features, up by 2×2
    transposed convolution, the level's own maps beside it, their middle where they are larger
    (figure 1).

    same: convolutions keep the size, so H' = H and any size works (what pooling drops, the skip
      brings back). Without, they are valid as in the paper: 572 -> 388, and sizes must come out
      even at each pooling, or ValueError is raised.
    mirror: valid convolutions of the image reflected at its border, to a size that comes out even
      and whose result covers the image, so that H' = H and any size from 2 on works (figure 2; with
      `overlap_tile` a part at a time).
    features: of level 1; width: factor on all.
    norm: normalization after each convolution, None in the paper. resize: resize and 3×3
      convolution in place of the transposed one. dropout: "at the end of the contracting path"
      (section 3.1), which in the authors' release is after the last level on the way down, before
      its pooling and its skip, and at the bottom, both at 0.5. The release also has a rectifier
      after each transposed convolution, which the paper does not mention and this network does not
      have.
    Intermediates: down1 … and up… by level, bottom.
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 2
    features: int = 64
    width: float = 1.0
    levels: int = 4
    same: bool = False
    mirror: bool = False
    resize: bool = False
    dropout: float = 0.0
    norm: Callable[..., nn.Module] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        conv = partial(Conv, kernel_size=3, padding=int(self.same), kernel_init=HE, **dtypes)

        def twice(x, features, name):
            def layers(module, x):
                for number in (1, 2):
                    x = conv(features, name=f"{name}_conv{number}")(x)
                    x = relu(
                        x
                        if self.norm is None
                        else self.norm(name=f"{name}_norm{number}", **dtypes)(x, train)
                    )
                return x

            return remat.block(layers)(self, x)

        height, width = x_BHWC.shape[1:3]
        if self.mirror:
            sides = [covering_side(n, self.levels) for n in (height, width)]
            x_BHWC = _reflected(x_BHWC, sides, margin(self.levels))
        seen, x, features = {}, x_BHWC, round(self.width * self.features)
        for level in range(1, self.levels + 1):
            x = twice(x, features << (level - 1), f"down{level}")
            x = Dropout(self.dropout)(x, train) if level == self.levels else x
            x = seen[f"down{level}"] = tap(self, f"down{level}", x)
            if not self.same and (x.shape[1] % 2 or x.shape[2] % 2):
                raise ValueError(
                    f"level {level} has maps of {x.shape[1]} by {x.shape[2]}; both must be even, or"
                    " same=True"
                )
            x = max_pool(x, 2, 2, ceil=self.same)
        x = seen["bottom"] = Dropout(self.dropout)(
            twice(x, features << self.levels, "bottom"), train
        )
        for level in range(self.levels, 0, -1):
            skip, count = seen[f"down{level}"], features << (level - 1)
            if self.resize:
                x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
                x = Conv(count, 3, padding=1, kernel_init=HE, name=f"up{level}", **dtypes)(x)
            else:
                x = ConvTranspose(count, 2, strides=2, kernel_init=HE, name=f"up{level}", **dtypes)(
                    x
                )
            x = jnp.concatenate([*_middles(skip, x)], -1)
            x = seen[f"up{level}"] = twice(x, count, f"up{level}")
        x = x[:, :height, :width] if self.mirror else x
        return Conv(self.num_classes, 1, kernel_init=HE, name="score", **dtypes)(x), seen


def _middles(a, b):
    """The middle of each, of the smaller one's size."""
    size = tuple(map(min, a.shape[1:3], b.shape[1:3]))
    for x in (a, b):
        top, left = ((n - m) // 2 for n, m in zip(x.shape[1:3], size, strict=True))
        yield x[:, top : top + size[0], left : left + size[1]]


def margin(levels: int = 4) -> int:
    """How many pixels valid convolutions take away on each side: 92."""
    side = covering_side(1, levels)
    return (side - (result_side(side, levels) or 0)) // 2


def result_side(side: int, levels: int = 4) -> int | None:
    """Side of what valid convolutions make of an image of this side, 572 -> 388; None where it does
    not come out even."""
    for _ in range(levels):
        side -= 4
        if side < 2 or side % 2:
            return None
        side //= 2
    side -= 4
    for _ in range(levels):
        side = 2 * side - 4
    return side if side > 0 else None


def covering_side(side: int, levels: int = 4) -> int:
    """The smallest side that comes out even and whose result covers `side`."""
    return next(n for n in itertools.count(side) if (result_side(n, levels) or 0) >= side)


def smallest_tile(levels: int = 4) -> int:
    """The smallest side that comes out even and whose result has room for a step of 2^levels:
    204."""
    return covering_side(1 << levels, levels)


def is_tiled(network: nn.Module) -> bool:
    """Whether `overlap_tile` is for this network without its `mirror`."""
    return isinstance(network, UNet) and network.mirror


def overlap_tile(
    predict: Callable[[jax.Array], jax.Array], x_BHWC: jax.Array, side: int, levels: int = 4
) -> jax.Array:
    """(B, H, W, K) of a whole image of any size, by tiles that overlap in what they see and not in
    what they say, the image reflected at its border (figure 2): the same as of the reflected image
    in one.

    predict: (B, n, n, C) -> (B, n', n', K) of valid convolutions without `mirror`, pixel by pixel
    behind them. side: at most n. Tiles stand a multiple of 2^levels apart, so that pooling falls on
    the same pixels in each. Raises ValueError where `side` is less than `smallest_tile`.
    """
    if side < smallest_tile(levels):
        raise ValueError(f"tiles are {side} pixels a side; they need {smallest_tile(levels)}")
    side, result = next(
        (n, result) for n in range(side, 0, -1) if (result := result_side(n, levels))
    )
    step = result >> levels << levels
    height, width = x_BHWC.shape[1:3]
    rows, columns = -(-height // step), -(-width // step)
    x = _reflected(x_BHWC, [side + (count - 1) * step for count in (rows, columns)], margin(levels))
    found = [
        [
            predict(x[:, i * step : i * step + side, j * step : j * step + side])[:, :step, :step]
            for j in range(columns)
        ]
        for i in range(rows)
    ]
    return jnp.concatenate([jnp.concatenate(row, 2) for row in found], 1)[:, :height, :width]


def _reflected(x_BHWC, sides, before):
    """The image reflected at its border to these sides, by `before` pixels before it."""
    edges = [(before, side - before - n) for side, n in zip(sides, x_BHWC.shape[1:3], strict=True)]
    return jnp.pad(x_BHWC, ((0, 0), *edges, (0, 0)), mode="reflect")


unet = UNet
unet_same = partial(UNet, same=True, norm=BatchNorm)
unet_valid = partial(UNet, mirror=True, dropout=0.5)
unet_padded = partial(UNet, same=True, dropout=0.5)
"""The layers of the paper (figure 1) with padded convolutions, which the paper does not have, and
the parameters of `unet_valid`. An update on small images costs a tenth: there is no border of 92
pixels."""


VARIANTS: Mapping[str, Variant] = {
    "unet": Variant(
        unet_same, "Ronneberger 2015, Ioffe 2015", (572, 572, 1), 31_042_434, 241_207_323_648
    ),
    "unet_valid": Variant(
        unet_valid, "Ronneberger 2015", (388, 388, 1), 31_030_658, 150_428_424_448
    ),
    "unet_padded": Variant(
        unet_padded, "Ronneberger 2015", (572, 572, 1), 31_030_658, 241_207_323_648
    ),
}

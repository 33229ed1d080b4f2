"""U-Net: Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597). Axes: B batch, H height, W width, C channels, K classes."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn import BatchNorm, Conv, ConvTranspose, Dropout, max_pool, remat, resize_bilinear, tap
from advdl.nn.elementwise import relu
from advdl.nn.pixels import UNIT, Pixels

HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""Section 3."""


class UNet(nn.Module):
    """(B, H, W, C) -> logits (B, H', W', K) and the intermediates by name, in `dtype`.

    Levels of two 3×3 convolutions; down by 2×2 max pooling with twice the features, up by 2×2 transposed convolution, the
    level's own maps beside it, their middle where they are larger (figure 1).

    same: convolutions keep the size, so H' = H and any size works (what pooling drops, the skip brings back). Without, they
      are valid as in the paper: 572 -> 388, and sizes must come out even at each pooling, or ValueError is raised.
    features: of level 1; width: factor on all.
    norm: normalization after each convolution, None in the paper. resize: resize and 3×3 convolution in place of the
      transposed one. dropout: at the bottom (section 3.1).
    Intermediates: down1 … and up… by level, bottom.
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 2
    features: int = 64
    width: float = 1.0
    levels: int = 4
    same: bool = False
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
                    x = relu(x if self.norm is None else self.norm(name=f"{name}_norm{number}", **dtypes)(x, train))
                return x

            return remat.block(layers)(self, x)

        seen, x, features = {}, x_BHWC, round(self.width * self.features)
        for level in range(1, self.levels + 1):
            x = seen[f"down{level}"] = tap(self, f"down{level}", twice(x, features << (level - 1), f"down{level}"))
            if not self.same and (x.shape[1] % 2 or x.shape[2] % 2):
                raise ValueError(f"level {level} has maps of {x.shape[1]} by {x.shape[2]}; both must be even, or same=True")
            x = max_pool(x, 2, 2, ceil=self.same)
        x = seen["bottom"] = Dropout(self.dropout)(twice(x, features << self.levels, "bottom"), train)
        for level in range(self.levels, 0, -1):
            skip, count = seen[f"down{level}"], features << (level - 1)
            if self.resize:
                x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
                x = Conv(count, 3, padding=1, kernel_init=HE, name=f"up{level}", **dtypes)(x)
            else:
                x = ConvTranspose(count, 2, strides=2, kernel_init=HE, name=f"up{level}", **dtypes)(x)
            x = jnp.concatenate([*_middles(skip, x)], -1)
            x = seen[f"up{level}"] = twice(x, count, f"up{level}")
        return Conv(self.num_classes, 1, kernel_init=HE, name="score", **dtypes)(x), seen


def _middles(a, b):
    """The middle of each, of the smaller one's size."""
    size = tuple(map(min, a.shape[1:3], b.shape[1:3]))
    for x in (a, b):
        top, left = ((n - m) // 2 for n, m in zip(x.shape[1:3], size, strict=True))
        yield x[:, top : top + size[0], left : left + size[1]]


unet = UNet
unet_same = partial(UNet, same=True, norm=BatchNorm)

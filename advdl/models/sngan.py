"""The residual GAN of Miyato et al. 2018, *Spectral Normalization for GANs* (arXiv:1802.05957),
appendix B: table 4 (CIFAR-10, 32×32 pixels) and table 6 (ImageNet, 128×128), in the details that a
table leaves open as in the released code (github.com/pfnet-research/sngan_projection).

Axes: B batch, Z noise, H height, W width, C channels. Pixels lie in [-1, 1]. The discriminator is
without batch normalization; it is `nn.spectral` layers that make it the paper's. Kernels start as
Glorot and Bengio's, those within residual branches times √2.

Other sizes have the widths of the nearer of the two tables: up to three halvings those of table 4,
from four on those of table 6. So 48×48 pixels get the network of table 4 on a larger map, not that
of table 5 (STL-10), whose generator goes from 512 to 64 channels and whose discriminator halves
four times.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import BatchNorm, ConditionalBatchNorm, Conv, avg_pool, spectral

GLOROT = nn.initializers.glorot_uniform()
BRANCH = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


def halvings(height: int, width: int) -> int:
    """How often to halve, until the shorter side is 4 to 7: 8 -> 1, 28 -> 2, 32 -> 3, 128 -> 5.

    Raises ValueError for a size that does not halve so often, or not at all.
    """
    levels = 0
    while min(height, width) >> levels >= 8:
        levels += 1
    if not levels or height % 2**levels or width % 2**levels:
        raise ValueError(
            f"images of {height}×{width} do not halve to a side of 4 to 7; take 8, 28, 32, 48, 64"
            " or 128 pixels"
        )
    return levels


def generator_widths(height: int, width: int, channels: int) -> tuple[int, ...]:
    """Channels of each block: 256 in each for 32×32 (table 4), and from 1024 down to 64 for 128×128
    (table 6), with `channels` 64."""
    levels = halvings(height, width)
    return (
        (4 * channels,) * levels
        if levels <= 3
        else tuple(channels << level for level in reversed(range(levels)))
    )


def discriminator_widths(height: int, width: int, channels: int) -> tuple[int, ...]:
    """Channels of each block, the last one, or two up to 32×32, without halving: 128 in all four
    for 32×32 (table 4), and from 64 up to 1024 twice for 128×128 (table 6), with `channels` 64."""
    levels = halvings(height, width)
    if levels <= 3:
        return (2 * channels,) * (min(levels, 2) + 2)
    return (*(channels << level for level in range(levels)), channels << (levels - 1))


class Generator(nn.Module):
    """Noise (B, Z), and with `classes` labels (B,) -> images (B, H, W, C) in (-1, 1).

    A dense layer, then a block for each doubling, each with nearest-neighbor upsampling in both of
    its branches. With `classes` the normalizations within the blocks are conditional, a scale and a
    bias for each class (Miyato and Koyama 2018, arXiv:1802.05637); the last one is not, as in the
    released code. shape: (H, W, C). width: the `channels` of `generator_widths`. norm: called as
    `BatchNorm` is; without `classes` for every normalization, with them for the last.
    """

    shape: tuple[int, int, int]
    width: int = 64
    classes: int = 0
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z_BZ: jax.Array, train: bool, label_B: jax.Array | None = None) -> jax.Array:
        height, width, channels = self.shape
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        conv, norm = (
            partial(Conv, kernel_size=3, padding=1, kernel_init=BRANCH, **dtypes),
            partial(self.norm, **dtypes),
        )
        widths = generator_widths(height, width, self.width)

        def inner(name, x):
            """A normalization within a block."""
            if not self.classes:
                return norm(name=name)(x, train)
            return ConditionalBatchNorm(self.classes, name=name, **dtypes)(x, train, label_B)

        base = (height >> len(widths), width >> len(widths), widths[0])
        x = nn.Dense(base[0] * base[1] * base[2], kernel_init=GLOROT, name="project", **dtypes)(
            z_BZ
        ).reshape(-1, *base)
        for number, features in enumerate(widths, 1):
            y = double(nn.relu(inner(f"block{number}_norm1", x)))
            y = conv(features, name=f"block{number}_conv1")(y)
            y = conv(features, name=f"block{number}_conv2")(
                nn.relu(inner(f"block{number}_norm2", y))
            )
            x = (
                Conv(features, 1, kernel_init=GLOROT, name=f"block{number}_shortcut", **dtypes)(
                    double(x)
                )
                + y
            )
        x = nn.relu(norm(name="norm")(x, train))
        return jnp.tanh(Conv(channels, 3, padding=1, kernel_init=GLOROT, name="image", **dtypes)(x))


def double(x_BHWC: jax.Array) -> jax.Array:
    """Every pixel four times."""
    return x_BHWC.repeat(2, axis=1).repeat(2, axis=2)


class Discriminator(nn.Module):
    """Images (B, H, W, C), and with `classes` labels (B,) -> (logit of "real" (B,), {"block1": (B,
    H/2, W/2, C1), …}).

    Blocks halve by average pooling in both branches; the first has no rectifier before it, and its
    first convolution has the block's output channels, that of the others their input's. Features
    are added up over places. The dense layer to the logit has no bias up to 32×32 and one above, as
    in the released code. With `classes` the product of the features with the label's embedding is
    added to the logit (Miyato and Koyama 2018, arXiv:1802.05637, equation 3). width: the `channels`
    of `discriminator_widths`. conv, dense: called as `Conv` and `nn.Dense` are.
    """

    width: int = 64
    classes: int = 0
    conv: Callable[..., nn.Module] = Conv
    dense: Callable[..., nn.Module] = nn.Dense
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool, label_B: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        conv = partial(self.conv, kernel_size=3, padding=1, kernel_init=BRANCH, **dtypes)
        shortcut = partial(self.conv, kernel_size=1, kernel_init=GLOROT, **dtypes)
        _, height, width, _ = x_BHWC.shape
        widths: Sequence[int] = discriminator_widths(height, width, self.width)
        small = halvings(height, width) <= 3
        plain = 2 if small else 1

        def half(x):
            return avg_pool(x, 2, 2)

        x, seen = x_BHWC, {}
        for number, features in enumerate(widths, 1):
            halve = number <= len(widths) - plain
            hidden, given = (features, x) if number == 1 else (x.shape[-1], nn.relu(x))
            y = conv(hidden, name=f"block{number}_conv1")(given)
            y = conv(features, name=f"block{number}_conv2")(nn.relu(y))
            if number == 1:  # pooled first: the same, for less
                x = shortcut(features, name=f"block{number}_shortcut")(half(x) if halve else x)
            elif halve or x.shape[-1] != features:
                x = shortcut(features, name=f"block{number}_shortcut")(x)
                x = half(x) if halve else x
            x = seen[f"block{number}"] = x + (half(y) if halve else y)
        total_BC = nn.relu(x).sum((1, 2))
        logit = self.dense(1, use_bias=not small, kernel_init=GLOROT, name="logit", **dtypes)(
            total_BC
        )[:, 0]
        if self.classes:
            one_BK = jax.nn.one_hot(label_B, self.classes, dtype=total_BC.dtype)
            embedded = self.dense(
                total_BC.shape[-1], use_bias=False, kernel_init=GLOROT, name="embedding", **dtypes
            )(one_BK)
            logit = logit + (embedded * total_BC).sum(-1)
        return logit, seen


_CRITIC = partial(Discriminator, conv=spectral(Conv), dense=spectral(nn.Dense))
VARIANTS: Mapping[str, Variant] = {
    "sngan32_generator": Variant(
        partial(Generator, (32, 32, 3)),
        "Miyato 2018",
        (128,),
        4_276_739,
        1_681_129_472,
        "FID 16.77 on CIFAR-10 (mimicry)",
    ),
    "sngan32_discriminator": Variant(_CRITIC, "Miyato 2018", (32, 32, 3), 1_053_824, 275_231_745),
    "sngan128_generator": Variant(
        partial(Generator, (128, 128, 3)), "Miyato 2018", (128,), 32_150_787, 9_090_105_344
    ),
    "sngan128_discriminator": Variant(
        _CRITIC, "Miyato 2018", (128, 128, 3), 29_017_857, 2_968_265_217
    ),
}

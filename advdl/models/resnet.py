"""The CIFAR residual networks of He et al. 2015 (arXiv:1512.03385, section 4.2), and plain nets as their control.

Axes: B batch, H height, W width, C channels, K classes.

A 3×3 convolution to 16 channels; three stages of n blocks of two 3×3 convolutions with 16, 32 and 64 channels, the
first of stages 2 and 3 with stride 2; global average pooling; a K-way linear layer: 6n + 2 weighted layers. Every
convolution is followed by batch normalization, the rectifier comes after the addition.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn import BatchNorm, Conv, global_average_pool
from advdl.nn.elementwise import add_relu, relu

HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""He et al. 2015 (arXiv:1502.01852, equation 10), the paper's reference 13."""


class Block(nn.Module):
    """Two 3×3 convolutions and the shortcut around them (paper, figure 2; `shortcut=None`: nothing around them).

    Shortcuts where the shape changes: "A" takes every stride-th pixel and zeros for the new channels, without
    parameters; "B" is a 1×1 convolution and batch normalization.
    """

    features: int
    strides: int = 1
    shortcut: Literal["A", "B"] | None = "A"
    zeros: Literal["appended", "symmetric"] = "appended"
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        y = self.conv(self.features, 3, strides=self.strides, padding=1, name="conv1")(x_BHWC)
        y = relu(self.norm(name="norm1")(y, train))
        y = self.conv(self.features, 3, padding=1, name="conv2")(y)
        y = self.norm(name="norm2")(y, train)
        if self.shortcut is None:
            return relu(y)
        return add_relu(y, self._around(x_BHWC, train))

    def _around(self, x, train):
        new = self.features - x.shape[-1]
        if new == 0 and self.strides == 1:
            return x
        if self.shortcut == "B":
            x = self.conv(self.features, 1, strides=self.strides, name="conv_shortcut")(x)
            return self.norm(name="norm_shortcut")(x, train)
        before = {"appended": 0, "symmetric": new // 2}[self.zeros]
        return jnp.pad(x[:, :: self.strides, :: self.strides], ((0, 0), (0, 0), (0, 0), (before, new - before)))


class CifarResNet(nn.Module):
    """(B, H, W, C) of any size and channels -> logits (B, K) and the intermediates by name, in `dtype`.

    depth: 6n + 2, n ≥ 1; another raises ValueError. width: channels of stage 1, the paper's 16.
    shortcut: "A", "B" (see `Block`), or None for the plain net.
    zeros: where "A" puts its zeros: "appended" (fb.resnet.torch) or "symmetric", half before and half after
      (pytorch_resnet_cifar10). Weights trained with one are wrong in the other.
    conv, norm: called as `Conv(features, kernel_size, …)` and `BatchNorm()`; they get this network's dtypes.
    Intermediates: stem and stage1 to stage3 (B, H', W', C'), pooled (B, 4·width).
    """

    depth: int = 20
    num_classes: int = 10
    shortcut: Literal["A", "B"] | None = "A"
    zeros: Literal["appended", "symmetric"] = "appended"
    width: int = 16
    dtype: Any = None
    param_dtype: Any = jnp.float32
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        n, rest = divmod(self.depth - 2, 6)
        if rest or n < 1:
            raise ValueError(f"depth {self.depth}; expected 6n + 2 with n at least 1: 8, 14, 20, 32, 44, 56, 110, …")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        conv = partial(self.conv, use_bias=False, kernel_init=HE, **dtypes)
        norm = partial(self.norm, **dtypes)
        block = partial(Block, shortcut=self.shortcut, zeros=self.zeros, conv=conv, norm=norm)
        x = conv(self.width, 3, padding=1, name="conv")(x_BHWC)
        x = relu(norm(name="norm")(x, train))
        seen = {"stem": x}
        for stage in (1, 2, 3):
            for number in range(1, n + 1):
                strides = 2 if stage > 1 and number == 1 else 1
                x = block(self.width * 2 ** (stage - 1), strides, name=f"stage{stage}_block{number}")(x, train)
            seen[f"stage{stage}"] = x
        seen["pooled"] = global_average_pool(x)
        logits_BK = nn.Dense(self.num_classes, kernel_init=HE, name="classify", **dtypes)(seen["pooled"])
        return logits_BK, seen


class Variant(NamedTuple):
    """A network of the paper with its figures: CIFAR-10, 32×32×3, 10 classes.

    parameters: trainable, with the batch normalizations'. multiply_adds: of convolutions and the linear layer, one
    example.
    error: per cent on the test set, Table 6 (its best run for depth 110); None where the paper has only curves.
    """

    build: Callable[..., CifarResNet]
    parameters: int
    multiply_adds: int
    error: float | None


def _row(
    depth: int, parameters: int, multiply_adds: int, error: float | None, shortcut: Literal["A"] | None = "A"
) -> Variant:
    return Variant(partial(CifarResNet, depth=depth, shortcut=shortcut), parameters, multiply_adds, error)


VARIANTS: Mapping[str, Variant] = {
    "resnet20": _row(20, 269_722, 40_551_040, 8.75),
    "resnet32": _row(32, 464_154, 68_862_592, 7.51),
    "resnet44": _row(44, 658_586, 97_174_144, 7.17),
    "resnet56": _row(56, 853_018, 125_485_696, 6.97),
    "resnet110": _row(110, 1_727_962, 252_887_680, 6.43),
    "plain20": _row(20, 269_722, 40_551_040, None, None),
    "plain32": _row(32, 464_154, 68_862_592, None, None),
    "plain44": _row(44, 658_586, 97_174_144, None, None),
    "plain56": _row(56, 853_018, 125_485_696, None, None),
    "plain110": _row(110, 1_727_962, 252_887_680, None, None),
}

resnet20, resnet32, resnet44, resnet56, resnet110 = (
    VARIANTS[f"resnet{depth}"].build for depth in (20, 32, 44, 56, 110)
)
plain20, plain32, plain44, plain56, plain110 = (VARIANTS[f"plain{depth}"].build for depth in (20, 32, 44, 56, 110))

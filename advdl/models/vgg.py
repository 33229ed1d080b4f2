"""VGG-16: Simonyan and Zisserman 2014, *Very Deep Convolutional Networks for Large-Scale Image
Recognition* (arXiv:1409.1556).

Axes: B batch, H height, W width, C channels, K classes. Configuration D of table 1.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import DENSE, Variant
from advdl.nn import BatchNorm, Conv, Dropout, adaptive_avg_pool, max_pool, remat, tap
from advdl.nn.elementwise import relu
from advdl.nn.pixels import IMAGENET, Pixels

D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Features of each 3×3 convolution; stages end with 2×2 max pooling."""


class Trunk(nn.Module):
    """(B, H, W, C) -> the five pooled stages by name, pool1 (B, H / 2, W / 2, 64) to pool5 (B, H /
    32, W / 32, 512).

    norm: batch normalization after each convolution, None for none. ceil: pooling rounds up
      (Caffe).
    pad_first: padding of conv1_1, 1 in the paper. width: factor on all features. Convolutions have
      biases in both forms.
    """

    norm: Callable[..., nn.Module] | None = None
    ceil: bool = False
    pad_first: int = 1
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> dict[str, jax.Array]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        he = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        conv = partial(Conv, kernel_init=he, **dtypes)

        def convolved(module, x, stage):
            for number, features in enumerate(D[stage - 1], 1):
                padding = self.pad_first if stage == number == 1 else 1
                name, count = f"{stage}_{number}", round(features * self.width)
                x = conv(count, 3, padding=padding, name=f"conv{name}")(x)
                if self.norm is not None:
                    x = self.norm(name=f"norm{name}", **dtypes)(x, train)
                x = relu(x)
            return max_pool(x, 2, 2, ceil=self.ceil)

        seen, x = {}, x_BHWC
        for stage in range(1, len(D) + 1):
            x = remat.block(partial(convolved, stage=stage))(self, x)
            x = seen[f"pool{stage}"] = tap(self, f"pool{stage}", x)
        return seen


class Probed(nn.Module):
    """(B, H, W, C) -> logits (3, B, K), of any size: linear classifiers of the means of pool3,
    pool4 and pool5 each.

    With it `trunk` can learn from small images of single things, before it serves a network for
    dense prediction.
    """

    num_classes: int
    norm: Callable[..., nn.Module] | None = None
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        seen = Trunk(self.norm, ceil=True, width=self.width, name="trunk", **dtypes)(x_BHWC, train)
        means = {stage: seen[f"pool{stage}"].mean((1, 2)) for stage in (3, 4, 5)}
        return jnp.stack(
            [
                nn.Dense(self.num_classes, name=f"probe{stage}", **dtypes)(x)
                for stage, x in means.items()
            ]
        )


def as_convolutions(modules: Mapping[str, Any]) -> dict[str, Any]:
    """VGG's fully connected layers fc6 and fc7, those that are there, as convolutions of 7×7 and
    1×1 (Long et al. 2015, section 3.1)."""
    return {
        name: {
            **layer,
            "kernel": layer["kernel"].reshape(side, side, -1, layer["kernel"].shape[-1]),
        }
        for name, side in (("fc6", 7), ("fc7", 1))
        if (layer := modules.get(name))
    }


def fully_init(width: float) -> Callable[..., jax.Array]:
    """Initializer of fc6, fc7 and what follows: N(0, 0.01²), and in a network whose features are
    `width` times as many N(0, 0.01² / width), so that sums over them stay as large."""
    return nn.initializers.normal(0.01 / width**0.5)


class VGG(nn.Module):
    """(B, H, W, C) -> logits (B, K) and the intermediates by name, in `dtype`. H and W: 224 in the
    paper, any from 32 on.

    An average to 7×7 (the identity for 224, torchvision's way to other sizes), fc6 and fc7 with
    dropout 1/2 after each.
    num_classes: None leaves out everything after pool5, which is then the first result. width:
      factor on all features.
    Intermediates: pool1 to pool5, fc6 and fc7 (B, 4096 · width).
    """

    pixels: ClassVar[Pixels] = IMAGENET
    num_classes: int | None = 1000
    norm: Callable[..., nn.Module] | None = None
    dropout: float = 0.5
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        seen = Trunk(self.norm, width=self.width, name="trunk", **dtypes)(x_BHWC, train)
        x = seen["pool5"]
        if self.num_classes is None:
            return x, seen
        if x.shape[1:3] != (7, 7):
            x = adaptive_avg_pool(x, 7)
        x, normal = x.reshape(len(x), -1), fully_init(self.width)
        for name in ("fc6", "fc7"):
            fully = nn.Dense(round(4096 * self.width), kernel_init=normal, name=name, **dtypes)
            x = seen[name] = relu(fully(x))
            x = Dropout(self.dropout)(x, train)
        return nn.Dense(self.num_classes, kernel_init=normal, name="fc8", **dtypes)(x), seen


VARIANTS: Mapping[str, Variant] = {
    "vgg16": Variant(
        VGG,
        "Simonyan 2014",
        (224, 224, 3),
        138_357_544,
        15_470_264_320,
        "28.408 % top-1 error on ImageNet (torchvision)",
        DENSE,
        weights=("torchvision", "timm"),
    ),
    "vgg16_bn": Variant(
        partial(VGG, norm=BatchNorm),
        "Simonyan 2014, Ioffe 2015",
        (224, 224, 3),
        138_365_992,
        15_470_264_320,
        "26.640 % top-1 error on ImageNet (torchvision)",
        DENSE,
        weights=("torchvision", "timm"),
    ),
}

"""GoogLeNet: Szegedy et al. 2014, *Going Deeper with Convolutions* (arXiv:1409.4842).

Axes: B batch, H height, W width, C channels, K classes.

Nine Inception blocks by table 1; each joins 1×1, 3×3 and 5×5 convolutions and a pooled projection,
with 1×1 reductions before the large ones (figure 2b). Two auxiliary classifiers, on 4a and 4d, are
trained with weight 0.3 and thrown away at evaluation (section 5). Biases and no normalization but
local response normalization, with Caffe's constants (k = 1, α = 1e-4 over 5 channels' mean), since
the paper gives none; max pooling rounds up, and so 112 becomes 56, 28, 14 and 7.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import (
    BatchNorm,
    Conv,
    Dropout,
    adaptive_avg_pool,
    avg_pool,
    global_average_pool,
    local_response_norm,
    max_pool,
    remat,
    tap,
)
from advdl.nn.elementwise import relu
from advdl.nn.pixels import CENTERED, UNIT, Pixels

BLOCKS: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Table 1: features of 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection."""

XAVIER = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
"""Caffe's "xavier": by the inputs alone, where Glorot and Bengio average inputs and outputs."""

LIFTED = nn.initializers.constant(0.2)

AUXILIARY_WEIGHT = 0.3
"""Of each auxiliary classifier's loss (section 5)."""


class Unit(nn.Module):
    """Convolution and rectifier, with bias; or, where `norm` is given, without bias and with
    normalization between."""

    features: int
    kernel_size: int
    strides: int = 1
    padding: int = 0
    norm: Callable[..., nn.Module] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            self.padding,
            use_bias=self.norm is None,
            kernel_init=XAVIER,
            bias_init=LIFTED,
            name="conv",
            **dtypes,
        )(x_BHWC)
        return relu(y if self.norm is None else self.norm(name="norm", **dtypes)(y, train))


class Inception(nn.Module):
    """One block (figure 2b): (B, H, W, C) -> (B, H, W, sum of the four branches).

    features: a row of `BLOCKS`. large: side of the kernel called 5×5. unit: called as `Unit`.
    """

    features: tuple[int, int, int, int, int, int]
    large: int = 5
    unit: Callable[..., nn.Module] = Unit

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        one, reduce3, three, reduce5, five, project = self.features
        branch1 = self.unit(one, 1, name="branch1")(x_BHWC, train)
        y = self.unit(reduce3, 1, name="branch2_reduce")(x_BHWC, train)
        branch2 = self.unit(three, 3, padding=1, name="branch2")(y, train)
        y = self.unit(reduce5, 1, name="branch3_reduce")(x_BHWC, train)
        branch3 = self.unit(five, self.large, padding=self.large // 2, name="branch3")(y, train)
        branch4 = self.unit(project, 1, name="branch4")(max_pool(x_BHWC, 3, 1, padding=1), train)
        return jnp.concatenate([branch1, branch2, branch3, branch4], -1)


class Auxiliary(nn.Module):
    """Classifier on an intermediate (section 5): average pooling, 1×1 to 128, fc 1024, dropout:
    logits (B, K).

    pool: "5x5/3", the paper's, or "4x4", torchvision's adaptive one, which is another at every
      size.
    """

    num_classes: int
    pool: Literal["5x5/3", "4x4"] = "5x5/3"
    dropout: float = 0.7
    unit: Callable[..., nn.Module] = Unit
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = avg_pool(x_BHWC, 5, 3) if self.pool == "5x5/3" else adaptive_avg_pool(x_BHWC, 4)
        y = self.unit(128, 1, name="conv")(y, train)
        y = relu(
            nn.Dense(1024, kernel_init=XAVIER, bias_init=LIFTED, name="fc1", **dtypes)(
                y.reshape(len(y), -1)
            )
        )
        return nn.Dense(self.num_classes, kernel_init=XAVIER, name="fc2", **dtypes)(
            Dropout(self.dropout)(y, train)
        )


class GoogLeNet(nn.Module):
    """(B, H, W, C) -> logits (B, K) and the intermediates by name, in `dtype`. H and W: 224 in the
    paper, another size gives other auxiliary classifiers; they need 97 pixels at least.

    Intermediates: stem, 3a … 5b (B, H', W', C'), pooled (B, 1024); and, if `train`, aux1 and aux2,
    the logits of the auxiliary classifiers.

    num_classes: None leaves out all classifiers, and the first result is the maps of 5b.
    auxiliary: whether there are auxiliary classifiers. norm: batch normalization instead of biases
    and response normalization. large, pool4, auxiliary_pool: the side of the 5×5 kernels, of the
    pooling window after 4e, and the auxiliary classifiers' pooling, in which torchvision differs.
    dropout, auxiliary_dropout: before the classifiers.
    """

    num_classes: int | None = 1000
    auxiliary: bool = True
    norm: Callable[..., nn.Module] | None = None
    large: int = 5
    pool4: int = 3
    auxiliary_pool: Literal["5x5/3", "4x4"] = "5x5/3"
    dropout: float = 0.4
    auxiliary_dropout: float = 0.7
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def pixels(self) -> Pixels:
        """Caffe's; torchvision's weights, of the form with normalization, come from a network that
        saw [-1, 1]."""
        return CENTERED if self.norm is None else UNIT

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        unit = partial(Unit, norm=self.norm, **dtypes)
        auxiliary = partial(
            Auxiliary, self.num_classes, self.auxiliary_pool, self.auxiliary_dropout, unit, **dtypes
        )
        run = remat.block(lambda block, x: block(x, train))
        heads = self.auxiliary and self.num_classes is not None
        respond = (
            (lambda x: x)
            if self.norm is not None
            else partial(local_response_norm, k=1.0, convention="mean")
        )
        x = unit(64, 7, 2, 3, name="conv1")(x_BHWC, train)
        x = respond(max_pool(x, 3, 2, ceil=True))
        x = unit(64, 1, name="conv2_reduce")(x, train)
        x = respond(unit(192, 3, padding=1, name="conv2")(x, train))
        x = tap(self, "stem", x)
        seen = {"stem": x}
        x = max_pool(x, 3, 2, ceil=True)
        for name, features in BLOCKS.items():
            x = run(Inception(features, self.large, unit, name=f"inception{name}"), x)
            x = seen[name] = tap(self, name, x)
            if name in ("4a", "4d") and heads and (train or self.is_initializing()):
                number = 1 if name == "4a" else 2
                seen[f"aux{number}"] = auxiliary(name=f"aux{number}")(x, train)
            if name == "3b":
                x = max_pool(x, 3, 2, ceil=True)
            elif name == "4e":
                x = max_pool(x, self.pool4, 2, ceil=True)
        if self.num_classes is None:
            return x, seen
        seen["pooled"] = global_average_pool(x)
        x_BC = Dropout(self.dropout)(seen["pooled"], train)
        return nn.Dense(self.num_classes, kernel_init=XAVIER, name="classify", **dtypes)(x_BC), seen


_NORM = partial(BatchNorm, epsilon=1e-3)
VARIANTS: Mapping[str, Variant] = {
    "googlenet": Variant(
        GoogLeNet,
        "Szegedy 2014",
        (224, 224, 3),
        13_378_280,
        1_582_671_872,
        "6.67 % top-5 error on ImageNet (abstract; seven networks, 144 crops)",
    ),
    "googlenet_without_aux": Variant(
        partial(GoogLeNet, auxiliary=False), "Szegedy 2014", (224, 224, 3), 6_998_552, 1_582_671_872
    ),
    "googlenet_bn": Variant(
        partial(GoogLeNet, norm=_NORM),
        "Szegedy 2014, Ioffe 2015",
        (224, 224, 3),
        13_385_816,
        1_582_671_872,
    ),
    "googlenet_torchvision": Variant(
        partial(GoogLeNet, norm=_NORM, large=3, pool4=2, auxiliary_pool="4x4", dropout=0.2),
        "Szegedy 2014, Ioffe 2015",
        (224, 224, 3),
        13_004_888,
        1_498_376_192,
        "30.222 % top-1 error on ImageNet (torchvision)",
        weights=("torchvision",),
    ),
}

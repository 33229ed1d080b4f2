"""Residual networks: He et al. 2015 (arXiv:1512.03385), plain nets as their control, pre-activation
(arXiv:1603.05027).

Axes: B batch, H height, W width, C channels, K classes.

One network, `ResNet`, for ImageNet (section 4.1, table 1: 7×7 stem, four stages) and CIFAR (section
4.2: 3×3 stem, three stages of n blocks, 6n + 2 weighted layers, `cifar(depth)`). Every convolution
is followed by batch normalization, the rectifier comes after the addition; in the pre-activation
form both come before the convolution.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.errors import UserError
from advdl.models.variant import Variant
from advdl.nn import BatchNorm, Conv, global_average_pool, max_pool, remat, replica, tap
from advdl.nn.elementwise import add_relu, relu
from advdl.nn.pixels import IMAGENET, Pixels
from advdl.ranges import Range, whole_number

HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""He et al. 2015 (arXiv:1502.01852, equation 10), the paper's reference 13."""

Shortcut = Literal["A", "B", "C"] | None


class _Residual(nn.Module):
    """What the blocks share: the fields, and the shortcut (section 3.3 and 4.1).

    features: of the first convolution. strides: where the image becomes smaller. dilation: of the
      3×3 convolutions.
    shortcut: "A" takes every stride-th pixel and zeros for new channels, without parameters; "B" is
      a 1×1 convolution and batch normalization where the shape changes, "C" everywhere; None is
      nothing around the block, a plain net.
    zeros: where "A" puts its zeros, see `ResNet`. stride_on: convolution of a `Bottleneck` that has
      the stride.
    first: the network's first unit, whose shortcut starts after the first rectifier if it is of the
      pre-activation form.
    """

    features: int
    strides: int = 1
    dilation: int = 1
    shortcut: Shortcut = "A"
    zeros: Literal["appended", "symmetric"] = "appended"
    stride_on: Literal["1x1", "3x3"] = "1x1"
    first: bool = False
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm

    expansion = 1
    preactivation = False

    def _spatial(self, name, strides=1):
        spread: dict[str, Any] = dict(padding=self.dilation, dilation=self.dilation)
        return self.conv(self.features, 3, strides=strides, name=name, **spread)

    def _around(self, x, train):
        features = self.features * self.expansion
        new = features - x.shape[-1]
        if self.shortcut != "C" and new == 0 and self.strides == 1:
            return x
        if self.shortcut in ("B", "C"):
            x = self.conv(features, 1, strides=self.strides, name="conv_shortcut")(x)
            return x if self.preactivation else self.norm(name="norm_shortcut")(x, train)
        before = {"appended": 0, "symmetric": new // 2}[self.zeros]
        return jnp.pad(
            x[:, :: self.strides, :: self.strides], ((0, 0), (0, 0), (0, 0), (before, new - before))
        )


class Block(_Residual):
    """Two 3×3 convolutions (paper, figure 5 left): (B, H, W, C) -> (B, H / strides, W / strides,
    features)."""

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        y = self._spatial("conv1", self.strides)(x_BHWC)
        y = relu(self.norm(name="norm1")(y, train))
        y = self._spatial("conv2")(y)
        y = self.norm(name="norm2")(y, train)
        return relu(y) if self.shortcut is None else add_relu(y, self._around(x_BHWC, train))


class Bottleneck(_Residual):
    """1×1, 3×3 and 1×1 to four times the features (paper, figure 5 right)."""

    expansion = 4

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        first, second = (self.strides, 1) if self.stride_on == "1x1" else (1, self.strides)
        y = self.conv(self.features, 1, strides=first, name="conv1")(x_BHWC)
        y = relu(self.norm(name="norm1")(y, train))
        y = self._spatial("conv2", second)(y)
        y = relu(self.norm(name="norm2")(y, train))
        y = self.conv(self.features * 4, 1, name="conv3")(y)
        y = self.norm(name="norm3")(y, train)
        return relu(y) if self.shortcut is None else add_relu(y, self._around(x_BHWC, train))


class PreactBlock(_Residual):
    """`Block` with normalization and rectifier before each convolution (arXiv:1603.05027, figure
    4e).

    Where the shape changes, the shortcut starts after the first rectifier and has no normalization.
    So it starts in the network's first unit, which activates "right after conv1 and before
    splitting into two paths" (appendix).
    """

    preactivation = True

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        y = relu(self.norm(name="norm1")(x_BHWC, train))
        x = self._before(x_BHWC, y, train)
        y = self._spatial("conv1", self.strides)(y)
        y = relu(self.norm(name="norm2")(y, train))
        return x + self._spatial("conv2")(y)

    def _before(self, x, y, train):
        after = self.first or self.strides != 1 or x.shape[-1] != self.features * self.expansion
        return 0 if self.shortcut is None else self._around(y if after else x, train)


class PreactBottleneck(PreactBlock):
    """`Bottleneck` in the form of `PreactBlock`."""

    expansion = 4

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        first, second = (self.strides, 1) if self.stride_on == "1x1" else (1, self.strides)
        y = relu(self.norm(name="norm1")(x_BHWC, train))
        x = self._before(x_BHWC, y, train)
        y = self.conv(self.features, 1, strides=first, name="conv1")(y)
        y = relu(self.norm(name="norm2")(y, train))
        y = self._spatial("conv2", second)(y)
        y = relu(self.norm(name="norm3")(y, train))
        return x + self.conv(self.features * 4, 1, name="conv3")(y)


class ResNet(nn.Module):
    """(B, H, W, C) of any size and channels -> logits (B, K) and the intermediates by name, in
    `dtype`.

    blocks: number of blocks in each stage; stage s has width·2^(s-1) features. block: `Block`,
      `Bottleneck` or their pre-activation forms.
    stem: "imagenet", 7×7 with stride 2 and 3×3 max pooling with stride 2, or "cifar", 3×3.
    shortcut: "A", "B", "C", or None for the plain net (see `Block`).
    zeros: where "A" puts its zeros: "appended" (fb.resnet.torch) or "symmetric", half before and
      half after (pytorch_resnet_cifar10). Weights trained with one are wrong in the other.
    stride_on: the bottleneck's convolution that makes the image smaller: "1x1" is the paper's (v1),
      "3x3" that of torchvision, timm and Goyal et al. 2017 (v1.5).
    output_stride: 8 or 16 keep the last stages' maps at that stride by dilation in place of stride
      (Chen et al. 2016, arXiv:1606.00915, as torchvision's `replace_stride_with_dilation`); 32 is
      the paper's.
    num_classes: None leaves the classifier out, and the first result is the last stage's maps.
    scan: blocks 2… of a stage are one block run in `lax.scan` over stacked parameters, so that
      compile time does not grow with depth; the same numbers, and `stack` and `unstack` convert the
      parameters. Slower to run on CPU.
    conv, norm: called as `Conv(features, kernel_size, …)` and `BatchNorm()`; they get this
      network's dtypes.
    Intermediates: stem, stage1, stage2, … (B, H', W', C'), pooled (B, C').
    """

    pixels: ClassVar[Pixels] = IMAGENET
    blocks: Sequence[int]
    block: Callable[..., nn.Module] = Block
    num_classes: int | None = 1000
    width: int = 64
    stem: Literal["imagenet", "cifar"] = "imagenet"
    shortcut: Shortcut = "B"
    zeros: Literal["appended", "symmetric"] = "appended"
    stride_on: Literal["1x1", "3x3"] = "1x1"
    output_stride: int = 32
    scan: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        conv = partial(self.conv, use_bias=False, kernel_init=HE, **dtypes)
        norm = partial(self.norm, **dtypes)
        block = partial(
            self.block,
            shortcut=self.shortcut,
            zeros=self.zeros,
            stride_on=self.stride_on,
            conv=conv,
            norm=norm,
        )
        run = remat.block(lambda block, x: block(x, train))

        def activate(x, name):
            return relu(norm(name=name)(x, train))

        if self.stem == "imagenet":
            x = conv(self.width, 7, strides=2, padding=3, name="conv")(x_BHWC)
        else:
            x = conv(self.width, 3, padding=1, name="conv")(x_BHWC)
        if not self.block.preactivation:
            x = activate(x, "norm")
        x = tap(self, "stem", x)
        seen = {"stem": x}
        if self.stem == "imagenet":
            x = max_pool(x, 3, 2, padding=1)
        for stage, (count, strides, dilations) in enumerate(self._geometry(), 1):
            features = self.width * 2 ** (stage - 1)
            name = f"stage{stage}_block1"
            x = run(block(features, strides, dilations[0], first=stage == 1, name=name), x)
            more = partial(block, features, dilation=dilations[1])
            if self.scan and count > 1:
                x = _scanned(more(name=f"stage{stage}_rest"), x, train, count - 1)
            else:
                for number in range(2, count + 1):
                    x = run(more(name=f"stage{stage}_block{number}"), x)
            x = seen[f"stage{stage}"] = tap(self, f"stage{stage}", x)
        if self.block.preactivation:
            x = activate(x, "norm")
        if self.num_classes is None:
            return x, seen
        seen["pooled"] = global_average_pool(x)
        logits_BK = nn.Dense(self.num_classes, kernel_init=HE, name="classify", **dtypes)(
            seen["pooled"]
        )
        return logits_BK, seen

    def _geometry(self):
        """Of each stage: blocks, stride of the first, dilation of the first and of the others."""
        reached, dilation = 4 if self.stem == "imagenet" else 1, 1
        for stage, count in enumerate(self.blocks, 1):
            strides, before = (1 if stage == 1 else 2), dilation
            if reached * strides > self.output_stride:
                dilation, strides = dilation * strides, 1
            reached *= strides
            yield count, strides, (before, dilation)


def _scanned(block: nn.Module, x: jax.Array, train: bool, count: int) -> jax.Array:
    axes: dict[Any, int] = {"params": 0, "batch_stats": 0}

    def step(block, x, _):
        return (replica.spread(block(x, train)), None)

    run = nn.scan(
        remat.block(step, loop=True), variable_axes=axes, split_rngs={"params": True}, length=count
    )
    return run(block, x, None)[0]


def stack(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a `ResNet` -> those of the same network with `scan=True`: stage1_block2… stacked
    in stage1_rest."""
    stacked: dict[str, Any] = {}
    for collection, modules in variables.items():
        rest: dict[str, list] = {}
        new = stacked[collection] = {}
        for name in sorted(modules, key=lambda name: (len(name), name)):
            stage, _, number = name.partition("_block")
            if number in ("", "1"):
                new[name] = modules[name]
            else:
                rest.setdefault(f"{stage}_rest", []).append(modules[name])
        new |= {
            name: jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
            for name, parts in rest.items()
        }
    return stacked


def unstack(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a `ResNet` with `scan=True` -> those of the same network without."""
    flat: dict[str, Any] = {}
    for collection, modules in variables.items():
        new = flat[collection] = {}
        for name, module in modules.items():
            stage, rest, _ = name.partition("_rest")
            if not rest:
                new[name] = module
                continue
            for i in range(len(jax.tree.leaves(module)[0])):
                new[f"{stage}_block{i + 2}"] = jax.tree.map(lambda leaf, i=i: leaf[i], module)
    return flat


def cifar(depth: int = 20, num_classes: int = 10, **fields: Any) -> ResNet:
    """The CIFAR network of this depth (section 4.2): 6n + 2 with n blocks a stage, 9n + 2 of
    bottlenecks.

    fields: of `ResNet`; the shortcut is "A" unless given. Raises ValueError for another depth.
    """
    block = fields.setdefault("block", Block)
    layers = 9 if block.expansion > 1 else 6
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        depths = ", ".join(str(layers * n + 2) for n in (1, 2, 3, 5, 7, 9, 18))
        raise ValueError(f"depth {depth}; expected {layers}n + 2 with n at least 1: {depths}, …")
    return ResNet(
        (n,) * 3,
        num_classes=num_classes,
        **{"shortcut": "A", "width": 16, "stem": "cifar", **fields},
    )


def parse_depths(text: str, name: str) -> list[int]:
    """`"56,20"` -> [20, 56]. Raises UserError, with the flag's name, for what are not different
    depths of CIFAR networks."""
    depths = [whole_number(word, Range(8, 10_000)) or 0 for word in text.split(",")]
    if any(depth % 6 != 2 for depth in depths) or len(set(depths)) < len(depths):
        raise UserError(f"{name} is {text!r}; expected different numbers 6n + 2, as in 20,56")
    return sorted(depths)


DEEP = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Table 1 of the paper."""


def _imagenet(
    depth: int,
    parameters: int,
    multiply_adds: int,
    error: str,
    source: str,
    paper: str = "He 2015",
    **fields: Any,
) -> Variant:
    """A row with its top-1 error in percent and where it is published, beside the weights or in the
    paper."""
    block = Bottleneck if depth >= 50 else Block
    build = partial(ResNet, DEEP[depth], **{"block": block, **fields})
    figure = f"{error} % top-1 error on ImageNet ({source})" if error else ""
    weights = (source,) if source in ("torchvision", "timm") else ()
    return Variant(build, paper, (224, 224, 3), parameters, multiply_adds, figure, weights=weights)


def _cifar(
    depth: int,
    parameters: int,
    multiply_adds: int,
    error: float | None = None,
    shortcut: Shortcut = "A",
) -> Variant:
    figure = f"{error} % error on CIFAR-10 (table 6)" if error else ""
    build = partial(cifar, depth=depth, shortcut=shortcut, zeros="symmetric")
    weights = ("pytorch_resnet_cifar10",) if shortcut else ()
    return Variant(
        build, "He 2015", (32, 32, 3), parameters, multiply_adds, figure, weights=weights
    )


V1_5: dict[str, Any] = dict(paper="He 2015, Goyal 2017", stride_on="3x3")
"""Stride on the 3×3, as torchvision has it."""

VARIANTS: Mapping[str, Variant] = {
    # ImageNet, single crop, on the validation set; torchvision's errors are of its first weights.
    "resnet18": _imagenet(18, 11_689_512, 1_814_073_344, "30.242", "torchvision"),
    "resnet34": _imagenet(34, 21_797_672, 3_663_761_408, "26.686", "torchvision"),
    "resnet50": _imagenet(50, 25_557_032, 3_857_973_248, "24.7", "authors' release"),
    "resnet101": _imagenet(101, 44_549_160, 7_570_194_432, "23.6", "authors' release"),
    "resnet152": _imagenet(152, 60_192_808, 11_282_415_616, "23.0", "authors' release"),
    "resnet18a": _imagenet(18, 11_515_688, 1_794_805_760, "27.88", "table 2", shortcut="A"),
    "resnet34a": _imagenet(34, 21_623_848, 3_644_493_824, "25.03", "table 2", shortcut="A"),
    "plain18": _imagenet(18, 11_515_688, 1_794_805_760, "27.94", "table 2", shortcut=None),
    "plain34": _imagenet(34, 21_623_848, 3_644_493_824, "28.54", "table 2", shortcut=None),
    "resnet50_v1_5": _imagenet(50, 25_557_032, 4_089_184_256, "23.870", "torchvision", **V1_5),
    "resnet101_v1_5": _imagenet(101, 44_549_160, 7_801_405_440, "22.626", "torchvision", **V1_5),
    "resnet152_v1_5": _imagenet(152, 60_192_808, 11_513_626_624, "21.688", "torchvision", **V1_5),
    # timm's resnetv2_50.
    "resnet50_preact": _imagenet(
        50,
        25_549_352,
        4_089_184_256,
        "",
        "timm",
        "He 2016",
        block=PreactBottleneck,
        stride_on="3x3",
    ),
    # CIFAR-10, table 6; the best of five runs for depth 110. Zeros as the weights of
    # pytorch_resnet_cifar10 have them; the paper does not say where they are.
    "resnet20": _cifar(20, 269_722, 40_551_040, 8.75),
    "resnet32": _cifar(32, 464_154, 68_862_592, 7.51),
    "resnet44": _cifar(44, 658_586, 97_174_144, 7.17),
    "resnet56": _cifar(56, 853_018, 125_485_696, 6.97),
    "resnet110": _cifar(110, 1_727_962, 252_887_680, 6.43),
    "resnet1202": _cifar(1202, 19_421_274, 2_829_238_912, 7.93),
    "plain20": _cifar(20, 269_722, 40_551_040, shortcut=None),
    "plain32": _cifar(32, 464_154, 68_862_592, shortcut=None),
    "plain44": _cifar(44, 658_586, 97_174_144, shortcut=None),
    "plain56": _cifar(56, 853_018, 125_485_696, shortcut=None),
    "plain110": _cifar(110, 1_727_962, 252_887_680, shortcut=None),
}

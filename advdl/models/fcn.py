"""Fully convolutional networks: Long, Shelhamer and Darrell 2015 (arXiv:1411.4038), and
torchvision's form on ResNets.

Axes: B batch, H height, W width, C channels, K classes.

VGG-16 whose fully connected layers are convolutions, a score of every class at stride 32, and
transposed convolutions that start from bilinear interpolation (section 3.3). FCN-16s and FCN-8s add
scores of pool4 and pool3 on the way up (section 4.2). The image is padded by 100 pixels, so that
any size works; where maps are cut to lie on each other follows from their receptive fields.

The paper learns the transposed convolutions but the last (section 4.3, "Dense prediction"). The
authors' release (shelhamer/fcn.berkeleyvision.org) keeps all of them fixed and says that this makes
no significant difference; networks here that are given by name are the release's (`FCN.learned`).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models import resnet, vgg
from advdl.models.backbone import Backbone
from advdl.models.variant import Variant
from advdl.nn import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dropout,
    Layer,
    bilinear_init,
    bilinear_upsample,
    crop_offset,
    receptive_field,
    resize_bilinear,
)
from advdl.nn.elementwise import relu
from advdl.nn.pixels import UNIT, Pixels
from advdl.nn.receptive_field import IMAGE

Form = Literal["32s", "16s", "8s"]
SKIPS: Mapping[Form, tuple[int, ...]] = {"32s": (), "16s": (4,), "8s": (4, 3)}
"""Stages whose scores are added on the way up."""
AT_ONCE = {4: 0.01, 3: 0.0001}
"""Scales of pool4 and pool3 before their scores, where all skips are trained at once (the authors'
release), for pixels of 0 to 255. They level activations, which are proportional to the pixels but
for the biases, so pixels that were divided by a number have that number as a factor here."""
PAD = 100


def trunk_layers(stages: int) -> list[Layer]:
    """VGG-16's first stages, the image padded by 100."""
    layers = []
    for stage, widths in enumerate(vgg.D[:stages]):
        layers += [
            Layer(3, 1, PAD if stage == number == 0 else 1) for number in range(len(widths))
        ] + [Layer(2, 2)]
    return layers


def offsets(form: Form) -> tuple[int, ...]:
    """Where maps are cut: each skip's, then the image's. 32s: 19. 16s: 5, 27. 8s: 5, 9, 31."""
    field = receptive_field([*trunk_layers(5), Layer(7), Layer(1)])
    cuts = []
    for stage in SKIPS[form]:
        field = receptive_field([Layer(4, 2, transposed=True)], field)
        skip = receptive_field(trunk_layers(stage))
        cuts.append(crop_offset(skip, field))
    stride = int(field.stride)
    return (
        *cuts,
        crop_offset(receptive_field([Layer(2 * stride, stride, transposed=True)], field), IMAGE),
    )


class FCN(nn.Module):
    """(B, H, W, C) of any size -> logits (B, H, W, K) and the intermediates by name, in `dtype`.

    form: "32s", "16s" or "8s". at_once: all skips trained together, scaled (`AT_ONCE`).
    width: factor on all features. learned: which transposed convolutions learn, from bilinear
    interpolation on, K channels to K; the others stay interpolation of each class by itself: "none"
    (the release), "inner", all but the last, which brings the scores to the image's size (the
    paper), or "all". FCN-32s has the last one only. Scores start at zero. Intermediates: pool1 to
    pool5, fc6, fc7 and score (B, h, w, K) at stride 32.
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 21
    form: Form = "8s"
    at_once: bool = False
    learned: Literal["none", "inner", "all"] = "none"
    dropout: float = 0.5
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        height, width = x_BHWC.shape[1:3]
        score = partial(Conv, self.num_classes, 1, kernel_init=nn.initializers.zeros, **dtypes)
        seen = vgg.Trunk(ceil=True, pad_first=PAD, width=self.width, name="trunk", **dtypes)(
            x_BHWC, train
        )
        x, normal = seen["pool5"], vgg.fully_init(self.width)
        wide = partial(Conv, round(4096 * self.width), kernel_init=normal, **dtypes)
        for name, kernel in (("fc6", 7), ("fc7", 1)):
            x = seen[name] = relu(wide(kernel_size=kernel, name=name)(x))
            x = Dropout(self.dropout)(x, train)
        x = seen["score"] = score(name="score")(x)
        *cuts, cut = offsets(self.form)
        for stage, start in zip(SKIPS[self.form], cuts, strict=True):
            x = self._up(x, 2, f"upscore{stage}", self.learned != "none", dtypes)
            scale = AT_ONCE[stage] * self.pixels.std[0] if self.at_once else 1.0
            skip = seen[f"pool{stage}"] * scale
            skip = score(name=f"score_pool{stage}")(skip)
            x = x + skip[:, start : start + x.shape[1], start : start + x.shape[2]]
        x = self._up(x, 32 >> len(cuts), "upscore", self.learned == "all", dtypes)
        return x[:, cut : cut + height, cut : cut + width], seen

    @property
    def published_backbone(self) -> Backbone:
        """VGG-16: its convolutions, and fc6 and fc7 as convolutions (section 3.1)."""

        def place(own, learned):
            trunk = {**own.get("trunk", {}), **learned["trunk"]}
            return {**own, "trunk": trunk, **vgg.as_convolutions(learned)}

        return Backbone(vgg.VGG(), place, lambda path: path[0] == "trunk")

    def _up(self, x, stride, name, learned, dtypes):
        if not learned:
            return bilinear_upsample(x, stride)
        given: dict[str, Any] = dict(use_bias=False, kernel_init=bilinear_init, name=name, **dtypes)
        return ConvTranspose(self.num_classes, 2 * stride, strides=stride, **given)(x)


class Head(nn.Module):
    """torchvision's FCNHead: 3×3 to a quarter of the channels, normalization, rectifier, dropout
    0.1, 1×1 to K."""

    num_classes: int
    norm: Callable[..., nn.Module] = BatchNorm
    dropout: float = 0.1
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = Conv(x_BHWC.shape[-1] // 4, 3, padding=1, use_bias=False, name="conv", **dtypes)(x_BHWC)
        y = Dropout(self.dropout)(relu(self.norm(name="norm", **dtypes)(y, train)), train)
        return Conv(self.num_classes, 1, name="score", **dtypes)(y)


class FCNResNet(nn.Module):
    """(B, H, W, C) -> logits (B, H, W, K) and the intermediates by name: a ResNet of output stride
    8, `Head`, bilinear.

    blocks: of the ResNet, bottlenecks with the stride on the 3×3. width: factor on all features.
    auxiliary: a second head on stage 3, whose logits (B, H, W, K) are the intermediate "aux" if
    `train`; torchvision adds its loss with weight 0.5.
    Intermediates: the ResNet's, and aux.
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 21
    blocks: tuple[int, ...] = resnet.DEEP[50]
    auxiliary: bool = False
    width: float = 1.0
    dropout: float = 0.1
    dtype: Any = None
    param_dtype: Any = jnp.float32
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        size = x_BHWC.shape[1:3]
        head = partial(Head, self.num_classes, self.norm, self.dropout, **dtypes)
        x, seen = resnet.ResNet(
            self.blocks,
            resnet.Bottleneck,
            num_classes=None,
            width=round(64 * self.width),
            stride_on="3x3",
            output_stride=8,
            norm=self.norm,
            name="backbone",
            **dtypes,
        )(x_BHWC, train)
        if self.auxiliary and (train or self.is_initializing()):
            seen["aux"] = resize_bilinear(head(name="auxiliary")(seen["stage3"], train), size)
        return resize_bilinear(head(name="classifier")(x, train), size), seen

    @property
    def published_backbone(self) -> Backbone:
        """A ResNet without its classifier."""

        def place(own, learned):
            kept = {name: module for name, module in learned.items() if name != "classify"}
            return {**own, "backbone": kept}

        width = round(64 * self.width)
        network = resnet.ResNet(self.blocks, resnet.Bottleneck, width=width, stride_on="3x3")
        return Backbone(network, place, lambda path: path[0] == "backbone", network)


# As released: with fixed interpolation.
fcn32s, fcn16s, fcn8s = (partial(FCN, form=form) for form in SKIPS)
fcn8s_at_once = partial(FCN, at_once=True)
fcn_resnet50 = FCNResNet
fcn_resnet101 = partial(FCNResNet, blocks=resnet.DEEP[101])


def _row(
    build: Callable[..., nn.Module],
    parameters: int,
    multiply_adds: int,
    iou: str,
    on: str = "Pascal VOC 2011 (authors' release)",
    paper: str = "Long 2015",
    size: int = 500,
    weights: tuple[str, ...] = (),
) -> Variant:
    figure = f"{iou} % mean IoU on {on}"
    shape = (size, size, 3)
    return Variant(build, paper, shape, parameters, multiply_adds, figure, weights=weights)


_TORCHVISION = "COCO (torchvision)", "Long 2015, He 2015", 520, ("torchvision",)
VARIANTS: Mapping[str, Variant] = {
    "fcn32s": _row(fcn32s, 134_346_581, 181_005_792_000, "63.63"),
    "fcn16s": _row(fcn16s, 134_357_354, 181_162_324_992, "65.01"),
    "fcn8s": _row(fcn8s, 134_362_751, 181_504_354_176, "65.51"),
    "fcn8s_at_once": _row(fcn8s_at_once, 134_362_751, 181_504_354_176, "65.40"),
    "fcn_resnet50": _row(
        partial(fcn_resnet50, auxiliary=True), 35_322_218, 143_141_005_800, "60.5", *_TORCHVISION
    ),
    "fcn_resnet101": _row(
        partial(fcn_resnet101, auxiliary=True), 54_314_346, 223_162_100_200, "63.7", *_TORCHVISION
    ),
}

"""Dilated convolutions: Yu and Koltun 2015, *Multi-Scale Context Aggregation by Dilated
Convolutions* (arXiv:1511.07122).

Axes: B batch, H height, W width, C channels, K classes.

A front end, VGG-16 without its last two poolings, with dilation in their place, gives scores at
stride 8 (section 4). The context module sees far around each score without losing resolution
(section 3, table 1).

Padding. The front end's convolutions are valid, and the image is reflected at its border
beforehand, by 186 pixels before it as in the authors' release (fyu/dilation). The release fills the
image up to a tile of 900 by 900 pixels; here the far side is filled up by as much as the scores of
the last pixels need. The context module's input has 33 zeros around it and its convolutions are
valid, as in section 5 of the paper and in the released network for Pascal VOC; the released
networks for CamVid, KITTI and Cityscapes pad every layer by its own dilation instead
(`Context.padding`). The paper found zeros and reflection to be about equal.

Loss. The release compares each score with the label of one pixel in 8×8 unless it is told to
upsample (`--up`). Here scores are upsampled before the loss, and all pixels count.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advdl.models import vgg
from advdl.models.backbone import Backbone
from advdl.models.variant import Variant
from advdl.nn import Conv, Dropout, Layer, bilinear_upsample, max_pool, receptive_field, tap
from advdl.nn.elementwise import relu
from advdl.nn.pixels import UNIT, Pixels

DILATIONS = (1, 1, 2, 4, 8, 16, 1)
"""Of the context module's 3×3 convolutions (table 1); a 1×1 follows."""
LARGE = (2, 2, 4, 8, 16, 32, 32, 1)
"""Factors on the channels of the large module."""


def identity_init(classes: int, noise: float = 0.0) -> Callable:
    """Initializer of a context layer, c_i to c_(i+1) features: each output passes its class's
    inputs on.

    The middle tap from input a to output b is C / c_(i+1) where they belong to the same class of C
    = `classes`, floor(a C / c_i) = floor(b C / c_(i+1)); every other entry is N(0, noise²)
    (equation 5; with c_i = c_(i+1) = C and no noise, equation 4). Features that get wider share a
    class's value, C / c_(i+1) of it each, and those that get narrower add the shares, so that
    layers from C to C features are the identity together. Raises ValueError where C does not divide
    the features.
    """

    def init(key, shape, dtype=jnp.float32):
        height, width, inputs, outputs = shape
        if inputs % classes or outputs % classes:
            raise ValueError(f"{inputs} to {outputs} features do not divide into {classes} classes")

        def class_of(count):
            return np.arange(count) * classes // count

        kernel = noise * jax.random.normal(key, shape, dtype)
        same = class_of(inputs)[:, None] == class_of(outputs)[None, :]
        middle = jnp.where(same, classes / outputs, kernel[height // 2, width // 2])
        return kernel.at[height // 2, width // 2].set(middle.astype(dtype))

    return init


class Context(nn.Module):
    """Scores (B, H, W, C) -> (B, H, W, C): eight layers that see 67×67 scores (table 1).

    form: "basic" keeps C channels, "large" has up to 32 C. dilations: (1, 1, 2, 4, 8, 16, 1), and
    more in the release for Cityscapes. noise: standard deviation beside the identity at
    initialization.
    padding: where the zeros are that keep the size. "input": all of them around the scores, 33 on
      each side, and valid convolutions (section 5, and the release for VOC); "layers": around the
      input of each layer, as many as its dilation (the release for CamVid, KITTI and Cityscapes);
      "none": nowhere, so that 33 scores on each side are lost.
    With "layers" what lies outside the scores is zero to every layer, with "input" it is what the
    layers before made of it.
    """

    form: Literal["basic", "large"] = "basic"
    dilations: Sequence[int] = DILATIONS
    padding: Literal["input", "layers", "none"] = "input"
    noise: float = 0.01
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool = False) -> jax.Array:
        channels = x_BHWC.shape[-1]
        factors = LARGE if self.form == "large" else (1,) * (len(self.dilations) + 1)
        init = identity_init(channels, self.noise)
        conv = partial(Conv, kernel_init=init, dtype=self.dtype, param_dtype=self.param_dtype)
        edge = sum(self.dilations) if self.padding == "input" else 0
        x = jnp.pad(x_BHWC, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        for number, (dilation, factor) in enumerate(zip(self.dilations, factors, strict=False), 1):
            padding = dilation if self.padding == "layers" else 0
            x = relu(
                conv(
                    factor * channels, 3, padding=padding, dilation=dilation, name=f"layer{number}"
                )(x)
            )
        return conv(channels, 1, name=f"layer{len(self.dilations) + 1}")(x)


def front_layers() -> list[Layer]:
    """The front end's geometry, from the reflected image on."""
    layers = []
    for stage, widths in enumerate(vgg.D, 1):
        layers += [Layer(3, dilation=2 if stage == 5 else 1)] * len(widths) + [Layer(2, 2)] * (
            stage < 4
        )
    return [*layers, Layer(7, dilation=4), Layer(1), Layer(1)]


class FrontEnd(nn.Module):
    """(B, H, W, C), reflected already -> scores (B, h, w, K) at stride 8: 900 -> 66 (section 4)."""

    num_classes: int = 21
    dropout: float = 0.5
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        he = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        conv = partial(Conv, kernel_init=he, **dtypes)
        wide = partial(Conv, kernel_init=vgg.fully_init(self.width), **dtypes)
        seen, x = {}, x_BHWC
        for stage, widths in enumerate(vgg.D, 1):
            for number, features in enumerate(widths, 1):
                name, count = f"conv{stage}_{number}", round(features * self.width)
                x = relu(conv(count, 3, dilation=2 if stage == 5 else 1, name=name)(x))
            x = max_pool(x, 2, 2) if stage < 4 else x
            x = seen[f"stage{stage}"] = tap(self, f"stage{stage}", x)
        for name, kernel, dilation in (("fc6", 7, 4), ("fc7", 1, 1)):
            fully = wide(round(4096 * self.width), kernel, dilation=dilation, name=name)
            x = Dropout(self.dropout)(relu(fully(x)), train)
        return Conv(
            self.num_classes, 1, kernel_init=nn.initializers.normal(0.001), name="score", **dtypes
        )(x), seen


class Dilation(nn.Module):
    """(B, H, W, C) -> logits (B, H, W, K) and the intermediates by name: front end, context module,
    bilinear ×8.

    H and W of any size from 2 on: the image is reflected by what the front end takes away, to a
      multiple of 8.
    context: None for the front end alone. padding: of the context module. frozen: no gradient
      passes the front end's scores, and none of its features are dropped, as where the context
      module is trained on scores that were stored (section 4). Intermediates: stage1 to stage5,
      front (B, h, w, K).
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 21
    context: Literal["basic", "large"] | None = "basic"
    dilations: Sequence[int] = DILATIONS
    padding: Literal["input", "layers", "none"] = "input"
    dropout: float = 0.5
    frozen: bool = False
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        size = x_BHWC.shape[1:3]
        reflected = reflect(x_BHWC)
        front = FrontEnd(self.num_classes, self.dropout, self.width, name="front", **dtypes)
        x, seen = front(reflected, train and not self.frozen)
        seen["front"] = x = jax.lax.stop_gradient(x) if self.frozen else x
        if self.context is not None:
            x = Context(self.context, self.dilations, self.padding, name="context", **dtypes)(x)
        x = bilinear_upsample(x, 8, 16)[:, 4:, 4:]  # padding 4: the release's k16 s8 p4
        return x[:, : size[0], : size[1]], seen

    @property
    def published_backbone(self) -> Backbone:
        """VGG-16 as the front end: its convolutions, and fc6 and fc7 as convolutions."""

        def place(own, learned):
            dense = vgg.as_convolutions(learned)
            return {**own, "front": {**own["front"], **learned["trunk"], **dense}}

        def holds(path):
            return path[0] == "front" and (self.frozen or path[1].startswith("conv"))

        return Backbone(vgg.VGG(), place, holds)


def reflect(x_BHWC: jax.Array) -> jax.Array:
    """The image reflected at its border, by 186 pixels before it as in the release: score (i, j) of
    the front end is centered on the 8×8 pixels from (8 i, 8 j) on, and there are scores enough to
    cover the image."""
    field = receptive_field(front_layers())
    before = int(field.offset - 3.5)  # the middle of pixels 0..7
    edges = []
    for n in x_BHWC.shape[1:3]:
        scores = -(-n // 8)
        edges.append((before, 8 * (scores - 1) + int(field.size) - n - before))
    return jnp.pad(x_BHWC, ((0, 0), *edges, (0, 0)), mode="reflect")


VARIANTS: Mapping[str, Variant] = {
    "front_end": Variant(
        partial(Dilation, context=None), "Yu 2015", (500, 500, 3), 134_346_581, 730_351_680_768
    ),
    "dilation": Variant(Dilation, "Yu 2015", (500, 500, 3), 134_374_973, 730_658_119_320),
    "dilation_large": Variant(
        partial(Dilation, context="large"), "Yu 2015", (500, 500, 3), 141_149_720, 762_367_277_934
    ),
}

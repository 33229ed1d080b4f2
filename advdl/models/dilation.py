"""Dilated convolutions: Yu and Koltun 2015, *Multi-Scale Context Aggregation by Dilated Convolutions* (arXiv:1511.07122).

Axes: B batch, H height, W width, C channels, K classes.

A front end, VGG-16 without its last two poolings, with dilation in their place, gives scores at stride 8 (section 4). The
context module sees far around each score without losing resolution (section 3, table 1). Convolutions are valid, and the
image is reflected at its border beforehand, as the authors' release does.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advdl.models import vgg
from advdl.nn import Conv, Dropout, Layer, bilinear_upsample, max_pool, receptive_field, tap
from advdl.nn.elementwise import relu
from advdl.nn.pixels import UNIT, Pixels

DILATIONS = (1, 1, 2, 4, 8, 16, 1)
"""Of the context module's 3×3 convolutions (table 1); a 1×1 follows."""
LARGE = (2, 2, 4, 8, 16, 32, 32, 1)
"""Factors on the channels of the large module."""


def identity_init(noise: float = 0.0) -> Callable:
    """Initializer of a context layer: each output passes its class's inputs on (section 3, equations 4 and 5).

    The middle tap is C / c_out where input a and output b belong to one of C = gcd groups, floor(a C / c_in) =
    floor(b C / c_out), and N(0, noise²) elsewhere; C is the smaller number of channels.
    """

    def init(key, shape, dtype=jnp.float32):
        height, width, inputs, outputs = shape
        groups = np.gcd(inputs, outputs)
        same = (np.arange(inputs) * groups // inputs)[:, None] == (np.arange(outputs) * groups // outputs)[None, :]
        kernel = noise * jax.random.normal(key, shape, dtype)
        middle = jnp.where(same, groups / inputs, kernel[height // 2, width // 2])
        return kernel.at[height // 2, width // 2].set(middle.astype(dtype))

    return init


class Context(nn.Module):
    """Scores (B, H, W, C) -> (B, H, W, C): eight layers that see 67×67 scores (table 1).

    form: "basic" keeps C channels, "large" has up to 32 C. padding: of all layers together, so that the size stays;
    False for valid convolutions. dilations: (1, 1, 2, 4, 8, 16, 1), and more in the release for Cityscapes.
    noise: standard deviation beside the identity at initialization.
    """

    form: Literal["basic", "large"] = "basic"
    dilations: Sequence[int] = DILATIONS
    padding: bool = True
    noise: float = 0.01
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool = False) -> jax.Array:
        channels = x_BHWC.shape[-1]
        factors = LARGE if self.form == "large" else (1,) * (len(self.dilations) + 1)
        conv = partial(Conv, kernel_init=identity_init(self.noise), dtype=self.dtype, param_dtype=self.param_dtype)
        x = x_BHWC
        for number, (dilation, factor) in enumerate(zip(self.dilations, factors, strict=False), 1):
            padding = dilation if self.padding else 0
            x = relu(conv(factor * channels, 3, padding=padding, dilation=dilation, name=f"layer{number}")(x))
        return conv(channels, 1, name=f"layer{len(self.dilations) + 1}")(x)


def front_layers() -> list[Layer]:
    """The front end's geometry, from the reflected image on."""
    layers = []
    for stage, widths in enumerate(vgg.D, 1):
        layers += [Layer(3, dilation=2 if stage == 5 else 1)] * len(widths) + [Layer(2, 2)] * (stage < 4)
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
        seen, x = {}, x_BHWC
        for stage, widths in enumerate(vgg.D, 1):
            for number, features in enumerate(widths, 1):
                dilation = 2 if stage == 5 else 1
                name = f"conv{stage}_{number}"
                x = relu(Conv(round(features * self.width), 3, dilation=dilation, kernel_init=he, name=name, **dtypes)(x))
            x = max_pool(x, 2, 2) if stage < 4 else x
            x = seen[f"stage{stage}"] = tap(self, f"stage{stage}", x)
        for name, kernel, dilation in (("fc6", 7, 4), ("fc7", 1, 1)):
            wide = Conv(
                round(4096 * self.width),
                kernel,
                dilation=dilation,
                kernel_init=nn.initializers.normal(0.01),
                name=name,
                **dtypes,
            )
            x = Dropout(self.dropout)(relu(wide(x)), train)
        return Conv(self.num_classes, 1, kernel_init=nn.initializers.normal(0.001), name="score", **dtypes)(x), seen


class Dilation(nn.Module):
    """(B, H, W, C) -> logits (B, H, W, K) and the intermediates by name: front end, context module, bilinear ×8.

    H and W of any size from 2 on: the image is reflected by what the front end takes away, to a multiple of 8.
    context: None for the front end alone. Intermediates: stage1 to stage5, front (B, h, w, K).
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 21
    context: Literal["basic", "large"] | None = "basic"
    dilations: Sequence[int] = DILATIONS
    dropout: float = 0.5
    width: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        size = x_BHWC.shape[1:3]
        reflected = reflect(x_BHWC)
        front = FrontEnd(self.num_classes, self.dropout, self.width, name="front", **dtypes)
        x, seen = front(reflected, train)
        seen["front"] = x
        if self.context is not None:
            x = Context(self.context, self.dilations, name="context", **dtypes)(x)
        x = bilinear_upsample(x, 8, 16)[:, 4:, 4:]  # padding 4: the release's k16 s8 p4
        return x[:, : size[0], : size[1]], seen


def reflect(x_BHWC: jax.Array) -> jax.Array:
    """The image reflected at its border, by 186 pixels before it as in the release: score (i, j) of the front end is centered
    on the 8×8 pixels from (8 i, 8 j) on, and there are scores enough to cover the image."""
    field = receptive_field(front_layers())
    before = int(field.offset - 3.5)  # the middle of pixels 0..7
    edges = []
    for n in x_BHWC.shape[1:3]:
        scores = -(-n // 8)
        edges.append((before, 8 * (scores - 1) + int(field.size) - n - before))
    return jnp.pad(x_BHWC, ((0, 0), *edges, (0, 0)), mode="reflect")

"""Inception v3 as the Fréchet Inception distance has it: Szegedy et al. 2015 (arXiv:1512.00567),
the 2015-12-05 release.

Axes: B batch, H height, W width, C channels, K classes. `preprocess` gives what the network is fed.

FID (Heusel et al. 2017, arXiv:1706.08500) is a distance between this network's 2,048 pooled
features, with its own weights of 1,008 classes. It differs from the Inception v3 of torchvision in
three places, kept here: average pooling does not count padding, the last block pools by maximum,
and there is no auxiliary classifier. Layers have torchvision's names, so converted weights
(pytorch-fid's file) are read as they are. It is never trained here: normalization uses its stored
statistics.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advdl.models.variant import Variant
from advdl.nn import BatchNorm, Conv, avg_pool, global_average_pool, max_pool
from advdl.nn.pixels import UNIT, Pixels

SIZE = 299
"""Side of the images that the distance is defined for."""


def preprocess(image_BHWC: jax.Array) -> jax.Array:
    """uint8 images of any size and of 1 or 3 channels, as the released graph begins: gray ones
    repeated to three channels, brought to 299×299 as TensorFlow 1 does it, then (x - 128) / 128.
    float32 (B, 299, 299, 3).

    That resizing is bilinear without antialiasing and without half-pixel centers: pixel i lies at i
    · H / 299 of the image. The code of Heusel et al. feeds the graph, and torch-fidelity does the
    same in PyTorch; pytorch-fid resizes with half-pixel centers and scales by x / 127.5 - 1, so
    that its figures differ a little.
    """
    x = jnp.broadcast_to(image_BHWC, (*image_BHWC.shape[:3], 3)).astype(jnp.float32)
    for axis in (2, 1):
        length = x.shape[axis]
        place = np.arange(SIZE, dtype=np.float32) * np.float32(length / SIZE)
        low = place.astype(np.int32)
        share = np.expand_dims(place - low, tuple(n for n in range(4) if n != axis))
        before, after = (jnp.take(x, at, axis) for at in (low, np.minimum(low + 1, length - 1)))
        x = before + (after - before) * share
    return (x - 128) / 128


Step = tuple[str, int, tuple[int, int], int, tuple[int, int]]


def step(
    name: str, features: int, kernel: int | tuple[int, int] = 1, strides: int = 1, same: bool = True
) -> Step:
    """A convolution's name, features, kernel, strides and padding (that keeps the size, or
    none)."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return name, features, (height, width), strides, ((height // 2, width // 2) if same else (0, 0))


class BasicConv2d(nn.Module):
    """Convolution without bias, normalization (ε = 0.001) and rectifier."""

    step: Step
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        _, features, kernel, strides, padding = self.step
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = Conv(features, kernel, strides, padding, use_bias=False, name="conv", **dtypes)(x_BHWC)
        return nn.relu(BatchNorm(epsilon=1e-3, name="bn", **dtypes)(y, False))


class Block(nn.Module):
    """Branches side by side, joined by channels: each a chain of convolutions, the last of which
    may be a pair of which both are kept; then the pooled input, projected where `project` says how.

    pool: "average", "max", or "halve", by maximum with stride 2.
    """

    branches: Sequence[Sequence[Step | tuple[Step, Step]]]
    pool: str
    project: int = 0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        def conv(step, x):
            return BasicConv2d(step, self.dtype, self.param_dtype, name=step[0])(x)

        joined = []
        for branch in self.branches:
            y = x_BHWC
            for step_ in branch:
                pair = isinstance(step_[0], tuple)
                y = jnp.concatenate([conv(one, y) for one in step_], -1) if pair else conv(step_, y)
            joined.append(y)
        if self.pool == "halve":
            pooled = max_pool(x_BHWC, 3, 2)
        elif self.pool == "max":
            pooled = max_pool(x_BHWC, 3, 1, padding=1)
        else:
            pooled = avg_pool(x_BHWC, 3, 1, padding=1, count_padding=False)
        if self.project:
            pooled = conv(step("branch_pool", self.project), pooled)
        return jnp.concatenate([*joined, pooled], -1)


def _a(project: int):
    """Figure 5 of the paper: 5×5, and 3×3 twice."""
    return (
        (
            (step("branch1x1", 64),),
            (step("branch5x5_1", 48), step("branch5x5_2", 64, 5)),
            (
                step("branch3x3dbl_1", 64),
                step("branch3x3dbl_2", 96, 3),
                step("branch3x3dbl_3", 96, 3),
            ),
        ),
        "average",
        project,
    )


def _b():
    """Figure 10: halves."""
    last = step("branch3x3dbl_3", 96, 3, 2, same=False)
    return (
        (
            (step("branch3x3", 384, 3, 2, same=False),),
            (step("branch3x3dbl_1", 64), step("branch3x3dbl_2", 96, 3), last),
        ),
        "halve",
        0,
    )


def _c(width: int):
    """Figure 6: 7×7 as 1×7 and 7×1."""
    row, column = (1, 7), (7, 1)
    return (
        (
            (step("branch1x1", 192),),
            (
                step("branch7x7_1", width),
                step("branch7x7_2", width, row),
                step("branch7x7_3", 192, column),
            ),
            (
                step("branch7x7dbl_1", width),
                step("branch7x7dbl_2", width, column),
                step("branch7x7dbl_3", width, row),
                step("branch7x7dbl_4", width, column),
                step("branch7x7dbl_5", 192, row),
            ),
        ),
        "average",
        192,
    )


def _d():
    """Halves, as `_b`, with 7×7 in the second branch."""
    chain = (
        step("branch7x7x3_1", 192),
        step("branch7x7x3_2", 192, (1, 7)),
        step("branch7x7x3_3", 192, (7, 1)),
    )
    return (
        (
            (step("branch3x3_1", 192), step("branch3x3_2", 320, 3, 2, same=False)),
            (*chain, step("branch7x7x3_4", 192, 3, 2, same=False)),
        ),
        "halve",
        0,
    )


def _e(pool: str):
    """Figure 7: 1×3 beside 3×1."""

    def pair(name):
        return (step(f"{name}a", 384, (1, 3)), step(f"{name}b", 384, (3, 1)))

    return (
        (
            (step("branch1x1", 320),),
            (step("branch3x3_1", 384), pair("branch3x3_2")),
            (step("branch3x3dbl_1", 448), step("branch3x3dbl_2", 384, 3), pair("branch3x3dbl_3")),
        ),
        pool,
        192,
    )


BLOCKS = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _b(),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _d(),
    "Mixed_7b": _e("average"),
    "Mixed_7c": _e("max"),
}


class InceptionV3(nn.Module):
    """Images (B, H, W, 3) in [-1, 1], 75 pixels at least -> (logits (B, K), {"pooled": (B, 2048)}).
    `train` changes nothing."""

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 1008
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)

        def conv(step, x):
            return BasicConv2d(step, name=step[0], **dtypes)(x)

        x = conv(step("Conv2d_1a_3x3", 32, 3, 2, same=False), x_BHWC)
        x = conv(step("Conv2d_2a_3x3", 32, 3, same=False), x)
        x = max_pool(conv(step("Conv2d_2b_3x3", 64, 3), x), 3, 2)
        x = conv(step("Conv2d_3b_1x1", 80), x)
        x = max_pool(conv(step("Conv2d_4a_3x3", 192, 3, same=False), x), 3, 2)
        for name, block in BLOCKS.items():
            x = Block(*block, name=name, **dtypes)(x)
        pooled = global_average_pool(x)
        return nn.Dense(self.num_classes, name="fc", **dtypes)(pooled), {"pooled": pooled}


VARIANTS: Mapping[str, Variant] = {
    "inception_v3": Variant(
        InceptionV3,
        "Szegedy 2015",
        (299, 299, 3),
        23_850_960,
        5_713_232_480,
        weights=("pytorch-fid",),
    ),
}

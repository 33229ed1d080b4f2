"""How long the gradient of a convolution's kernel takes in each of its forms, by shape: what the
rules of `advdl.nn.convolution` and `advdl.nn.winograd` were chosen by.

    python tests/benchmarks/kernel_gradients.py [--rounds 9]
    JAX_ENABLE_COMPILATION_CACHE=false python tests/benchmarks/kernel_gradients.py  # with oneDNN

A convolution of the image with what comes back; the same of both upside down, which oneDNN leaves
to Eigen; a matrix product, of 1×1 kernels; tiles, of 3×3 with stride 1. Milliseconds, medians of
rounds in turns.
"""

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from timing import in_turns, machine, seconds

from advdl import train
from advdl.nn import convolution, winograd
from advdl.nn.convolution import Geometry
from advdl.train import placement


class Shape(NamedTuple):
    """Of a convolution of a batch of square images: their side in pixels, channels in and out
    (features), taps and stride, the same on both axes."""

    batch: int
    side: int
    channels: int
    features: int
    taps: int
    stride: int = 1


SHAPES = [
    Shape(8, 56, 64, 256, 1),  # ResNet-50's
    Shape(8, 56, 256, 64, 1),
    Shape(8, 28, 512, 128, 1),
    Shape(8, 14, 256, 1024, 1),
    Shape(8, 14, 1024, 256, 1),
    Shape(8, 7, 2048, 512, 1),
    Shape(8, 56, 256, 512, 1, 2),
    Shape(16, 28, 192, 16, 1),  # GoogLeNet's
    Shape(16, 14, 480, 192, 1),
    Shape(16, 28, 32, 96, 3),
    Shape(16, 56, 64, 64, 3),  # ResNet-18's
    Shape(16, 56, 64, 128, 3, 2),
    Shape(16, 28, 128, 128, 3),
    Shape(16, 14, 256, 256, 3),
    Shape(16, 7, 512, 512, 3),
    Shape(16, 224, 3, 64, 7, 2),
    Shape(2, 192, 64, 64, 3),  # SegNet's and U-Net's
    Shape(2, 48, 256, 256, 3),
    Shape(2, 12, 512, 512, 3),
    Shape(32, 27, 64, 192, 5),  # AlexNet's
    Shape(128, 7, 64, 64, 3),  # ResNet-20's
    Shape(64, 16, 64, 128, 4, 2),  # DCGAN's
]


COLUMNS = ("convolution", "upside down", "product", "tiles", "taken")


def forms(shape: Shape, x: jax.Array, y: jax.Array) -> dict[str, Callable[..., jax.Array]]:
    """Functions of x (B, H, W, I) and y (B, H', W', O), by name; `taken` is what a network does."""
    taps, out = (shape.taps,) * 2, y.shape[1:3]
    edge = ((shape.taps - 1) // 2,) * 2
    geometry = Geometry((shape.stride,) * 2, (edge, edge))
    geometry = convolution._fit(geometry, x.shape[1:3], taps, out)

    def convolved(x, y, upside_down):
        of_both = x, y, geometry
        if shape.taps > 1:  # of 1×1 kernels strips take longer
            of_both = convolution._in_strips(*of_both, shape.taps)
        return convolution._kernel_gradient(*of_both, taps, upside_down)

    found = {
        "convolution": lambda x, y: convolved(x, y, False),
        "upside down": lambda x, y: convolved(x, y, True),
        "taken": lambda x, y: convolution._fast_kernel_gradient(x, y, geometry, taps),
    }
    if shape.taps == 1:
        found["product"] = lambda x, y: convolution._product(x, y, geometry)
    if shape.taps == 3 and shape.stride == 1 and min(x.shape[-1], y.shape[-1]) >= 64:
        found["tiles"] = lambda x, y: winograd.kernel_gradient(x, y, geometry.padding)
    return found


def line(shape: Shape, rounds: int) -> str:
    """A row of the table."""
    rng, side = np.random.default_rng(0), -(-shape.side // shape.stride)
    x = rng.standard_normal((shape.batch, shape.side, shape.side, shape.channels), np.float32)
    y = rng.standard_normal((shape.batch, side, side, shape.features), np.float32)
    x, y = jnp.asarray(x), jnp.asarray(y)

    def timed(f):
        program = placement.compiled(functools.partial(jax.jit(f).lower, x, y), "cpu")
        return lambda: seconds(lambda: program(x, y).block_until_ready())

    times = in_turns({name: timed(f) for name, f in forms(shape, x, y).items()}, rounds)
    cells = [
        f"{statistics.median(times[name]) * 1e3:.1f}" if name in times else "" for name in COLUMNS
    ]
    title = (
        f"{shape.batch} × {shape.side}², {shape.channels} → {shape.features}, "
        f"{shape.taps}×{shape.taps} by {shape.stride}"
    )
    return f"| {title} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    train.keep_memory()
    library = "oneDNN" if placement.ONEDNN[0] in placement.compiler_options("cpu") else "Eigen"
    print(f"{machine('jax')}, convolutions are {library}'s, ms, medians of {options.rounds}\n")
    print(f"| batch × side², channels, taps and stride | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for shape in SHAPES:
        print(line(shape, options.rounds), flush=True)


if __name__ == "__main__":
    main()

"""An LSTM layer as a loop, with its input projection before the loop, unrolled, and as cuDNN's,
beside torch's nn.LSTM.

    python tests/benchmarks/recurrent.py [--rounds 9] [--shapes 35x20x200,100x64x128] \\
        [--unroll 4,16]

Rows are T × batch × hidden, the input as wide as the hidden state. "scan" has the product with the
input in every step (XLA's implementation), "hoisted" one product for all steps, which is what
`advdl.nn.LSTM` does; "unroll n" is hoisted, n steps of the loop at once; "cuDNN" runs where an
NVIDIA GPU is. Forward is without gradients; training is the output, and the gradients of its sum by
parameters and input. Ratios are torch's time over ours, medians of rounds in turns: above 1 we are
faster.
"""

import argparse
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import Apart, in_turns, machine, ratio, seconds

from advdl import train
from advdl.nn import LSTM, tracing
from advdl.train import placement

SHAPES = "35x20x200,35x20x650,100x64x128,200x16x256,500x32x64"
SECONDS = 0.2  # a turn is as many calls as take this long


class Side:
    """Programs by name, of one shape; `_call` runs one and waits."""

    def __init__(self):
        self._counts: dict[str, int] = {}

    def turn(self, name: str) -> float:
        """Seconds of one call."""
        if name not in self._counts:
            self._call(name)
            self._counts[name] = max(1, round(SECONDS / seconds(lambda: self._call(name))))
        count = self._counts[name]
        return seconds(lambda: [self._call(name) for _ in range(count)]) / count


class Ours(Side):
    """advdl's layer."""

    def __init__(self, shape: tuple[int, int, int], unrolled: tuple[int, ...], cudnn: bool):
        super().__init__()
        train.keep_memory()
        steps, batch, hidden = shape
        x = jnp.asarray(
            np.random.default_rng(0).standard_normal((batch, steps, hidden)), jnp.float32
        )
        variables = LSTM(hidden).init(jax.random.key(0), x)
        self._arguments = variables["params"], x
        self._programs = {}
        for name, how, layer in (
            ("scan", "xla", Looped(hidden)),
            ("hoisted", "fast", Looped(hidden)),
            *((f"unroll {n}", "fast", Looped(hidden, unroll=n)) for n in unrolled),
        ):
            with tracing.use(implementation=how):
                self._compile(name, layer)
        if cudnn:
            self._compile("cuDNN", LSTM(hidden))

    def _compile(self, name, layer):
        def run(params, x):
            return layer.apply({"params": params}, x)[0]

        gradients = jax.value_and_grad(lambda params, x: run(params, x).sum(), (0, 1))
        for what, f in (("forward", run), ("training", gradients)):
            lower = functools.partial(jax.jit(f).lower, *self._arguments)
            compiled = placement.compiled(lower, jax.default_backend())
            self._programs[f"{name} {what}"] = compiled

    def _call(self, name):
        jax.block_until_ready(self._programs[name](*self._arguments))


class Looped(LSTM):
    """The loop, also where a backend has a kernel for the whole layer."""

    def kernel(self, weights, carry, x_BTD, length_B, reverse):
        """None."""
        return None


class Theirs(Side):
    """torch's layer."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        import torch

        self._torch, (steps, batch, hidden) = torch, shape
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._layer = torch.nn.LSTM(hidden, hidden, batch_first=True).to(device)
        self._x = torch.randn(batch, steps, hidden, device=device, requires_grad=True)

    def _call(self, name):
        if name == "forward":
            with self._torch.inference_mode():
                self._layer(self._x)
        else:
            self._layer.zero_grad(set_to_none=True)
            self._x.grad = None
            self._layer(self._x)[0].sum().backward()
        if self._torch.cuda.is_available():
            self._torch.cuda.synchronize()


def measure(
    shape: tuple[int, int, int], unrolled: tuple[int, ...], cudnn: bool, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """For forward and training: seconds of every way, and of torch."""
    ours, theirs = Apart(Ours, shape, unrolled, cudnn), Apart(Theirs, shape)
    names = ["scan", "hoisted", *(f"unroll {n}" for n in unrolled), *(["cuDNN"] if cudnn else [])]
    found = {}
    for what in ("forward", "training"):
        runs: dict[str, Any] = {
            name: functools.partial(ours.turn, f"{name} {what}") for name in names
        }
        found[what] = in_turns({**runs, "torch": functools.partial(theirs.turn, what)}, rounds)
    ours.close()
    theirs.close()
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--unroll", default="4,16")
    options = parser.parse_args()
    unrolled = tuple(map(int, options.unroll.split(",")))
    cudnn = jax.default_backend() == "gpu" and tracing.cudnn()
    print(
        f"{jax.devices()[0].device_kind}, {machine('jax', 'torch')}, medians of {options.rounds}"
        " rounds"
    )
    print("" if cudnn else "no NVIDIA GPU here, so no cuDNN")
    ways = ["scan", "hoisted", *(f"unroll {n}" for n in unrolled), *(["cuDNN"] if cudnn else [])]
    heads = "".join(f" {way} ms |" for way in ways) + "".join(f" torch / {way} |" for way in ways)
    print(f"| T × batch × hidden | | torch ms |{heads}")
    print("|---|---|---|" + "---|" * (2 * len(ways)), flush=True)
    for text in options.shapes.split(","):
        shape = tuple(map(int, text.split("x")))
        for what, times in measure(shape, unrolled, cudnn, options.rounds).items():
            cells = [f"{statistics.median(times[way]) * 1e3:.2f}" for way in ("torch", *ways)]
            cells += [f"{ratio(times['torch'], times[way]):.2f}" for way in ways]
            print(
                f"| {' × '.join(map(str, shape))} | {what} | " + " | ".join(cells) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()

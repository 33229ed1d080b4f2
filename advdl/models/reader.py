"""Networks that read a sequence and say something at every step. Axes: B batch, T time, D features,
K outputs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import CELLS, Recurrent, Stack


class Reader(nn.Module):
    """(B, T, D), lengths (B,) or none -> (outputs (B, T, K), {"states": (B, T, H)}): h_t, y_t =
    F(h_{t-1}, x_t); the states are those of the last layer.

    outputs: K. cell: `rnn`, `lstm` or `gru`, or what makes a layer. features, layers: of the
    recurrent stack. What the whole sequence is answered by is the output at its last step
    (`at_end`), which is the same whatever follows it.
    """

    outputs: int
    cell: str | Callable[[int], Recurrent] = "lstm"
    features: int = 64
    layers: int = 1
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, length_B: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        make = CELLS[self.cell] if isinstance(self.cell, str) else self.cell
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        layer = partial(make, self.features, **dtypes)
        states, _ = Stack(layer, self.layers, name="stack")(x_BTD, length_B, train=train)
        return nn.Dense(self.outputs, name="answer", **dtypes)(states), {"states": states}


class Window(nn.Module):
    """(B, T, D) -> (outputs (B, T, K), {"states": (B, T, H)}): a feed-forward network that sees at
    every step the last `window` inputs and no state; before the beginning there are zeros. hidden:
    units of its layers."""

    outputs: int
    window: int
    hidden: Sequence[int] = (128, 128)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, length_B: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes, steps = dict(dtype=self.dtype, param_dtype=self.param_dtype), x_BTD.shape[1]
        before = jnp.pad(x_BTD, ((0, 0), (self.window - 1, 0), (0, 0)))
        x = jnp.concatenate([before[:, n : n + steps] for n in range(self.window)], -1)
        for number, units in enumerate(self.hidden):
            x = nn.relu(nn.Dense(units, name=f"hidden{number}", **dtypes)(x))
        return nn.Dense(self.outputs, name="answer", **dtypes)(x), {"states": x}


def at_end(y_BTK: jax.Array, length_B: jax.Array | None = None) -> jax.Array:
    """(B, K): what was said at each sequence's last step; zeros where there is none."""
    if length_B is None:
        return y_BTK[:, -1]
    place = jnp.maximum(length_B - 1, 0)[:, None, None]
    last = jnp.take_along_axis(y_BTK, place, axis=1)[:, 0]
    return jnp.where(length_B[:, None] > 0, last, 0)


def gradient_norms(errors: Callable[[jax.Array], jax.Array], x_BTD: jax.Array) -> jax.Array:
    """(B, T): the norm of the gradient of each sequence's own error by its input, by how many steps
    that lies before the end. errors: (B, T, D) -> (B,)."""
    gradient_BTD = jax.grad(lambda x: errors(x).sum())(x_BTD)
    return jnp.sqrt(jnp.square(gradient_BTD).sum(-1))[:, ::-1]


VARIANTS: Mapping[str, Variant] = {
    "rnn": Variant(partial(Reader, 2, "rnn", 256), "Elman 1990", (40, 2), 66_818, 2_662_400),
    "lstm": Variant(
        partial(Reader, 2, "lstm", 256), "Hochreiter 1997, Gers 2000", (40, 2), 265_730, 10_588_160
    ),
    "gru": Variant(partial(Reader, 2, "gru", 256), "Cho 2014", (40, 2), 199_682, 7_946_240),
    "window": Variant(partial(Window, 2, 8, (256, 256)), "", (40, 2), 70_658, 2_805_760),
}

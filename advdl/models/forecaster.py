"""Networks that go on with a series. Axes: B batch, T values of history, H steps ahead, D units."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import CELLS, Stack


class Forecaster(nn.Module):
    """History (B, T), and in training what came after it (B, H) -> forecasts (B, H) float32, in the
    history's unit.

    A recurrent stack reads the history. decoder: `direct`, a linear layer from the last state to
    all steps at once; or `autoregressive`, a second stack that begins with the first one's carries
    and makes one step from the value before it: the one that came, where it is given (teacher
    forcing), else the one it forecast itself. cell: `rnn`, `lstm` or `gru`.

    What the stacks read is the distance of each value from the history's last, and what they say is
    a difference: from that last value (direct), or from the value before (autoregressive). A
    network that has to say the value itself spends itself on repeating the last one, and a series
    that climbs soon leaves the range it was trained in; of differences it knows the former without
    learning, and the latter does not happen, since forecasts shift with the history. The last layer
    begins with zeros: before the first update the network is persistence.
    """

    horizon: int
    decoder: str = "direct"
    cell: str = "lstm"
    features: int = 32
    layers: int = 1
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        stack = partial(Stack, partial(CELLS[self.cell], self.features, **types), self.layers)
        self.encode = stack()
        if self.decoder == "autoregressive":
            self.decode = stack()
        outputs = 1 if self.decoder == "autoregressive" else self.horizon
        self.answer = nn.Dense(outputs, kernel_init=nn.initializers.zeros, **types)

    def __call__(self, history_BT: jax.Array, future_BH: jax.Array | None = None) -> jax.Array:
        last_B1 = history_BT[:, -1:].astype(jnp.float32)
        states, carries = self.encode((history_BT - last_B1)[..., None])
        if self.decoder == "direct":
            return last_B1 + self.answer(states[:, -1]).astype(jnp.float32)
        if future_BH is not None:
            given = jnp.concatenate([jnp.zeros_like(last_B1), future_BH[:, :-1] - last_B1], 1)
            states, _ = self.decode(given[..., None], None, carries)
            return last_B1 + given + self.answer(states)[..., 0].astype(jnp.float32)

        def step(module, carry, _):
            value_B, carries = carry
            states, carries = module.decode(value_B[:, None, None], None, carries)
            value_B = value_B + module.answer(states[:, 0])[:, 0].astype(jnp.float32)
            return (value_B, carries), value_B

        free = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, length=self.horizon
        )
        _, found_HB = free(self, (jnp.zeros_like(last_B1[:, 0]), carries), None)
        return last_B1 + found_HB.T


VARIANTS: Mapping[str, Variant] = {
    "forecaster_direct": Variant(partial(Forecaster, 12), "", (24,), 4_748, 101_760),
    "forecaster_autoregressive": Variant(
        partial(Forecaster, 12, "autoregressive"), "", (24,), 8_737, 152_448
    ),
}

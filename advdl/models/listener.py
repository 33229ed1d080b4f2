"""A network that listens: frames of sound in, a label or the blank for each out. Axes: B batch, T
frames, M bands, K labels."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant, number
from advdl.nn import LSTM, Dropout, Stack


class Listener(nn.Module):
    """(B, T, M), lengths (B,) -> logits (B, T, K): a stack of LSTMs in both directions (Graves,
    Mohamed & Hinton 2013, arXiv:1303.5778). outputs: K, with the blank. dropout: the rate between
    layers and before the answer, needs a key called dropout."""

    outputs: int
    features: int = 96
    layers: int = 2
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BTM: jax.Array, length_B: jax.Array, train: bool = False) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        layer = partial(LSTM, self.features, **dtypes)
        y, _ = Stack(layer, self.layers, bidirectional=True, dropout=self.dropout, name="stack")(
            x_BTM, length_B, train=train
        )
        return nn.Dense(self.outputs, name="answer", **dtypes)(Dropout(self.dropout)(y, train))


VARIANTS: Mapping[str, Variant] = {
    "listener": Variant(
        partial(Listener, 11),
        "Graves 2006, Graves 2013",
        (200, 40),
        329_291,
        65_548_800,
        others=(number(),),
    ),
}

"""A language model: what the next token is, from all before it. Axes: B batch, T tokens, V
vocabulary, H features.

Zaremba, Sutskever & Vinyals 2014 (arXiv:1409.2329): embedding, LSTM layers, softmax; dropout on
what goes up, on nothing that goes on in time.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.feeding import feed, forced
from advdl.models.variant import Variant
from advdl.nn import CELLS, Dense, Dropout, Stack


class LanguageModel(nn.Module):
    """Tokens (B, T), the carry of `begin` or of an earlier call -> (logits (B, T, V) of the tokens
    after them, {"carry", "states": (B, T, H) of the last layer}).

    size: V. cell: `rnn`, `lstm` or `gru`. tied: logits are products with the embedding (Press &
    Wolf 2016, arXiv:1608.05859; needs embedding = features). dropout: of embeddings, between layers
    and before the logits, needs a key called dropout.
    uniform: kernels and embedding are born uniform in ± this and no forget gate open, as Zaremba et
    al. have it; 0: the layers' own way. sampling: the probability with which the network is fed its
    own likeliest token in place of the given one, for each by itself but the first, as in
    `seq2seq.Translator`; needs a key called sampling.
    """

    size: int
    embedding: int = 128
    features: int = 256
    layers: int = 1
    cell: str = "lstm"
    tied: bool = False
    dropout: float = 0.0
    uniform: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """The layers."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        born = partial(_uniform, scale=self.uniform)
        each, own = (
            (dict(kernel_init=born), dict(embedding_init=born)) if self.uniform else ({}, {})
        )
        recurrent: dict[str, Any] = {**each, "recurrent_init": born} if self.uniform else {}
        if self.uniform and self.cell == "lstm":
            recurrent["forget_bias"] = 0.0
        self.words = nn.Embed(self.size, self.embedding, **own, **dtypes)
        self.stack = Stack(
            partial(CELLS[self.cell], self.features, **recurrent, **dtypes),
            self.layers,
            dropout=self.dropout,
        )
        self.answer = None if self.tied else Dense(self.size, **each, **dtypes)
        self.drop = Dropout(self.dropout)

    def __call__(
        self,
        token_BT: jax.Array,
        carry: Any = None,
        train: bool = False,
        sampling: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, dict[str, Any]]:
        def read(module, token):
            return module._words(token, train)

        if forced(self, sampling):
            dropped, states, carry = self._advance(read(self, token_BT), carry, train)
        else:

            def step(module, carry, word):
                dropped, states, carry = module._advance(word[:, None], carry, train)
                return dropped[:, 0], carry, states[:, 0]

            begun = self.begin(len(token_BT)) if carry is None else carry

            def answer(module, dropped):
                return module._answer(dropped)

            carry, (dropped, states) = feed(self, read, step, answer, begun, token_BT, sampling)
        return self._answer(dropped), {"carry": carry, "states": states}

    def _words(self, token, train):
        """Tokens (…) as words (…, embedding)."""
        return self.drop(self.words(token), train)

    def _advance(self, word_BTE, carry, train):
        """(what the logits are made of (B, T, H), states of the last layer (B, T, H), carry)."""
        x, carry = self.stack(word_BTE, None, carry, train)
        return self.drop(x, train), x, carry

    def _answer(self, dropped):
        """Logits (…, V)."""
        return self.words.attend(dropped) if self.answer is None else self.answer(dropped)

    def begin(self, batch: int) -> tuple[Any, ...]:
        """The carry before the first token."""
        layer = CELLS[self.cell](
            self.features, dtype=self.dtype, param_dtype=self.param_dtype, parent=None
        )
        return (layer.begin(batch),) * self.layers

    def next(self, carry: Any, token_B: jax.Array) -> tuple[jax.Array, Any]:
        """As `models.decoding` has a step: (logits (B, V), carry)."""
        dropped, _, carry = self._advance(self._words(token_B[:, None], False), carry, False)
        return self._answer(dropped[:, 0]), carry


def _uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, scale: float = 0.1
) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -scale, scale)


VARIANTS: Mapping[str, Variant] = {
    "zaremba_small": Variant(
        partial(LanguageModel, 10_000, 200, 200, 2),
        "Zaremba 2014",
        (20,),
        4_651_600,
        52_800_000,
        "test perplexity 115.91 on Penn Treebank (TensorFlow's tutorial)",
        dtype=jnp.int32,
    ),
    "zaremba_medium": Variant(
        partial(LanguageModel, 10_000, 650, 650, 2),
        "Zaremba 2014",
        (35,),
        19_775_200,
        464_100_000,
        "test perplexity 82.07 on Penn Treebank (TensorFlow's tutorial)",
        dtype=jnp.int32,
    ),
    "zaremba_large": Variant(
        partial(LanguageModel, 10_000, 1500, 1500, 2),
        "Zaremba 2014",
        (35,),
        66_022_000,
        1_785_000_000,
        "test perplexity 78.29 on Penn Treebank (TensorFlow's tutorial)",
        dtype=jnp.int32,
    ),
}

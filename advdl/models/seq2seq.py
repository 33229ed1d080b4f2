"""From one sequence to another: an encoder that reads, a decoder that writes, with attention or without.

Axes: B batch, S source tokens, T target tokens, V target vocabulary, E features of the memory.

Without attention the decoder starts from the encoder's last state and knows no more (Sutskever, Vinyals & Le 2014,
arXiv:1409.3215; here the encoder reads in both directions, where theirs reads the source reversed). With it, at every step a
context is drawn from all that was read: `additive`, before the step (Bahdanau, Cho & Bengio 2014, arXiv:1409.0473), or `dot`
and `general`, after it and fed to the next (Luong, Pham & Manning 2015, arXiv:1508.04025, sections 3.1 and 3.3).
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn import LSTM, Additive, Dot, Dropout, Stack, replica

ATTENTION = ("additive", "dot", "general", "none")


class Memory(NamedTuple):
    """What was read: values (B, S, E), keys (B, S, F) by which they are found, lengths (B,)."""

    values: jax.Array
    keys: jax.Array
    length: jax.Array


class State(NamedTuple):
    """Of the decoder between two steps: the cell's carry, and the context (B, E) that goes into the next step."""

    cell: Any
    context: jax.Array


class Translator(nn.Module):
    """Source (B, S), its lengths (B,), target (B, T) as it is fed, `begin` first -> (logits (B, T, V), weights (B, T, S)).

    source_size, target_size: tokens of the vocabularies. embedding, features: of words and of the states; the memory has
    2·features. attention: one of ATTENTION. dropout: the rate on embeddings and on what the answer is made of, needs a key
    called dropout. sampling: the probability with which the decoder is fed its own likeliest word in place of the given one,
    for each token by itself (Bengio et al. 2015, arXiv:1506.03099), needs a key called sampling; 0 is teacher forcing, 1 free
    running.
    """

    source_size: int
    target_size: int
    embedding: int = 64
    features: int = 128
    attention: str = "additive"
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """The layers."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        dense, lstm = partial(nn.Dense, **dtypes), partial(LSTM, self.features, **dtypes)
        self.source_words = nn.Embed(self.source_size, self.embedding, **dtypes)
        self.target_words = nn.Embed(self.target_size, self.embedding, **dtypes)
        self.encoder = Stack(lstm, bidirectional=True)
        self.bridge_cell, self.bridge_hidden = dense(self.features), dense(self.features)
        self.keys = dense(self.features, use_bias=False)
        self.decoder = lstm()
        self.attend = Additive(**dtypes) if self.attention == "additive" else Dot()
        self.joined = dense(self.features)
        self.answer = dense(self.target_size)
        self.drop = Dropout(self.dropout)

    def __call__(
        self,
        source_BS: jax.Array,
        source_length_B: jax.Array,
        target_BT: jax.Array,
        train: bool = False,
        sampling: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        memory, state = self.encode(source_BS, source_length_B, train)
        options = dict(variable_broadcast="params", split_rngs={"params": False, "dropout": True}, in_axes=1, out_axes=1)
        if (isinstance(sampling, float) and not sampling) or self.is_initializing():  # no step needs the answer of another
            word = self.drop(self.target_words(target_BT), train)

            def look(module, state, word):
                state, *seen = module._look(memory, state, word)
                return state, tuple(seen)

            _, (said, weights) = nn.scan(look, **options)(self, state, word)
            return self._say(said, train), weights
        batch, steps = target_BT.shape
        uniform = replica.sample(lambda key: jax.random.uniform(key, (steps,)), self.make_rng("sampling"), batch)
        coin_BT = (uniform < sampling) & (jnp.arange(steps)[None] > 0)

        def step(module, carry, item):
            state, said = carry
            given, coin = item
            logits, state, weight = module.step(memory, state, jnp.where(coin, said, given), train)
            return (state, jax.lax.stop_gradient(logits).argmax(-1).astype(given.dtype)), (logits, weight)

        _, (logits, weights) = nn.scan(step, **options)(self, (state, target_BT[:, 0]), (target_BT, coin_BT))
        return logits, weights

    def encode(self, source_BS: jax.Array, length_B: jax.Array, train: bool = False) -> tuple[Memory, State]:
        """What the decoder starts from."""
        x = self.drop(self.source_words(source_BS), train)
        values, ((there, back),) = self.encoder(x, length_B)
        cell, hidden = (jnp.concatenate(pair, -1) for pair in zip(there, back, strict=True))
        both = values[..., : self.features] + values[..., self.features :]  # as wide as a query
        keys = both if self.attention == "dot" else self.keys(values)
        carry = jnp.tanh(self.bridge_cell(cell)), jnp.tanh(self.bridge_hidden(hidden))
        return Memory(values, keys, length_B), State(carry, jnp.zeros_like(values[:, 0]))

    def step(self, memory: Memory, state: State, token_B: jax.Array, train: bool = False) -> tuple[jax.Array, State, jax.Array]:
        """One token more: (logits (B, V) of the next one, state, weights (B, S))."""
        state, said, weight = self._look(memory, state, self.drop(self.target_words(token_B), train))
        return self._say(said, train), state, weight

    def _look(self, memory, state, word):
        """(state, what the answer is made of, weights) after a word (B, embedding)."""
        cell, context = state
        weight = jnp.zeros(memory.values.shape[:2])
        if self.attention == "additive":
            context, weight = self.attend(cell[1], memory.keys, memory.values, memory.length)
        x = word if self.attention == "none" else jnp.concatenate([word, context], -1)
        hidden, cell = self.decoder(x[:, None], None, cell)
        hidden = hidden[:, 0]
        if self.attention in ("dot", "general"):
            context, weight = self.attend(hidden, memory.keys, memory.values, memory.length)
        said = [hidden, word] if self.attention == "none" else [hidden, context, word]
        return State(cell, context), jnp.concatenate(said, -1), weight

    def _say(self, said, train):
        """Logits."""
        return self.answer(jnp.tanh(self.joined(self.drop(said, train))))

    def next(self, carry: tuple[Memory, State], token_B: jax.Array) -> tuple[jax.Array, tuple[Memory, State]]:
        """As `models.decoding` has a step: (logits, carry)."""
        memory, state = carry
        logits, state, _ = self.step(memory, state, token_B)
        return logits, (memory, state)

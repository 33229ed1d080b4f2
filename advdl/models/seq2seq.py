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

from advdl.models.feeding import feed
from advdl.nn import LSTM, Additive, Dense, Dot, Dropout, Stack

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
    called dropout. sampling: see `feeding.feed`.
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
        dense, lstm = partial(Dense, **dtypes), partial(LSTM, self.features, **dtypes)
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
        read = lambda module, token: module.read(token, train)  # noqa: E731
        step = lambda module, state, word: module.advance(memory, state, word, train)  # noqa: E731
        _, (said, weights) = feed(self, read, step, lambda module, said: module.say(said), state, target_BT, sampling)
        return self.say(said), weights

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
        said, state, weight = self.advance(memory, state, self.read(token_B, train), train)
        return self.say(said), state, weight

    def read(self, token: jax.Array, train: bool = False) -> jax.Array:
        """Target tokens (…) as words (…, embedding)."""
        return self.drop(self.target_words(token), train)

    def advance(
        self, memory: Memory, state: State, word: jax.Array, train: bool = False
    ) -> tuple[jax.Array, State, jax.Array]:
        """`step` between reading a word (B, embedding) and saying the next: (what is said of (B, X), state, weights (B, S))."""
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
        return self.drop(jnp.concatenate(said, -1), train), State(cell, context), weight

    def say(self, said: jax.Array) -> jax.Array:
        """Logits (…, V) of what `advance` gave."""
        return self.answer(jnp.tanh(self.joined(said)))

    def next(self, carry: tuple[Memory, State], token_B: jax.Array) -> tuple[jax.Array, tuple[Memory, State]]:
        """As `models.decoding` has a step: (logits, carry)."""
        memory, state = carry
        logits, state, _ = self.step(memory, state, token_B)
        return logits, (memory, state)

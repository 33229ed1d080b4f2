"""From one sequence to another: an encoder that reads, a decoder that writes, with attention or
without.

Axes: B batch, S source tokens, T target tokens, V target vocabulary, E features of the memory, n
  features of the states.

The encoder is an LSTM in each direction, and the decoder an LSTM with n features, which starts from
tanh(W [forward; backward]) of the encoder's last states, of the cell's and of the hidden one by
themselves. Both may have several layers, each of which starts from the encoder's of the same height
and reads the one below; attention is by the state of the highest. They may be gated recurrent units
(Cho et al. 2014), and the encoder may read in one direction alone, forward or, as in Sutskever et
al. 2014, backward. What the decoder reads and says is that of three papers:

`additive`: Bahdanau, Cho & Bengio 2014 (arXiv:1409.0473), appendix A.1.2 and A.2. The context c_i
is drawn before the step, by the state s_{i-1} that the step starts from; the step reads [E y_{i-1};
c_i]; the logits are W_o t_i with the maxout t_i = max of pairs of U_o s_{i-1} + V_o E y_{i-1} + C_o
c_i, n / 2 wide (the paper's l = 500 for n = 1000). It departs from the paper in these points: the
cells are LSTMs unless told otherwise; s_0 is made of the last states of both directions, not
of the backward one alone; the query, the maxout and the logits have biases, which the paper leaves
out of its equations.

`dot` and `general`: Luong, Pham & Manning 2015 (arXiv:1508.04025), global attention. The step reads
[E y_{t-1}; h̃_{t-1}], the attentional vector of the step before (input feeding, section 3.3; zeros
before the first); the context c_t is drawn after the step, by its state h_t; h̃_t = tanh(W_c [c_t;
h_t]) (equation 5), and the logits are made of h̃_t alone (equation 6). The score of a place is h_t
· h̄_s (`dot`) or h_t · W_a h̄_s (`general`, section 3.1). It departs from the paper in these
points: one layer unless told otherwise, not four; the encoder reads in both directions, where
theirs reads the reversed source in one, so h̄_s is the sum of both for `dot`, as wide as h_t, and
both side by side for `general`; the decoder does not start from the encoder's state itself; the
logits have a bias; local attention and the scores `concat` and `location` are not there. With
dropout, h̃_t is dropped before it is fed and said.

`none`: Sutskever, Vinyals & Le 2014 (arXiv:1409.3215): the decoder knows of the source what its
first state holds, and the logits are made of its state alone. It departs from the paper in these
points: one layer in both directions unless told otherwise, where theirs has four that read the
reversed source in one; the decoder does not start from the encoder's state itself.

All three papers draw the parameters in ways of their own; here they are drawn as Flax and `nn.LSTM`
draw them, with a forget gate's bias of 1.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.feeding import feed
from advdl.models.variant import Variant, number, tokens
from advdl.nn import CELLS, Additive, Dense, Dot, Dropout, Stack, reversed_in_length

ATTENTION = ("additive", "dot", "general", "none")
READING = ("both", "forward", "backward")


class Memory(NamedTuple):
    """What was read: values (B, S, E), keys (B, S, F) that are compared with a query, lengths
    (B,)."""

    values: jax.Array
    keys: jax.Array
    length: jax.Array


class State(NamedTuple):
    """The decoder between two steps: the carry of each layer, from the lowest, and the attentional
    vector (B, n) that the next step reads beside the word; (B, 0) where nothing is fed but the
    word."""

    cell: Any
    fed: jax.Array


class Translator(nn.Module):
    """Source (B, S), its lengths (B,), target (B, T) as it is fed, `begin` first -> (logits (B, T,
    V), weights (B, T, S)).

    source_size, target_size: tokens of the vocabularies. embedding, features: of words and of the
    states; the memory has 2·features, with `dot` or one direction features. attention: one of
    ATTENTION, described above. dropout: the rate on embeddings, between layers and on what the
    logits are made of, needs a key called dropout. layers: of encoder and decoder. cell: one of
    `nn.CELLS`. reading: directions of the encoder, one of READING. sampling: see `feeding.feed`.
    """

    source_size: int
    target_size: int
    embedding: int = 64
    features: int = 128
    attention: str = "additive"
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    layers: int = 1
    cell: str = "lstm"
    reading: str = "both"

    def setup(self):
        """The layers."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        dense, cell = partial(Dense, **dtypes), partial(CELLS[self.cell], self.features, **dtypes)
        self.source_words = nn.Embed(self.source_size, self.embedding, **dtypes)
        self.target_words = nn.Embed(self.target_size, self.embedding, **dtypes)
        self.encoder = Stack(cell, self.layers, self.reading == "both", self.dropout)
        parts = ("cell", "hidden") if "lstm" in self.cell else ("hidden",)
        self.bridge = {
            f"{part}{layer or ''}": dense(self.features)
            for layer in range(self.layers)
            for part in parts
        }
        self.keys = dense(self.features, use_bias=False)
        self.decoder = cell()
        if self.layers > 1:
            self.above = Stack(cell, self.layers - 1, dropout=self.dropout)
        self.attend = Additive(**dtypes) if self.attention == "additive" else Dot()
        if self.attention == "additive":
            self.joined = dense(2 * max(1, self.features // 2))
        elif self._feeds:
            self.joined = dense(self.features, use_bias=False)
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

        def read(module, token):
            return module.read(token, train)

        def step(module, state, word):
            return module.advance(memory, state, word, train)

        _, (said, weights) = feed(
            self, read, step, lambda module, said: module.say(said), state, target_BT, sampling
        )
        return self.say(said), weights

    def encode(
        self, source_BS: jax.Array, length_B: jax.Array, train: bool = False
    ) -> tuple[Memory, State]:
        """What the decoder starts from."""
        x = self.drop(self.source_words(source_BS), train)
        backward, both = self.reading == "backward", self.reading == "both"
        x = reversed_in_length(x, length_B) if backward else x
        values, last = self.encoder(x, length_B, train=train)
        values = reversed_in_length(values, length_B) if backward else values
        if self.attention == "dot" and both:
            # The memory itself is compared, so it must be as wide as a query.
            values = values[..., : self.features] + values[..., self.features :]
        keys = self.keys(values) if self.attention in ("additive", "general") else values
        if both:
            joined = partial(jax.tree.map, lambda *pair: jnp.concatenate(pair, -1))
            last = tuple(joined(there, back) for there, back in last)
        carries = tuple(self._bridged(layer, carry) for layer, carry in enumerate(last))
        fed = jnp.zeros_like(self._query(carries)[:, : self.features if self._feeds else 0])
        return Memory(values, keys, length_B), State(carries, fed)

    def _bridged(self, layer: int, carry: Any) -> Any:
        """What a layer of the decoder starts from, of the encoder's last carry."""

        def part(name, x):
            return jnp.tanh(self.bridge[f"{name}{layer or ''}"](x))

        if isinstance(carry, tuple):
            return part("cell", carry[0]), part("hidden", carry[1])
        return part("hidden", carry)

    def _query(self, carries: Any) -> jax.Array:
        """The state (B, n) of the highest layer."""
        return self.decoder.shown(carries[-1])

    @property
    def _feeds(self) -> bool:
        """Whether the attentional vector is fed to the next step."""
        return self.attention in ("dot", "general")

    def step(
        self, memory: Memory, state: State, token_B: jax.Array, train: bool = False
    ) -> tuple[jax.Array, State, jax.Array]:
        """One token more: (logits (B, V) of the next one, state, weights (B, S))."""
        said, state, weight = self.advance(memory, state, self.read(token_B, train), train)
        return self.say(said), state, weight

    def read(self, token: jax.Array, train: bool = False) -> jax.Array:
        """Target tokens (…) as words (…, embedding)."""
        return self.drop(self.target_words(token), train)

    def advance(
        self, memory: Memory, state: State, word: jax.Array, train: bool = False
    ) -> tuple[jax.Array, State, jax.Array]:
        """`step` between reading a word (B, embedding) and saying the next: (what `say` is given
        (B, X), state, weights (B, S))."""
        (carries, fed), weight = state, jnp.zeros(memory.values.shape[:2])

        def look(query):
            return self.attend(query, memory.keys, memory.values, memory.length)

        before, beside = self._query(carries), fed
        if self.attention == "additive":
            beside, weight = look(before)
        read = jnp.concatenate([word, beside], -1)[:, None]
        hidden, lowest = self.decoder(read, None, carries[0])
        higher = ()
        if self.layers > 1:
            hidden, higher = self.above(self.drop(hidden, train), None, carries[1:], train)
        said, carries = hidden[:, 0], (lowest, *higher)
        if self.attention == "additive":
            said = jnp.concatenate([before, word, beside], -1)
        elif self._feeds:
            context, weight = look(said)
            said = jnp.tanh(self.joined(jnp.concatenate([context, said], -1)))
        said = self.drop(said, train)
        return said, State(carries, said if self._feeds else fed), weight

    def say(self, said: jax.Array) -> jax.Array:
        """Logits (…, V) of what `advance` gave."""
        if self.attention == "additive":
            pairs = self.joined(said)
            said = pairs.reshape(*pairs.shape[:-1], -1, 2).max(-1)
        return self.answer(said)

    def next(
        self, carry: tuple[Memory, State], token_B: jax.Array
    ) -> tuple[jax.Array, tuple[Memory, State]]:
        """As `models.decoding` has a step: (logits, carry)."""
        memory, state = carry
        logits, state, _ = self.step(memory, state, token_B)
        return logits, (memory, state)


VARIANTS: Mapping[str, Variant] = {
    f"translator_{attention}": Variant(
        partial(Translator, 8000, 8000, 256, 512, attention),
        paper,
        (40,),
        parameters,
        multiply_adds,
        dtype=jnp.int32,
        others=(number(), tokens(40)),
    )
    for attention, paper, parameters, multiply_adds in (
        ("additive", "Bahdanau 2014", 15_728_960, 426_213_376),
        ("dot", "Luong 2015", 15_547_200, 418_185_216),
        ("general", "Luong 2015", 16_333_632, 450_461_696),
        ("none", "Sutskever 2014", 13_974_336, 353_632_256),
    )
}

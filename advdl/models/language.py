"""A language model: what the next token is, from all before it. Axes: B batch, T tokens, V
vocabulary, H features.

Zaremba, Sutskever & Vinyals 2014 (arXiv:1409.2329): embedding, LSTM layers, softmax; dropout on
what goes up, on nothing that goes on in time.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.losses import cross_entropy
from advdl.models.decoding import sample
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


def compare(logits_BTV: jax.Array, target_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(nats of every target, whether it is the likeliest), (B, T) each."""
    flat = logits_BTV.reshape(-1, logits_BTV.shape[-1])
    nats_BT = cross_entropy(flat, target_BT.reshape(-1)).reshape(target_BT.shape)
    return nats_BT, logits_BTV.argmax(-1) == target_BT


def functions(network: LanguageModel, window: int) -> dict[str, Callable[..., Any]]:
    """Functions of a learner.

    `read`: `inputs` and `targets` (B, T), T a multiple of the window, in windows of which each goes
      on where the one before stopped: {"nats", "right": (B, T), "states": (B, T, H)}.
    `adapt`: the same but the states, by a network that goes on learning (dynamic evaluation,
      Krause et al. 2018, arXiv:1709.07432): after every window, whose tokens were foreseen before,
      all rows' mean gradient of it is descended by `rate`, without momentum.
    `go_on`: `tokens` (B, T): {"nats", "right": (B, T - context - 1)} of those after the first
      `context` + 1, fed the true ones or, with the probability `sampling`, its own likeliest.
    `write`: (B, steps) tokens after those of `beginning` (B, T), drawn as `decoding.sample` does,
      by the key of which `key` (B, 2) has the data in every row.
    """

    def in_windows(advance, begun, batch):
        """What `advance(carry, (inputs, targets))` gives of every window, (B, T, …)."""
        rows = len(batch["inputs"])
        parts = [
            batch[name].reshape(rows, -1, window).swapaxes(0, 1) for name in ("inputs", "targets")
        ]
        _, found = jax.lax.scan(advance, begun, tuple(parts))
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows, -1, *x.shape[3:]), found)

    def read(variables, batch):
        def advance(carry, item):
            logits, found = network.apply(variables, item[0], carry)
            return found["carry"], (*compare(logits, item[1]), found["states"])

        begun = network.begin(len(batch["inputs"]))
        nats, right, states = in_windows(advance, begun, batch)
        return {"nats": nats, "right": right, "states": states}

    def adapt(variables, batch, rate):
        def advance(state, item):
            params, carry = state

            def mean_nats(params):
                logits, found = network.apply({**variables, "params": params}, item[0], carry)
                nats, right = compare(logits, item[1])
                return nats.mean(), (nats, right, found["carry"])

            gradient, (nats, right, carry) = jax.grad(mean_nats, has_aux=True)(params)
            params = jax.tree.map(lambda x, slope: x - rate * slope, params, gradient)
            return (params, carry), (nats, right)

        begun = variables["params"], network.begin(len(batch["inputs"]))
        nats, right = in_windows(advance, begun, batch)
        return {"nats": nats, "right": right}

    def go_on(variables, batch, context, sampling):
        tokens, keys = batch["tokens"], {"sampling": jax.random.key(0)}
        carry = network.apply(variables, tokens[:, :context])[1]["carry"]
        given = tokens[:, context:-1], carry
        logits, _ = network.apply(variables, *given, sampling=sampling, rngs=keys)
        nats, right = compare(logits, tokens[:, context + 1 :])
        return {"nats": nats, "right": right}

    def write(variables, batch, steps, temperature=0.0, top_k=0, top_p=1.0):
        beginning, key = batch["beginning"], jax.random.wrap_key_data(batch["key"][0])
        carry = network.begin(len(beginning))
        if beginning.shape[1] > 1:
            carry = network.apply(variables, beginning[:, :-1], carry)[1]["carry"]

        def step(carry, token):
            return network.apply(variables, carry, token, method="next")

        drawn = steps, -1, key, temperature, top_k, top_p
        return sample(step, carry, beginning[:, -1], *drawn).token

    return {"read": read, "adapt": adapt, "go_on": go_on, "write": write}


VARIANTS: Mapping[str, Variant] = {
    f"zaremba_{size}": Variant(
        partial(LanguageModel, 10_000, features, features, 2),
        "Zaremba 2014",
        (length,),
        parameters,
        multiply_adds,
        f"test perplexity {perplexity} on Penn Treebank (TensorFlow's tutorial)",
        dtype=jnp.int32,
    )
    for size, features, length, parameters, multiply_adds, perplexity in (
        ("small", 200, 20, 4_651_600, 52_800_000, "115.91"),
        ("medium", 650, 35, 19_775_200, 464_100_000, "82.07"),
        ("large", 1500, 35, 66_022_000, 1_785_000_000, "78.29"),
    )
}

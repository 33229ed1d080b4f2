"""What a sentence is. Axes: B batch, T words, E embedding, H features of a direction, K classes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.errors import nearest
from advdl.models.variant import Variant
from advdl.nn import LSTM, Dropout, Stack, replica

POOLS = ("last", "max", "mean", "attention")


class SentenceClassifier(nn.Module):
    """(tokens (B, T), lengths (B,) or none) -> (logits (B, K), {"weights": (B, T), "states": (B, T,
    2·H)}): a bidirectional LSTM over embedded words. What follows a sentence's end changes nothing.

    outputs: K. words: of the vocabulary. pool: how the states of all words become one vector:
    `last`, the last state of either direction; `max` or `mean` over the words; `attention`, their
    mean by weights softmax(vᵀ tanh(W h_t)) that depend on the states alone (the keys-only attention
    of Flax's SST-2 example). weights: each word's share in it, which add up to 1.
    word_dropout: the probability that a word in training is `unknown` (Iyyer et al. 2015, section
    3.2). dropout: of the embedding, between layers and before the answer. Both need a key called
    dropout.

    Raises ValueError for another pool.
    """

    outputs: int
    words: int
    embedding: int = 100
    features: int = 100
    layers: int = 1
    pool: str = "attention"
    word_dropout: float = 0.0
    dropout: float = 0.0
    unknown: int = 1
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        if self.pool not in POOLS:
            raise ValueError(
                f"no pool {self.pool!r}; there are {', '.join(POOLS)}{nearest(self.pool, POOLS)}"
            )
        kind = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.table = nn.Embed(self.words, self.embedding, **kind)
        self.stack = Stack(
            partial(LSTM, self.features, **kind),
            self.layers,
            bidirectional=True,
            dropout=self.dropout,
        )
        if self.pool == "attention":
            self.key, self.score = (
                nn.Dense(self.features, **kind),
                nn.Dense(1, use_bias=False, **kind),
            )
        self.dropout_below, self.dropout_above = Dropout(self.dropout), Dropout(self.dropout)
        self.answer = nn.Dense(self.outputs, **kind)

    def __call__(
        self, token_BT: jax.Array, length_B: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        return self.read(self.embed(token_BT, train), length_B, train)

    def embed(self, token_BT: jax.Array, train: bool = False) -> jax.Array:
        """(B, T, E)."""
        if train and self.word_dropout:

            def draw(key):
                return jax.random.bernoulli(key, 1 - self.word_dropout, token_BT.shape[1:])

            keep_BT = replica.sample(draw, self.make_rng("dropout"), len(token_BT))
            token_BT = jnp.where(keep_BT, token_BT, self.unknown)
        return self.table(token_BT)

    def read(
        self, x_BTE: jax.Array, length_B: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same of embedded words."""
        batch, steps = x_BTE.shape[:2]
        length_B = jnp.full(batch, steps, jnp.int32) if length_B is None else length_B
        states_BTH, carries = self.stack(self.dropout_below(x_BTE, train), length_B, train=train)
        pooled_BH, weight_BT = self._pooled(states_BTH, carries[-1], length_B)
        return self.answer(self.dropout_above(pooled_BH, train)), {
            "weights": weight_BT,
            "states": states_BTH,
        }

    def _pooled(self, states_BTH, carries, length_B):
        steps = jnp.arange(states_BTH.shape[1])[None]
        real_BT, some_B1 = steps < length_B[:, None], length_B[:, None] > 0
        if self.pool == "last":
            (_, there), (_, back) = carries
            weight_BT = (
                (steps == length_B[:, None] - 1) + (steps == 0) * some_B1.astype(jnp.float32)
            ) / 2
            return jnp.concatenate([there, back], -1), weight_BT
        if self.pool == "max":
            masked = jnp.where(real_BT[..., None], states_BTH, jnp.finfo(states_BTH.dtype).min)
            share_BTH = jax.nn.one_hot(masked.argmax(1), states_BTH.shape[1], axis=1)
            return jnp.where(some_B1, masked.max(1), 0), jnp.where(some_B1, share_BTH.mean(-1), 0)
        if self.pool == "mean":
            weight_BT = real_BT / jnp.maximum(length_B, 1)[:, None]
        else:
            score_BT = self.score(jnp.tanh(self.key(states_BTH)))[..., 0].astype(jnp.float32)
            weight_BT = jnp.where(
                real_BT, jax.nn.softmax(jnp.where(real_BT, score_BT, jnp.finfo(jnp.float32).min)), 0
            )
        return jnp.einsum("bt,bth->bh", weight_BT.astype(states_BTH.dtype), states_BTH), weight_BT


def margin(logits_BK: jax.Array, class_B: jax.Array) -> jax.Array:
    """(B,): a class's logit above the mean of the others."""
    own = jnp.take_along_axis(logits_BK, class_B[:, None], axis=1)[:, 0]
    others = (logits_BK.sum(-1) - own) / max(logits_BK.shape[-1] - 1, 1)
    return own - others


def contributions(
    network: SentenceClassifier, variables, token_BT, length_B, class_B, points: int = 16
) -> jax.Array:
    """(B, T) float32: how much each word counts for a class, by the gradient of its `margin` times
    the embedding, averaged over `points` midpoints between zeros and the embedding (integrated
    gradients, Sundararajan et al. 2017, arXiv:1703.01365, equation 3). With points enough they add
    up to the margin less that of a sentence of zeros; padding has none."""
    x_BTE = network.apply(variables, token_BT, method="embed")

    def total(x):
        return margin(network.apply(variables, x, length_B, method="read")[0], class_B).sum()

    gradients = jax.lax.map(
        lambda share: jax.grad(total)(share * x_BTE), (jnp.arange(points) + 0.5) / points
    )
    return (gradients.mean(0) * x_BTE).sum(-1).astype(jnp.float32)


VARIANTS: Mapping[str, Variant] = {
    "sentence_classifier": Variant(
        partial(SentenceClassifier, 2, 20_000, 300, 300, 2, "last"),
        "Graves 2005",
        (256,),
        9_606_002,
        921_601_200,
        "86.2 % of IMDB (bentrevett's tutorials)",
        dtype=jnp.int32,
    ),
}


def explain(
    network: SentenceClassifier, variables: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """`probability` (B, K) of each class for a batch of `token` and `token_length`, and `weight`
    (B, T), what each word counts for the likeliest, see `contributions`."""
    given = batch["token"], batch["token_length"]
    logits, _ = network.apply(variables, *given)
    weight_BT = contributions(network, variables, *given, logits.argmax(-1))
    return {"probability": jax.nn.softmax(logits.astype(jnp.float32)), "weight": weight_BT}

"""From a network that says what comes next to whole sequences: greedy, by sampling, by beam search;
compiled, for all decoders.

Axes: B batch, W width of the beam, T steps, V vocabulary. A decoder is `step(carry, token (B,)) ->
(logits (B, V), carry)`, its carry a tree of (B, …). Sequences are counted and scored with the `end`
that closes them; behind it they hold `pad`. One that is not closed after T steps is a result too:
its length is T, and its score is that of its T tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn import replica

Step = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


class Decoded(NamedTuple):
    """token: int32 (B, T), or (B, W, T), the best first. length: of each, (B,) or (B, W).
    log_probability: of each as a whole, in nats, float32. score: the same divided by the length's
    penalty, by which beams are ranked."""

    token: jax.Array
    length: jax.Array
    log_probability: jax.Array
    score: jax.Array


def length_penalty(length: jax.Array | int, alpha: float) -> jax.Array:
    """((5 + length) / 6)^α (Wu et al. 2016, arXiv:1609.08144, equation 14); α = 0 is none."""
    return ((5 + jnp.asarray(length, jnp.float32)) / 6) ** alpha


def restrict(logits_BV: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """Logits with -inf for what is not among the k largest (0: all are), nor in the nucleus, the
    smallest set of the likeliest tokens with a probability of at least p together (Holtzman et al.
    2019, arXiv:1904.09751, section 3.1)."""
    if top_k:
        least = jax.lax.top_k(logits_BV, min(top_k, logits_BV.shape[-1]))[0][:, -1:]
        logits_BV = jnp.where(logits_BV < least, -jnp.inf, logits_BV)
    if top_p < 1:
        order = jnp.argsort(-logits_BV, axis=-1)
        share = jnp.take_along_axis(jax.nn.softmax(logits_BV), order, axis=-1)
        before = jnp.cumsum(share, axis=-1) - share
        kept = jnp.take_along_axis(before < top_p, jnp.argsort(order, axis=-1), axis=-1)
        logits_BV = jnp.where(kept, logits_BV, -jnp.inf)
    return logits_BV


def sample(
    step: Step,
    carry: Any,
    begin_B: jax.Array,
    steps: int,
    end: int,
    key: jax.Array | None = None,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    pad: int = 0,
) -> Decoded:
    """One sequence for each of the batch, token by token: the likeliest (temperature 0), or drawn
    from softmax(logits / temperature), restricted by `top_k` and `top_p`. The log-probability is
    that of the network's own softmax. key: for drawing; what is drawn depends on an example's place
    in the batch and on the step."""
    if temperature and key is None:
        raise ValueError("sampling at a temperature needs a key")
    seed = jax.random.key(0) if key is None else key  # the likeliest needs none

    def going(state):
        t, _, ended, *_ = state
        return (t < steps) & ~ended.all()

    def body(state):
        t, token, ended, carry, tokens, length, total = state
        logits, carry = step(carry, token)
        logits = logits.astype(jnp.float32)
        if temperature:
            restricted = restrict(logits / temperature, top_k, top_p)
            noise = replica.sample(
                lambda key: jax.random.gumbel(key, logits.shape[1:]),
                jax.random.fold_in(seed, t),
                len(logits),
            )
            chosen = (restricted + noise).argmax(-1)
        else:
            chosen = logits.argmax(-1)
        chosen = jnp.where(ended, pad, chosen).astype(jnp.int32)
        own = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], axis=1)[:, 0]
        total = total + jnp.where(ended, 0, own)
        tokens = tokens.at[:, t].set(chosen)
        length = length + ~ended
        return t + 1, chosen, ended | (chosen == end), carry, tokens, length, total

    batch = len(begin_B)
    begun = (
        jnp.zeros(batch, bool),
        carry,
        jnp.full((batch, steps), pad, jnp.int32),
        jnp.zeros(batch, jnp.int32),
    )
    state = jax.lax.while_loop(
        going, body, (0, begin_B.astype(jnp.int32), *begun, jnp.zeros(batch))
    )
    *_, tokens, length, total = state
    return Decoded(tokens, length, total, total)


def beam_search(
    step: Step,
    carry: Any,
    begin_B: jax.Array,
    width: int,
    steps: int,
    end: int,
    alpha: float = 0.0,
    pad: int = 0,
) -> Decoded:
    """The `width` sequences of the highest score that a beam of that width finds (Sutskever,
    Vinyals & Le 2014, arXiv:1409.3215, section 3.2); the score is the log-probability divided by
    `length_penalty`.

    Each beginning in the beam is extended by every token. Of all these the `width` likeliest are
    looked at: one that closes is complete, leaves the beam, and is kept if its score is among the
    `width` highest so far. The beam is filled up with the likeliest that do not close, so that it
    always holds `width` beginnings (the paper does not say whether its beam shrinks; each beginning
    can close in one way only, so 2·width candidates are enough). After T steps the beginnings in
    the beam compete with the complete sequences by their score.

    The search stops early only when no beginning can come among the kept sequences any more:
    log-probabilities only fall, so that of the likeliest beginning, divided by the penalty at the
    longest length T, bounds all scores to come. The result is therefore that of T steps, and
    nothing complete that was looked at has a higher score than the first sequence.

    With a width of 1 the first sequence has at least the score of the greedy one, and for α = 0 it
    is the greedy one (up to ties): what goes on after the greedy choice closed is less likely
    already. With more candidates than sequences at every step it is the best of all. For widths
    between it may be worse than the greedy one, whose beginning can drop out of the beam.

    Where fewer than `width` sequences exist, the last have a score of -inf and no meaning. Raises
    ValueError for a negative α, under which the bound does not hold."""
    if alpha < 0:
        raise ValueError(f"the length penalty's alpha is {alpha}; expected at least 0")
    batch, rows = len(begin_B), jnp.arange(len(begin_B))[:, None]

    def fold(tree):
        return jax.tree.map(lambda x: x.reshape(batch * width, *x.shape[2:]), tree)

    def unfold(tree):
        return jax.tree.map(lambda x: x.reshape(batch, width, *x.shape[1:]), tree)

    def pick(tree, place):
        return jax.tree.map(lambda x: x[rows, place], tree)

    longest = length_penalty(steps, alpha)

    def keep(kept, more):
        """The `width` of the highest score of both; of equal ones those of `kept`."""
        both = jax.tree.map(lambda *pair: jnp.concatenate(pair, axis=1), kept, more)
        return pick(both, jax.lax.top_k(both.score, width)[1])

    def going(state):
        t, _, _, _, total, kept = state
        return (t < steps) & (total.max(1) / longest > kept.score.min(1)).any()

    def body(state):
        t, token, carry, tokens, total, kept = state
        logits, carry = step(fold(carry), token.reshape(-1))
        reached = total[..., None] + unfold(jax.nn.log_softmax(logits.astype(jnp.float32)))
        vocabulary = reached.shape[-1]
        reached, place = jax.lax.top_k(reached.reshape(batch, -1), min(2, vocabulary) * width)
        parent, chosen = place // vocabulary, (place % vocabulary).astype(jnp.int32)
        extended, closed = pick(tokens, parent).at[:, :, t].set(chosen), chosen == end
        # Not a slice of the candidates: one of a result of top_k makes XLA on the CPU sort the
        #   whole vocabulary.
        complete = closed & (jnp.arange(closed.shape[1]) < width)[None]
        score = jnp.where(complete, reached / length_penalty(t + 1, alpha), -jnp.inf)
        kept = keep(kept, Decoded(extended, jnp.full_like(chosen, t + 1), reached, score))
        total, place = jax.lax.top_k(jnp.where(closed, -jnp.inf, reached), width)
        token, tokens, parent = pick((chosen, extended, parent), place)
        return t + 1, token, pick(unfold(carry), parent), tokens, total, kept

    def wide(x):
        return jnp.broadcast_to(x[:, None], (batch, width, *x.shape[1:]))

    tokens, nothing = (
        jnp.full((batch, width, steps), pad, jnp.int32),
        jnp.full((batch, width), -jnp.inf),
    )
    kept = Decoded(tokens, jnp.zeros((batch, width), jnp.int32), nothing, nothing)
    begun = (
        0,
        wide(begin_B.astype(jnp.int32)),
        jax.tree.map(wide, carry),
        tokens,
        nothing.at[:, 0].set(0),
        kept,
    )
    t, *_, tokens, total, kept = jax.lax.while_loop(going, body, begun)
    return keep(
        kept, Decoded(tokens, jnp.full((batch, width), t, jnp.int32), total, total / longest)
    )


class Search(NamedTuple):
    """How a network writes that has `encode(*inputs) -> carry` and `next`, a step of a decoder.

    begin, end: tokens. steps: number of tokens of the longest sequence. alpha: of the length
    penalty of beams.
    """

    network: nn.Module
    begin: int
    end: int
    steps: int
    alpha: float = 0.0

    def __call__(self, variables: Any, carry: Any, width: int = 1) -> jax.Array:
        """Tokens (B, T), the best of a beam of this width; a width of 1 is greedy."""

        def step(carry, token):
            return self.network.apply(variables, carry, token, method="next")

        begin = jnp.full(len(jax.tree.leaves(carry)[0]), self.begin, jnp.int32)
        if width == 1:
            return greedy(step, carry, begin, self.steps, self.end).token
        given = width, self.steps, self.end, self.alpha
        return beam_search(step, carry, begin, *given).token[:, 0]

    def functions(self, *inputs: str) -> dict[str, Callable[..., Any]]:
        """Functions of a learner, for what the network reads under these names in a batch: `write`,
        tokens (B, T) by a beam of `width`; and `attend`, weights (B, T, S) of what was looked at
        while `token` (B, T) was written."""

        def write(variables, batch, width=1):
            given = [batch[name] for name in inputs]
            return self(variables, self.network.apply(variables, *given, method="encode"), width)

        def attend(variables, batch):
            token = batch["token"]
            fed = jnp.concatenate([jnp.full_like(token[:, :1], self.begin), token[:, :-1]], 1)
            return self.network.apply(variables, *(batch[name] for name in inputs), fed)[1]

        return {"write": write, "attend": attend}


greedy = partial(sample, temperature=0.0)

"""From a network that says what comes next to whole sequences: greedy, by sampling, by beam search; compiled, for all decoders.

Axes: B batch, W width of the beam, T steps, V vocabulary. A decoder is `step(carry, token (B,)) -> (logits (B, V), carry)`, its
carry a tree of (B, …). Sequences are counted and scored with the `end` that closes them; behind it they hold `pad`. One that is
not closed after T steps is taken as it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advdl.nn import replica

Step = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


class Decoded(NamedTuple):
    """token: int32 (B, T), or (B, W, T), the best first. length: of each, (B,) or (B, W). log_probability: of each as a whole,
    in nats, float32. score: the same divided by the length's penalty, by which beams are ranked."""

    token: jax.Array
    length: jax.Array
    log_probability: jax.Array
    score: jax.Array


def length_penalty(length: jax.Array, alpha: float) -> jax.Array:
    """((5 + length) / 6)^α (Wu et al. 2016, arXiv:1609.08144, equation 14); α = 0 is none."""
    return ((5 + length.astype(jnp.float32)) / 6) ** alpha


def restrict(logits_BV: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """Logits with -inf for what is not among the k largest (0: all are), nor in the nucleus, the smallest set of the likeliest
    tokens with a probability of at least p together (Holtzman et al. 2019, arXiv:1904.09751, section 3.1)."""
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
    """One sequence for each of the batch, token by token: the likeliest (temperature 0), or drawn from softmax(logits /
    temperature), restricted by `top_k` and `top_p`. The log-probability is that of the network's own softmax. key: for drawing;
    what is drawn depends on an example's place in the batch and on the step."""
    if temperature and key is None:
        raise ValueError("sampling at a temperature needs a key")

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
                lambda key: jax.random.gumbel(key, logits.shape[1:]), jax.random.fold_in(key, t), len(logits)
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
    begun = jnp.zeros(batch, bool), carry, jnp.full((batch, steps), pad, jnp.int32), jnp.zeros(batch, jnp.int32)
    state = jax.lax.while_loop(going, body, (0, begin_B.astype(jnp.int32), *begun, jnp.zeros(batch)))
    *_, tokens, length, total = state
    return Decoded(tokens, length, total, total)


def beam_search(
    step: Step, carry: Any, begin_B: jax.Array, width: int, steps: int, end: int, alpha: float = 0.0, pad: int = 0
) -> Decoded:
    """The best sequences found by keeping `width` beginnings at every step, ranked by the log-probability divided by
    `length_penalty`; a closed one keeps its place in the beam while it is among the best. A width of 1 is the greedy choice."""
    batch, rows = len(begin_B), jnp.arange(len(begin_B))[:, None]
    fold = lambda tree: jax.tree.map(lambda x: x.reshape(batch * width, *x.shape[2:]), tree)  # noqa: E731
    unfold = lambda tree: jax.tree.map(lambda x: x.reshape(batch, width, *x.shape[1:]), tree)  # noqa: E731
    pick = lambda tree, parent: jax.tree.map(lambda x: x[rows, parent], tree)  # noqa: E731

    def going(state):
        t, _, ended, *_ = state
        return (t < steps) & ~ended.all()

    def body(state):
        t, token, ended, carry, tokens, length, total = state
        logits, carry = step(fold(carry), token.reshape(-1))
        own = unfold(jax.nn.log_softmax(logits.astype(jnp.float32)))
        vocabulary = own.shape[-1]
        stay = jnp.where(jnp.arange(vocabulary) == pad, 0.0, -jnp.inf).reshape(1, 1, -1)
        reached = total[..., None] + jnp.where(ended[..., None], stay, own)
        new_length = length + ~ended
        ranked = reached / length_penalty(new_length, alpha)[..., None]
        _, place = jax.lax.top_k(ranked.reshape(batch, -1), width)
        parent, chosen = place // vocabulary, (place % vocabulary).astype(jnp.int32)
        total = jnp.take_along_axis(reached.reshape(batch, -1), place, axis=1)
        ended, length, tokens, carry = pick((ended, new_length, tokens, unfold(carry)), parent)
        tokens = tokens.at[:, :, t].set(chosen)
        return t + 1, chosen, ended | (chosen == end), carry, tokens, length, total

    wide = lambda x: jnp.broadcast_to(x[:, None], (batch, width, *x.shape[1:]))  # noqa: E731
    first = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)[None]
    shape, begun = (batch, width), (0, wide(begin_B.astype(jnp.int32)))
    empty = jnp.full((*shape, steps), pad, jnp.int32), jnp.zeros(shape, jnp.int32), jnp.broadcast_to(first, shape)
    state = (*begun, jnp.zeros(shape, bool), jax.tree.map(wide, carry), *empty)
    *_, tokens, length, total = jax.lax.while_loop(going, body, state)
    score = total / length_penalty(length, alpha)
    order = jnp.argsort(-score, axis=1)
    return Decoded(*pick((tokens, length, total, score), order))


def forced(step: Step, carry: Any, begin_B: jax.Array, token_BT: jax.Array, length_B: jax.Array) -> jax.Array:
    """Log-probability (B,) of given sequences, of which `length` tokens count."""

    def body(state, item):
        carry, token, total = state
        t, wanted = item
        logits, carry = step(carry, token)
        own = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), wanted[:, None], axis=1)[:, 0]
        return (carry, wanted, total + jnp.where(t < length_B, own, 0)), None

    items = jnp.arange(token_BT.shape[1]), token_BT.T
    (_, _, total), _ = jax.lax.scan(body, (carry, begin_B.astype(token_BT.dtype), jnp.zeros(len(begin_B))), items)
    return total


greedy = partial(sample, temperature=0.0)

"""Decoding: greedy, sampled, by beam; against exhaustive search and forced decoding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import decoding

VOCABULARY, END, STEPS, BATCH = 4, 3, 4, 3
RNG = np.random.default_rng(0)
TABLE = jnp.asarray(RNG.normal(0, 1.5, (BATCH, STEPS, VOCABULARY, VOCABULARY)), jnp.float32)


def step(carry, token):
    """A decoder whose logits depend on the example, the step and the last two tokens."""
    table, t, before = carry
    rows = jnp.arange(len(token))
    logits = table[rows, t, token] + 0.5 * table[rows, t, before][:, ::-1]
    return logits, (table, t + 1, token)


CARRY = TABLE, jnp.zeros(BATCH, jnp.int32), jnp.zeros(BATCH, jnp.int32)
BEGIN = jnp.zeros(BATCH, jnp.int32)


def every_sequence():
    """All closed ones of at most STEPS tokens and all of STEPS that are not closed."""
    for length in range(1, STEPS + 1):
        for tokens in itertools.product(range(VOCABULARY), repeat=length):
            if END not in tokens[:-1] and (tokens[-1] == END or length == STEPS):
                yield tokens


@functools.cache
def scored():
    """(tokens, lengths, log-probability (B, N)) of all, by forced decoding."""
    sequences = list(every_sequence())
    tokens = jnp.asarray([[*s, *[0] * (STEPS - len(s))] for s in sequences], jnp.int32)
    lengths = jnp.asarray([len(s) for s in sequences])
    force = jax.jit(lambda token, length: decoding.forced(
        step, CARRY, BEGIN, jnp.broadcast_to(token, (BATCH, STEPS)), jnp.broadcast_to(length, (BATCH,))
    ))  # fmt: skip
    return sequences, lengths, jnp.stack([force(t, n) for t, n in zip(tokens, lengths, strict=True)], 1)


def test_all_sequences_share_one_probability():
    np.testing.assert_allclose(jnp.exp(scored()[2]).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_wide_beam_is_exhaustive_search(alpha):
    sequences, lengths, total = scored()
    found = jax.jit(lambda: decoding.beam_search(step, CARRY, BEGIN, 200, STEPS, END, alpha))()
    wanted = np.asarray(total / decoding.length_penalty(lengths, alpha)[None])
    for b in range(BATCH):
        order = np.argsort(-wanted[b], kind="stable")
        best = [tuple(np.asarray(found.token[b, n])[: int(found.length[b, n])]) for n in range(len(sequences))]
        assert best[:20] == [sequences[n] for n in order[:20]]
        np.testing.assert_allclose(found.score[b, : len(sequences)], wanted[b][order], atol=1e-4)


def test_a_beam_of_one_is_greedy():
    one = jax.jit(lambda: decoding.beam_search(step, CARRY, BEGIN, 1, STEPS, END, 0.6))()
    other = jax.jit(lambda: decoding.greedy(step, CARRY, BEGIN, STEPS, END))()
    np.testing.assert_array_equal(one.token[:, 0], other.token)
    np.testing.assert_array_equal(one.length[:, 0], other.length)
    np.testing.assert_allclose(one.log_probability[:, 0], other.log_probability, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_score_is_that_of_forced_decoding(width):
    found = decoding.beam_search(step, CARRY, BEGIN, width, STEPS, END, 1.0)
    for n in range(width):
        again = decoding.forced(step, CARRY, BEGIN, found.token[:, n], found.length[:, n])
        np.testing.assert_allclose(found.log_probability[:, n], again, rtol=1e-5)
        np.testing.assert_allclose(found.score[:, n], again / decoding.length_penalty(found.length[:, n], 1.0), rtol=1e-5)
    assert (np.diff(np.asarray(found.score), axis=1) <= 1e-6).all()


def test_greedy_takes_the_likeliest_and_stops_at_the_end():
    found = decoding.greedy(step, CARRY, BEGIN, STEPS, END)
    carry, token, ended = CARRY, BEGIN, np.zeros(BATCH, bool)
    for t in range(STEPS):
        logits, carry = step(carry, token)
        token = jnp.where(ended, 0, logits.argmax(-1))
        np.testing.assert_array_equal(found.token[:, t], token)
        ended |= np.asarray(token) == END
    assert (np.asarray(found.length) <= STEPS).all()


def test_samples_follow_the_probabilities_at_their_temperature():
    logits = jnp.asarray([[0.5, 1.5, -1.0, 0.0]])
    alike = lambda carry, token: (jnp.broadcast_to(logits, (len(token), 4)), carry)  # noqa: E731
    for temperature, top_k, top_p in ((1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 2, 1.0), (1.0, 0, 0.6)):
        draw = lambda key, options=(temperature, top_k, top_p): decoding.sample(  # noqa: E731
            alike, (), jnp.zeros(20_000, jnp.int32), 1, END, key, *options
        )
        token = np.asarray(jax.jit(draw)(jax.random.key(0)).token[:, 0])
        wanted = jax.nn.softmax(decoding.restrict(logits / temperature, top_k, top_p))[0]
        np.testing.assert_allclose(np.bincount(token, minlength=4) / len(token), wanted, atol=0.012)
    with pytest.raises(ValueError, match="needs a key"):
        decoding.sample(alike, (), jnp.zeros(1, jnp.int32), 1, END, temperature=1.0)


def test_the_nucleus_is_the_smallest_set_that_suffices():
    logits = jnp.log(jnp.asarray([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]))
    kept = lambda p, k=0: np.isfinite(np.asarray(decoding.restrict(logits, k, p))).tolist()  # noqa: E731
    assert kept(0.75) == [[True, True, False, False], [False, True, True, True]]
    assert kept(0.45) == [[True, False, False, False], [False, False, True, True]]
    assert kept(1.0, 1) == [[True, False, False, False], [False, False, False, True]]
    assert kept(1e-9) == [[True, False, False, False], [False, False, False, True]]  # never nothing

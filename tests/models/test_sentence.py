"""Sentence classifiers: padding changes nothing, every pool is what it says, and words' weights add
up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models

KEY, LENGTH = jax.random.key(0), np.array([4, 1, 6], np.int32)


def network(pool, **others):
    return models.SentenceClassifier(3, 12, embedding=5, features=4, pool=pool, **others)


@functools.cache
def made(pool, **others):
    """The module, its variables and what computes it, compiled."""
    module = network(pool, **others)
    return module, jax.jit(module.init)(KEY, given(6), LENGTH), jax.jit(module.apply)


def given(steps, content=0):
    """Three sentences, padded to so many words by what is asked for."""
    token = np.random.default_rng(1).integers(4, 12, (3, 6)).astype(np.int32)
    whole = np.full((3, steps), content, np.int32)
    for row, (words, length) in enumerate(zip(token, LENGTH, strict=True)):
        whole[row, :length] = words[:length]
    return whole


@pytest.mark.parametrize(
    "pool",
    [
        "max",
        *(pytest.param(each, marks=pytest.mark.slow) for each in models.POOLS if each != "max"),
    ],
)
def test_any_padding_changes_nothing_in_training(pool):
    """Dropped are the same words and numbers, too."""
    module = network(pool, layers=2 if pool == "last" else 1, word_dropout=0.3, dropout=0.3)
    variables = jax.jit(module.init)(KEY, given(6), LENGTH)

    def loss(variables, token):
        logits, found = module.apply(
            variables, token, LENGTH, True, rngs={"dropout": jax.random.key(3)}
        )
        return jnp.square(logits - 1).sum(), (logits, found["weights"])

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (logits, weights)), gradient = run(variables, given(6))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    for steps, content in ((6, 7), (11, 9)):
        (_, (other_logits, other_weights)), other = run(variables, given(steps, content))
        np.testing.assert_allclose(other_logits, logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(other_weights[:, :6], weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(other_weights[:, 6:], 0)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), other, gradient
        )


@pytest.mark.parametrize(
    "pool",
    [
        each if each in ("last", "attention") else pytest.param(each, marks=pytest.mark.slow)
        for each in models.POOLS
    ],
)
def test_weights_are_shares_of_real_words(pool):
    _, variables, apply = made(pool)
    weights = np.asarray(apply(variables, given(8, 5), LENGTH)[1]["weights"])
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert (np.asarray(weights)[np.arange(8) >= LENGTH[:, None]] == 0).all()
    logits, found = apply(variables, given(6), np.array([0, 1, 6], np.int32))
    assert np.isfinite(logits).all() and (np.asarray(found["weights"][0]) == 0).all()


@pytest.mark.parametrize("pool", ["last", "max", "mean"])
def test_a_pool_is_that_of_the_states_of_real_words(pool):
    _, variables, apply = made(pool)
    logits, found = apply(variables, given(6), LENGTH)
    answer = variables["params"]["answer"]
    for row, (states, length) in enumerate(zip(np.asarray(found["states"]), LENGTH, strict=True)):
        real = states[:length]
        ends = np.concatenate([real[-1, :4], real[0, 4:]])
        pooled = {"last": ends, "max": real.max(0), "mean": real.mean(0)}[pool]
        np.testing.assert_allclose(
            logits[row], pooled @ answer["kernel"] + answer["bias"], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("pool", models.POOLS)
def test_the_order_of_words_counts(pool):
    _, variables, apply = made(pool)
    token, last = given(6), given(6)
    last[2] = last[2, ::-1]  # the one without padding
    there, back = (np.asarray(apply(variables, x, LENGTH)[0]) for x in (token, last))
    assert np.abs(there - back)[2].max() > 1e-4
    np.testing.assert_array_equal(there[:2], back[:2])


def test_contributions_add_up_to_the_margin_over_a_sentence_of_zeros():
    module, variables, _ = made("attention")
    variables = jax.tree.map(lambda x: 2 * np.asarray(x), variables)
    said = np.array([2, 0, 1])
    share = models.contributions(module, variables, given(8, 7), LENGTH, said, points=64)
    x = np.asarray(jax.jit(functools.partial(module.apply, method="embed"))(variables, given(8, 7)))
    read = jax.jit(functools.partial(module.apply, method="read"))
    own = [read(variables, value, LENGTH)[0] for value in (x, 0 * x)]

    def margin(logits):
        return 1.5 * np.take_along_axis(logits, said[:, None], 1)[:, 0] - logits.sum(1) / 2

    expected = margin(np.asarray(own[0])) - margin(np.asarray(own[1]))
    np.testing.assert_allclose(np.asarray(share).sum(1), expected, atol=2e-3)
    assert (
        np.abs(expected).min() > 0.02
        and (np.asarray(share)[np.arange(8) >= LENGTH[:, None]] == 0).all()
    )


def test_dropped_words_are_unknown_and_only_in_training():
    module = network("mean", word_dropout=1.0 - 1e-7)
    variables = jax.jit(module.init)(KEY, given(6), LENGTH)
    dropped = module.apply(variables, given(6), train=True, rngs={"dropout": KEY}, method="embed")
    np.testing.assert_array_equal(
        dropped, np.broadcast_to(variables["params"]["table"]["embedding"][1], dropped.shape)
    )
    kept = module.apply(variables, given(6), method="embed")
    np.testing.assert_array_equal(
        kept, np.asarray(variables["params"]["table"]["embedding"])[given(6)]
    )


def test_another_pool_is_told():
    with pytest.raises(ValueError, match="no pool 'meen'; there are last, max, mean, attention"):
        network("meen").init(KEY, given(6))

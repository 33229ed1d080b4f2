"""Sequence to sequence: padding without effect, the way back through it, what it is fed, and the step that decoding takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import decoding, seq2seq
from advdl.nn import remat

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SOURCE, LENGTH = jnp.asarray(RNG.integers(4, 9, (3, 5)), jnp.int32), jnp.array([5, 2, 1])
TARGET = jnp.asarray(RNG.integers(4, 8, (3, 4)), jnp.int32).at[:, 0].set(2)


def made(attention="additive", **options):
    network = seq2seq.Translator(9, 8, embedding=6, features=5, attention=attention, **options)
    return network, network.init(KEY, SOURCE, LENGTH, TARGET)


@pytest.mark.parametrize("attention", seq2seq.ATTENTION)
def test_padding_of_the_source_changes_nothing(attention):
    network, variables = made(attention)

    def total(variables, source):
        logits, weights = network.apply(variables, source, LENGTH, TARGET)
        return jnp.square(logits).sum(), (logits, weights)

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    dirty = jnp.where(jnp.arange(7)[None] < LENGTH[:, None], jnp.pad(SOURCE, ((0, 0), (0, 2))), 8)
    (_, (logits, weights)), gradient = run(variables, SOURCE)
    (_, (other, longer)), again = run(variables, dirty)
    np.testing.assert_allclose(other, logits, atol=1e-5)
    np.testing.assert_allclose(longer[..., :5], weights, atol=1e-6)
    assert not np.asarray(longer[..., 5:]).any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, again)


@pytest.mark.parametrize("attention", seq2seq.ATTENTION)
def test_an_answer_depends_on_nothing_later_and_on_the_source(attention):
    network, variables = made(attention)
    answer = jax.jit(lambda source, target: network.apply(variables, source, LENGTH, target)[0])
    before, after = answer(SOURCE, TARGET), answer(SOURCE, TARGET.at[:, 2:].set(3))
    np.testing.assert_allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert np.abs(before[:, 2:] - after[:, 2:]).max() > 1e-4
    assert np.abs(answer((SOURCE + 1) % 9, TARGET) - before).max() > 1e-4


@pytest.mark.parametrize("attention", seq2seq.ATTENTION)
def test_steps_one_by_one_are_the_whole(attention):
    network, variables = made(attention)
    logits, _ = network.apply(variables, SOURCE, LENGTH, TARGET)
    carry = network.apply(variables, SOURCE, LENGTH, method="encode")
    for t in range(TARGET.shape[1]):
        own, carry = network.apply(variables, carry, TARGET[:, t], method="next")
        np.testing.assert_allclose(own, logits[:, t], atol=1e-5)


def test_a_step_that_keeps_its_products_alone_takes_less_memory_for_the_same_gradient():
    """Additive attention makes a value for each pair of a target's and a source's token: those are not all there at once."""
    network = seq2seq.Translator(9, 8, embedding=6, features=32)
    source, length, target = jnp.full((4, 256), 5), jnp.full(4, 250), jnp.full((4, 32), 3)
    variables = network.init(KEY, source, length, target)

    def compiled(way):
        total = lambda variables: jnp.square(network.apply(variables, source, length, target)[0]).sum()  # noqa: E731
        return jax.jit(jax.grad(remat.WAYS[way](total))).lower(variables).compile()

    whole, less = compiled("none"), compiled("products")
    assert "f32[32,4,256,32]" in whole.as_text() and "f32[32,4,256,32]" not in less.as_text()
    pairs = 4 * 32 * 256 * 32 * 4  # bytes of one value for each
    assert whole.memory_analysis().temp_size_in_bytes - less.memory_analysis().temp_size_in_bytes > pairs
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole(variables), less(variables))


def test_what_is_fed_is_what_the_probability_says():
    """0 is teacher forcing, 1 free running, in between each token has a coin of its own."""
    network, variables = made()
    apply = jax.jit(
        lambda share, key: network.apply(variables, SOURCE, LENGTH, TARGET, sampling=share, rngs={"sampling": key})[0]
    )
    forced, _ = network.apply(variables, SOURCE, LENGTH, TARGET)
    np.testing.assert_allclose(apply(jnp.float32(0), KEY), forced, atol=1e-6)
    carry = network.apply(variables, SOURCE, LENGTH, method="encode")
    free = decoding.greedy(
        lambda carry, token: network.apply(variables, carry, token, method="next"), carry, TARGET[:, 0], 4, end=-1
    )  # fmt: skip
    np.testing.assert_array_equal(apply(jnp.float32(1), KEY).argmax(-1), free.token)
    some = np.stack([apply(jnp.float32(0.5), jax.random.key(n)) for n in range(8)])
    np.testing.assert_allclose(some[:, :, 0], np.broadcast_to(forced[:, 0], some[:, :, 0].shape), atol=1e-6)
    assert len(np.unique(some[:, 0, 3, 0].round(5))) > 2  # not one coin for the whole sequence


def test_dropout_is_for_training():
    network, variables = made(dropout=0.5)
    clean = [network.apply(variables, SOURCE, LENGTH, TARGET)[0] for _ in range(2)]
    np.testing.assert_array_equal(*clean)
    noisy = network.apply(variables, SOURCE, LENGTH, TARGET, train=True, rngs={"dropout": KEY})[0]
    assert np.abs(noisy - clean[0]).max() > 1e-3

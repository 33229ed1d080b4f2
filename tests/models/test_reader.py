"""Networks that read sequences: no leak from the future or from padding; parity by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models
from advdl.nn import RNN

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "network",
    [models.Reader(3, "gru", 5, layers=2), models.Window(3, 4, (6,))],
    ids=["reader", "window"],
)
def test_an_answer_depends_on_what_was_read_and_on_nothing_later(network):
    x = np.random.default_rng(0).standard_normal((2, 9, 2)).astype(np.float32)
    variables = network.init(KEY, x)
    answer = jax.jit(lambda x: network.apply(variables, x)[0])
    changed = x.copy()
    changed[:, 5:] = 7
    before, after = answer(x), answer(changed)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (np.asarray(before[:, 5:]) != np.asarray(after[:, 5:])).all()
    assert before.shape == (2, 9, 3)


def test_a_window_sees_what_it_spans_and_no_more():
    network = models.Window(2, 3, (8,))
    x = np.random.default_rng(0).standard_normal((1, 8, 2)).astype(np.float32)
    variables = network.init(KEY, x)
    gradient = jax.jit(jax.grad(lambda x: jnp.square(network.apply(variables, x)[0][0, 6]).sum()))(
        x
    )
    assert (
        set(np.flatnonzero(np.abs(gradient[0]).sum(1))) <= {4, 5, 6}
        and np.abs(gradient[0, 4]).sum() > 0
    )


def test_two_units_set_by_hand_know_the_parity_at_any_length():
    """h1 = carry and not bit, h2 = bit and not carry: their sum is the new carry."""

    def step(x):
        return (x > 0).astype(jnp.float32)

    layer = RNN(2, activation=step)
    weights = {
        "kernel": [[-2.0, 2.0]],
        "recurrent": [[2.0, -2.0], [2.0, -2.0]],
        "bias": [-1.0, -1.0],
    }
    bits = np.random.default_rng(0).integers(0, 2, (8, 500))
    x = jnp.asarray(bits, jnp.float32)[..., None]
    y, _ = jax.jit(layer.apply)(
        {"params": jax.tree.map(jnp.asarray, weights, is_leaf=lambda v: isinstance(v, list))}, x
    )
    np.testing.assert_array_equal(y.sum(-1), np.cumsum(bits, 1) % 2)


def test_the_end_is_the_last_real_step():
    y = jnp.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(models.at_end(y), [[4, 5], [10, 11]])
    np.testing.assert_array_equal(models.at_end(y, jnp.array([2, 0])), [[2, 3], [0, 0]])

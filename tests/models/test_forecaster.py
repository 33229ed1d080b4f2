"""Forecasters: persistence before the first update, one decoder two ways, and shifts with the
history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models

RANDOM = np.random.default_rng(0)
HISTORY = RANDOM.standard_normal((3, 10)).astype(np.float32)
FUTURE = RANDOM.standard_normal((3, 5)).astype(np.float32)
DECODERS = pytest.mark.parametrize("decoder", ["direct", "autoregressive"])


def grown(network):
    """Variables that are not those of the beginning."""
    variables = network.init(jax.random.key(0), HISTORY, FUTURE)
    return jax.tree.map(
        lambda x: x + 0.3 * np.random.default_rng(1).standard_normal(x.shape).astype(np.float32),
        variables,
    )


@DECODERS
def test_before_the_first_update_it_is_persistence(decoder):
    network = models.Forecaster(5, decoder, features=4)
    variables = network.init(jax.random.key(0), HISTORY, FUTURE)
    np.testing.assert_array_equal(
        network.apply(variables, HISTORY), np.repeat(HISTORY[:, -1:], 5, 1)
    )


@DECODERS
@pytest.mark.parametrize("layers", [1, 2])
def test_a_forecast_shifts_with_the_history(decoder, layers):
    network = models.Forecaster(5, decoder, features=4, layers=layers)
    variables = grown(network)
    before = np.asarray(network.apply(variables, HISTORY))
    assert before.shape == (3, 5) and np.ptp(before, axis=1).min() > 0.01
    np.testing.assert_allclose(network.apply(variables, HISTORY + 8), before + 8, atol=1e-5)


def test_free_running_is_teacher_forcing_by_its_own_forecasts():
    network = models.Forecaster(5, "autoregressive", features=4)
    variables = grown(network)
    own = network.apply(variables, HISTORY)
    assert np.ptp(own, axis=1).min() > 0.01
    np.testing.assert_allclose(network.apply(variables, HISTORY, own), own, atol=1e-6)
    assert np.abs(network.apply(variables, HISTORY, FUTURE)[:, 1:] - own[:, 1:]).min() > 1e-4


def test_a_step_is_told_what_came_before_it_and_nothing_later():
    network = models.Forecaster(5, "autoregressive", features=4)
    variables = grown(network)
    changed = FUTURE.copy()
    changed[:, 2:] += 3
    before, after = (
        np.asarray(network.apply(variables, HISTORY, future)) for future in (FUTURE, changed)
    )
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).all()


def test_what_came_does_not_reach_a_direct_forecast():
    network = models.Forecaster(5, features=4)
    variables = grown(network)
    np.testing.assert_array_equal(
        network.apply(variables, HISTORY), network.apply(variables, HISTORY, FUTURE)
    )


@pytest.mark.slow
def test_half_precision_keeps_the_last_value_whole():
    network = models.Forecaster(5, features=4, dtype=jnp.bfloat16)
    variables = network.init(jax.random.key(0), HISTORY)
    found = network.apply(variables, HISTORY)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[:, 0], HISTORY[:, -1])

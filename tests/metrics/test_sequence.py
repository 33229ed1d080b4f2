"""Means step by step."""

import jax.numpy as jnp
import numpy as np
import pytest

from advdl import metrics
from advdl.metrics import ByStep


def test_a_mean_for_every_step_adds_up_over_batches():
    value = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    whole = ByStep.of(jnp.asarray(value))
    np.testing.assert_allclose(whole.compute(), value.mean(0), rtol=1e-6)
    parts = metrics.merge(ByStep.of(jnp.asarray(value[:2])), ByStep.of(jnp.asarray(value[2:])))
    np.testing.assert_allclose(parts.compute(), value.mean(0), rtol=1e-6)


def test_what_is_masked_does_not_count_not_even_where_it_is_nan():
    value = jnp.array([[1.0, np.nan], [3.0, 5.0]])
    np.testing.assert_array_equal(ByStep.of(value, jnp.array([[1, 0], [1, 1]])).compute(), [2, 5])
    found = ByStep.of(value, jnp.array([0, 0])).compute()
    assert np.isnan(found).all()
    with pytest.raises(ValueError, match="mask"):
        ByStep.of(value, jnp.ones(3))

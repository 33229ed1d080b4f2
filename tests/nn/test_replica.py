"""Noise that belongs to an example's row in its data set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.nn import replica


@pytest.mark.slow
def test_what_is_drawn_by_index_does_not_depend_on_the_batch():
    scale = jnp.arange(1.0, 7)

    def draw(key, own):
        return own * jax.random.normal(key, (3,))

    whole = jax.jit(lambda index, scale: replica.sample_by_index(draw, index, scale))
    rows = jnp.arange(6)
    found = whole(rows, scale)
    np.testing.assert_array_equal(whole(rows[::-1], scale[::-1]), found[::-1])
    np.testing.assert_array_equal(whole(rows[2:4], scale[2:4]), found[2:4])
    noise = np.asarray(found / scale[:, None])
    assert len({tuple(row) for row in noise.round(4)}) == 6
    own = jax.random.normal(jax.random.fold_in(jax.random.key(0), 4), (3,))
    np.testing.assert_allclose(noise[4], own, rtol=1e-6)

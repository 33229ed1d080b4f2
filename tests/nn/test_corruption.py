"""Noise on images: how much of which kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.errors import UserError
from advdl.nn import Corruption, replica


@pytest.mark.parametrize("kind", ["gaussian", "masking", "salt_pepper"])
def test_noise_is_of_the_kind_and_share_that_is_asked_for(kind):
    """Vincent et al. 2008 replace a fixed number of values, νd, and leave the others untouched."""
    shape, amount = (9, 7, 3), 0.3
    noise = Corruption(kind, amount)
    x = np.random.default_rng(0).uniform(0.1, 0.9, (200, *shape)).astype(np.float32)
    made = np.asarray(jax.jit(replica.sample_by_index, static_argnums=0)(noise, jnp.arange(200), x))
    changed = made != x
    if kind == "gaussian":
        assert noise.deviation == amount
        assert (made - x).std() == pytest.approx(amount, rel=0.02)
        assert (made - x).mean() == pytest.approx(0, abs=0.01)
        return
    assert noise.deviation == 0
    assert (changed.sum((1, 2, 3)) == round(amount * 9 * 7 * 3)).all()
    np.testing.assert_allclose(
        changed.mean(0), amount, atol=5 * np.sqrt(amount * (1 - amount) / len(x))
    )  # every place alike
    assert not np.array_equal(changed[0], changed[1])
    values = made[changed]
    assert set(values) == ({0.0} if kind == "masking" else {0.0, 1.0})
    assert kind == "masking" or values.mean() == pytest.approx(0.5, abs=0.02)


def test_no_noise_leaves_an_image_as_it_is_and_a_share_is_at_most_one():
    x = jnp.ones((2, 2, 1))
    assert (Corruption()(jax.random.key(0), x) == x).all()
    for amount in (0.0, 1.5):
        with pytest.raises(UserError, match=f"--noise is {amount}.*--noise-kind masking"):
            Corruption("masking", amount)

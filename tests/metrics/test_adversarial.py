"""Statistics of two players."""

import jax.numpy as jnp
import numpy as np
import pytest

from advdl import metrics


def test_statistics_of_a_discriminator_are_their_formulas():
    """D(x) is 3/4 and 1/4, D(G(z)) 1/2 and 1/4: it tells one example and one sample right, and a
    probability of 1/2 is not right."""
    real, fake = jnp.log(jnp.array([3.0, 1 / 3])), jnp.log(jnp.array([1.0, 1 / 3]))
    found = metrics.compute(metrics.adversarial(real, fake))
    value = np.log([0.75, 0.25]).mean() + np.log([0.5, 0.75]).mean()
    assert found == pytest.approx(
        {"value": value, "d_real": 0.5, "d_fake": 0.375, "d_accuracy": 0.5}, rel=1e-6
    )


def test_a_masked_pair_counts_for_nothing():
    real, fake = jnp.array([1.0, 50.0]), jnp.array([-1.0, 50.0])
    found = metrics.adversarial(real, fake, jnp.array([1.0, 0.0]))
    assert metrics.compute(found) == metrics.compute(metrics.adversarial(real[:1], fake[:1]))


def test_variety_is_the_mean_square_between_neighbors():
    images = jnp.arange(5.0).reshape(5, 1, 1, 1) ** 2 * jnp.ones((1, 2, 2, 3))
    found = metrics.compute(metrics.varieties(images, jnp.ones((4, 2, 2, 1))))
    expected = {"variety_data": (1**2 + (9 - 4) ** 2) / 2, "variety_samples": 0}
    assert found == pytest.approx(expected)


def test_a_version_is_preferred_to_the_one_before_it_where_its_logit_is_higher():
    logits = {"a": jnp.array([0.0, 0.0, 0.0]), "b": jnp.array([1.0, -1.0, 9.0]), "c": jnp.zeros(3)}
    found = metrics.compute(metrics.preferences(logits, jnp.array([1.0, 1.0, 0.0])))
    assert found == {"b_to_a": 0.5, "c_to_b": 0.5}

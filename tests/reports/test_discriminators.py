"""Discriminators that are trained to measure something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import data, metrics, models
from advdl.models import mlp
from advdl.reports import discriminators

NORMAL = data.MIXTURES["normal"]
CRITIC = mlp.Discriminator(tuple(NORMAL.mean), tuple(NORMAL.std), (64, 64, 64))


@pytest.mark.experiments
def test_two_samples_of_one_distribution_cannot_be_told_apart_and_two_others_can():
    random = np.random.default_rng(0)
    real, same = random.normal(size=(2, 400, 4, 4, 1)).astype(np.float32)
    assert discriminators.two_sample_accuracy(real, same) == pytest.approx(0.5, abs=0.1)
    assert discriminators.two_sample_accuracy(real, same + 1) > 0.95


@pytest.mark.experiments
def test_as_many_real_images_as_samples_are_told_apart_from_them_without_regard_to_their_order():
    """Real images are sorted by class, and there are more of them."""
    random = np.random.default_rng(0)

    def drawn(count):
        levels = np.repeat([-0.5, 0.5], count).reshape(-1, 1, 1, 1)
        return (levels + random.normal(0, 0.2, (2 * count, 4, 4, 1))).astype(np.float32)

    assert discriminators.two_sample_accuracy(drawn(1500), drawn(200)) == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.experiments
def test_a_new_discriminator_measures_a_generator_where_a_flat_one_says_one_half(optimized):
    """Samples are N(5, 0.5²): far off, whatever a discriminator without slope thinks of them."""

    def samples(given, key, count):
        return 5 + 0.5 * jax.random.normal(key, (count, 1))

    variables = discriminators.fit_discriminator(CRITIC, NORMAL.sample, samples)(
        0.0, jax.random.key(0)
    )
    keys = jax.random.split(jax.random.key(1))
    real, made = NORMAL.sample(keys[0], 20_000), samples(None, keys[1], 20_000)
    x = NORMAL.places(12, 4001)[:, None]
    exact = metrics.js_divergence(
        NORMAL.density(x), data.Mixture(np.array([[5.0]]), 0.5).density(x)
    )
    found = discriminators.jsd_by_discriminator(CRITIC, variables, real, made)
    assert found == pytest.approx(exact, abs=0.01) and exact > 0.3
    flat = jax.tree.map(jnp.zeros_like, variables)
    assert discriminators.jsd_by_discriminator(CRITIC, flat, real, made) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.experiments
def test_the_minimax_gradient_vanishes_as_the_discriminator_learns():
    critic = CRITIC.clone(hidden=(32, 32))
    game = models.Game(mlp.Generator(1), critic, models.Noise("unit-uniform", 1), "point")
    found = discriminators.saturation(game, NORMAL.sample, steps=200, count=256)
    assert {len(values) for values in found.values()} == {200}
    assert found["accuracy"][-1] > 0.95 and found["ratio"][-1] < 0.1 < found["ratio"][0]

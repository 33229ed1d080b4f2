"""Discriminators that are trained to measure something."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import data, metrics, models
from advdl.models import mlp

NORMAL = data.MIXTURES["normal"]
CRITIC = mlp.Discriminator(tuple(NORMAL.mean), tuple(NORMAL.std), (64, 64, 64))


def test_a_small_network_descends_in_one_loop_as_step_by_step():
    """The mean of (w - x)² over batches of numbers: each update by hand."""

    def draw(key):
        return jax.random.normal(key, (3,))

    def loss(variables, batch, key):
        return jnp.square(variables["w"] - batch), {"w": variables["w"]}

    run = metrics.descend(lambda key, batch: {"w": batch[0]}, loss, optax.sgd(0.1), draw, 4)
    variables, figures = jax.jit(run)(jax.random.key(0))
    _, key_draw, _ = jax.random.split(jax.random.key(0), 3)
    batches = [np.asarray(draw(jax.random.fold_in(key_draw, t))) for t in range(4)]
    w, seen = batches[0][0], []
    for batch in batches:
        seen.append(w)
        w = w - 0.1 * (2 * (w - batch)).mean()
    np.testing.assert_allclose(figures["w"], seen, rtol=1e-5)
    np.testing.assert_allclose(variables["w"], w, rtol=1e-5)


@pytest.mark.experiments
def test_two_samples_of_one_distribution_cannot_be_told_apart_and_two_others_can():
    random = np.random.default_rng(0)
    real, same = random.normal(size=(2, 400, 4, 4, 1)).astype(np.float32)
    assert metrics.two_sample_accuracy(real, same) == pytest.approx(0.5, abs=0.1)
    assert metrics.two_sample_accuracy(real, same + 1) > 0.95


@pytest.mark.experiments
def test_as_many_real_images_as_samples_are_told_apart_from_them_without_regard_to_their_order():
    """Real images are sorted by class, and there are more of them."""
    random = np.random.default_rng(0)

    def drawn(count):
        levels = np.repeat([-0.5, 0.5], count).reshape(-1, 1, 1, 1)
        return (levels + random.normal(0, 0.2, (2 * count, 4, 4, 1))).astype(np.float32)

    assert metrics.two_sample_accuracy(drawn(1500), drawn(200)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.experiments
def test_a_new_discriminator_measures_a_generator_where_a_flat_one_says_one_half(optimized):
    """Samples are N(5, 0.5²): far off, whatever a discriminator without slope thinks of them."""

    def samples(given, key, count):
        return 5 + 0.5 * jax.random.normal(key, (count, 1))

    variables = metrics.fit_discriminator(CRITIC, NORMAL.sample, samples)(0.0, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1))
    real, made = NORMAL.sample(keys[0], 20_000), samples(None, keys[1], 20_000)
    x = NORMAL.places(12, 4001)[:, None]
    exact = metrics.js_divergence(
        NORMAL.density(x), data.Mixture(np.array([[5.0]]), 0.5).density(x)
    )
    found = metrics.jsd_by_discriminator(CRITIC, variables, real, made)
    assert found == pytest.approx(exact, abs=0.01) and exact > 0.3
    flat = jax.tree.map(jnp.zeros_like, variables)
    assert metrics.jsd_by_discriminator(CRITIC, flat, real, made) == pytest.approx(0, abs=1e-6)


@pytest.mark.experiments
def test_the_minimax_gradient_vanishes_as_the_discriminator_learns():
    critic = CRITIC.clone(hidden=(32, 32))
    game = models.Game(mlp.Generator(1), critic, models.Noise("unit-uniform", 1), "point")
    found = metrics.saturation(game, NORMAL.sample, steps=200, count=256)
    assert {len(values) for values in found.values()} == {200}
    assert found["accuracy"][-1] > 0.95 and found["ratio"][-1] < 0.1 < found["ratio"][0]

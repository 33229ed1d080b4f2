"""Generators by name, and the noise that they are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models
from advdl.errors import UserError
from advdl.models.generators import LOWEST_PIXEL


@pytest.mark.parametrize(("prior", "bound"), [("uniform", 3**0.5), ("unit-uniform", 1.0)])
def test_uniform_noise_has_the_bound_that_its_name_says(prior, bound):
    z = models.Noise(prior, 100).of_seed(0, 200)
    assert z.shape == (200, 100)
    assert 0.999 * bound < z.max() <= bound and -bound <= z.min() < -0.999 * bound
    assert z.std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_normal_noise_is_standard():
    z = models.Noise("normal", 100).of_seed(0, 200)
    assert z.mean() == pytest.approx(0, abs=0.02) and z.std() == pytest.approx(1, rel=0.02)
    assert np.abs(z).max() > 3


def test_more_noise_of_a_seed_begins_with_what_fewer_is():
    noise = models.Noise("normal", 3)
    np.testing.assert_array_equal(noise.of_seed(1, 9)[:4], noise.of_seed(1, 4))


def test_noise_of_an_example_depends_on_its_row_alone():
    noise = models.Noise("uniform", 3)
    rows = noise.by_index(jnp.array([7, 2, 9]))
    np.testing.assert_array_equal(rows[1], noise.by_index(jnp.array([2]))[0])
    assert not np.allclose(rows[0], rows[1])


@pytest.mark.parametrize("name", LOWEST_PIXEL)
def test_a_generator_makes_images_of_the_shape_within_its_range(name):
    network, z = models.generator(name, (8, 8, 1), 8), jax.random.normal(jax.random.key(0), (3, 5))
    images, _ = jax.jit(lambda key: network.init_with_output(key, 9 * z, train=False))(
        jax.random.key(1)
    )
    assert images.shape == (3, 8, 8, 1)
    assert LOWEST_PIXEL[name] <= images.min() and images.max() <= 1


def test_a_generator_that_cannot_be_is_told_in_one_line():
    with pytest.raises(UserError, match="knows no --conditional"):
        models.generator("mlp", (8, 8, 1), 8, classes=10)
    with pytest.raises(UserError, match="give --image-size, or --network mlp"):
        models.generator("dcgan", (9, 9, 1), 8)

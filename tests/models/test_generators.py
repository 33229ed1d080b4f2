"""The networks of a GAN by name, and the noise that a generator is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import losses, models, nn
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


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1", "r2"])
def test_the_penalty_of_an_example_does_not_depend_on_the_others(penalty):
    """Gulrajani et al. 2017, section 4: no batch normalization in the critic."""
    critic = models.discriminator("dcgan", 8, penalized=True)
    x, fake, other = jax.random.normal(jax.random.key(0), (3, 4, 8, 8, 1))
    variables = jax.jit(lambda: critic.init(jax.random.key(1), x, train=False))()
    name = penalty.replace("_penalty", "") + "_weight"

    @jax.jit
    def penalties(x, fake):
        def score(x):
            return critic.apply(variables, x, train=True, mutable=["batch_stats"])[0][0]

        return losses.penalties(score, x, fake, jax.random.key(2), **{name: 2.0})

    found = np.asarray(penalties(x, fake))
    beside_others = np.asarray(penalties(x.at[1:].set(other[1:]), fake.at[1:].set(3 * other[1:])))
    np.testing.assert_allclose(found[0], beside_others[0], rtol=1e-5)
    assert not np.isclose(found[1:], beside_others[1:], rtol=1e-4).any()


def test_layer_normalization_stands_in_for_batch_normalization_where_gradients_are_penalized():
    plain = models.discriminator("dcgan", 8)
    penalized = models.discriminator("dcgan", 8, penalized=True)
    normalized = models.discriminator("dcgan", 8, penalized=True, spectral_norms=True)
    assert plain.norm is nn.BatchNorm and normalized.norm is nn.Bias
    x = 3 * jax.random.normal(jax.random.key(0), (2, 4, 4, 6)) + 5
    y = penalized.norm().init_with_output(jax.random.key(1), x, True)[0]
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 3)), 1, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_without_normalization_no_example_depends_on_the_others(name):
    x, z = (
        jax.random.normal(jax.random.key(0), (4, 8, 8, 1)),
        jnp.ones((4, 5)) * jnp.arange(4.0)[:, None],
    )
    generator = models.generator(name, (8, 8, 1), 8, normalization=False)
    for penalized in (False, True):
        critic = models.discriminator(name, 8, penalized=penalized, normalization=False)
        for network, given in ((generator, z), (critic, x)):

            @jax.jit
            def first(given, network=network, start=given):
                variables = network.init(jax.random.key(1), start, train=False)
                assert set(variables) == {"params"}  # no statistics
                output = network.apply(variables, given, train=True)
                return jax.tree.leaves(output)[0][0]

            np.testing.assert_allclose(
                first(given), first(given.at[1:].add(3)), rtol=1e-5, atol=1e-6
            )


@pytest.mark.slow
def test_without_normalization_no_layer_makes_its_input_small():
    """With N(0, 0.02), samples differ by less than 0.01 before the first update."""
    z, x = (jax.random.normal(jax.random.key(0), shape) for shape in ((64, 64), (64, 28, 28, 3)))
    networks = (
        (models.generator("dcgan", (28, 28, 3), 32, normalization=False), z),
        (models.discriminator("dcgan", 32, normalization=False), x),
    )
    for network, given in networks:
        variables = network.init(jax.random.key(1), given, train=False)
        output = jax.tree.leaves(network.apply(variables, given, train=False))[0]
        assert 0.1 < output.std(0).mean() < 3


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_kernels_of_a_normalized_discriminator_have_a_spectral_vector_each(name):
    x, key = jnp.zeros((2, 8, 8, 1)), jax.random.key(0)
    shapes = jax.eval_shape(
        lambda: models.discriminator(name, 8, spectral_norms=True).init(key, x, train=False)
    )

    def count(tree, word):
        return sum(
            word in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)
        )

    vectors = count(shapes["batch_stats"], "/u'")
    assert vectors == count(shapes["params"], "kernel") > 2


def test_spectral_norms_of_perceptrons_are_told_in_one_line():
    with pytest.raises(UserError, match="knows no --spectral"):
        models.discriminator("mlp", 8, spectral_norms=True)

"""The generators and discriminators of Goodfellow et al. 2014 and Radford et al. 2015."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import dcgan, goodfellow
from advdl.nn import tracing


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def shapes(model, *shape):
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), jnp.zeros(shape)
    )


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def initialized(model, x, seed=0):
    return jax.jit(lambda key: model.init(key, x, train=False))(jax.random.key(seed))


def test_goodfellow_counts_are_the_papers_widths():
    generator = shapes(goodfellow.Generator((28, 28, 1)), 2, 100)["params"]
    assert count(generator) == (100 + 1) * 1200 + (1200 + 1) * 1200 + (1200 + 1) * 784
    discriminator = shapes(goodfellow.Discriminator(), 2, 28, 28, 1)["params"]
    assert count(discriminator) == 5 * ((784 + 1) * 240 + (240 + 1) * 240) + 241


def test_goodfellow_starts_within_the_released_ranges():
    generator = initialized(goodfellow.Generator((4, 4, 1), hidden=(300, 200)), normal(1, 20))[
        "params"
    ]
    discriminator = initialized(goodfellow.Discriminator(), normal(1, 4, 4, 1))["params"]
    for params, bound in ((generator, 0.05), (discriminator, 0.005)):
        for layer in params.values():
            kernel = np.asarray(layer["kernel"])
            assert 0.9 * bound < np.abs(kernel).max() <= bound
            assert not np.any(layer["bias"])
        np.testing.assert_allclose(
            np.concatenate([np.ravel(p["kernel"]) for p in params.values()]).std(),
            bound / 3**0.5,
            rtol=0.02,
        )


def test_goodfellow_can_start_from_the_mean_image():
    means = np.random.default_rng(0).uniform(size=(3, 4, 1))
    means[0, 0] = 0
    model = goodfellow.Generator((3, 4, 1), hidden=(8,), pixel_means=means)
    v = initialized(model, normal(1, 5))
    image = model.apply(v, jnp.zeros((1, 5)), train=True)
    np.testing.assert_allclose(image[0], means, atol=1e-5)


def test_goodfellow_discriminator_drops_in_training_only():
    model, x = goodfellow.Discriminator(hidden=(16, 16)), np.abs(normal(4, 4, 4, 1))
    v = initialized(model, x)
    logit, seen = model.apply(v, x, train=False)
    assert logit.shape == (4,)
    assert {name: leaf.shape for name, leaf in seen.items()} == {
        "hidden1": (4, 16),
        "hidden2": (4, 16),
    }
    np.testing.assert_array_equal(
        logit, model.apply(v, x, train=False, rngs={"dropout": jax.random.key(1)})[0]
    )
    dropped = [
        model.apply(v, x, train=True, rngs={"dropout": jax.random.key(i)})[0] for i in (1, 2)
    ]
    assert np.any(dropped[0] != dropped[1]) and np.any(dropped[0] != logit)


@pytest.mark.parametrize(
    ("height", "width", "levels"),
    [(8, 8, 2), (16, 16, 2), (28, 28, 2), (32, 32, 3), (64, 64, 4), (128, 64, 4), (48, 32, 3)],
)
def test_dcgan_levels(height, width, levels):
    assert dcgan.levels_of(height, width) == levels


@pytest.mark.parametrize(("height", "width"), [(30, 30), (32, 36), (7, 7)])
def test_dcgan_refuses_sizes_that_do_not_halve(height, width):
    with pytest.raises(ValueError, match="halve"):
        shapes(dcgan.Generator((height, width, 3)), 2, 10)


@pytest.mark.parametrize("kernel", [4, 5])
def test_dcgan_at_64_is_figure_1(kernel):
    generator = dcgan.Generator((64, 64, 3), width=128, kernel=kernel)
    g = shapes(generator, 2, 100)
    assert g["params"]["project"]["kernel"].shape == (100, 4 * 4 * 1024)
    channels = [1024, 512, 256, 128, 3]
    for level in range(1, 5):
        assert g["params"][f"double{level}"]["kernel"].shape == (
            kernel,
            kernel,
            channels[level - 1],
            channels[level],
        )
    norms = 2 * (1024 + 512 + 256 + 128)
    taps = kernel**2
    assert (
        count(g["params"])
        == 100 * 16384 + taps * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + norms
    )
    images = jax.eval_shape(lambda v, z: generator.apply(v, z, train=False), g, jnp.zeros((2, 100)))
    assert images.shape == (2, 64, 64, 3)
    discriminator = dcgan.Discriminator(width=128, kernel=kernel)
    d = shapes(discriminator, 2, 64, 64, 3)
    assert (
        count(d["params"])
        == taps * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024) + 2 * (256 + 512 + 1024) + 16384
    )
    logit, seen = jax.eval_shape(lambda v, x: discriminator.apply(v, x, train=False), d, images)
    assert logit.shape == (2,)
    assert [seen[f"level{i}"].shape for i in (1, 2, 3, 4)] == [
        (2, 32, 32, 128),
        (2, 16, 16, 256),
        (2, 8, 8, 512),
        (2, 4, 4, 1024),
    ]


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (16, 8, 2)])
def test_dcgan_makes_and_judges_any_size_in_range(shape):
    generator, discriminator = dcgan.Generator(shape, width=8), dcgan.Discriminator(width=8)
    z = normal(3, 10)
    g = shapes(generator, *z.shape)
    x = jax.eval_shape(lambda g, z: generator.apply(g, z, train=False), g, z)
    assert x.shape == (3, *shape)
    d = shapes(discriminator, *x.shape)
    assert jax.eval_shape(lambda d, x: discriminator.apply(d, x, train=False), d, x)[0].shape == (
        3,
    )


def test_a_dcgan_that_knows_classes_adds_the_label_times_the_features_added_up():
    """Miyato and Koyama 2018, equation 3: φ is the last map's sum over its places."""
    module, x, label = dcgan.Discriminator(2, classes=3), normal(2, 8, 8, 1), np.array([2, 0])
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, False, label))
    variables = jax.tree.map(lambda leaf: np.abs(normal(*leaf.shape)), variables)
    found, seen = jax.jit(lambda v: module.apply(v, x, False, label))(variables)
    last, p = np.asarray(seen["level2"]), variables["params"]
    plain = last.reshape(2, -1) @ p["logit"]["kernel"][:, 0]
    wanted = plain + (p["embedding"]["kernel"][label] * last.sum((1, 2))).sum(1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.slow
def test_dcgan_images_fill_their_range_and_differ():
    generator, z = dcgan.Generator((8, 8, 1), width=8), normal(3, 10)
    x = generator.apply(initialized(generator, z), z, train=True, mutable=["batch_stats"])[0]
    assert 0 < np.abs(x).max() < 1
    assert np.asarray(x).std(0).min() > 0


def test_dcgan_has_no_bias_but_the_normalizations():
    """And no normalization on the generator's output and the discriminator's input."""
    for params in (
        shapes(dcgan.Generator((32, 32, 3)), 2, 10)["params"],
        shapes(dcgan.Discriminator(), 2, 32, 32, 3)["params"],
    ):
        for name, layer in params.items():
            assert set(layer) == ({"scale", "bias"} if name.startswith("norm") else {"kernel"})
    assert "norm3" not in shapes(dcgan.Generator((32, 32, 3)), 2, 10)["params"]
    assert "norm1" not in shapes(dcgan.Discriminator(), 2, 32, 32, 3)["params"]


def test_dcgan_starts_as_the_paper():
    v = initialized(dcgan.Generator((8, 8, 1), width=128), normal(1, 100))["params"]
    for name, mean in (("project", 0.0), ("double1", 0.0), ("norm0", 1.0)):
        weights = np.asarray(v[name]["scale" if mean else "kernel"])
        np.testing.assert_allclose([weights.mean(), weights.std()], [mean, 0.02], atol=0.002)


@pytest.mark.slow
def test_dcgan_fast_and_plain_are_one_game():
    """The loss of a generator through a discriminator, with a gradient penalty on its input, and
    all gradients."""
    generator, discriminator, z = (
        dcgan.Generator((8, 8, 1), width=12),
        dcgan.Discriminator(width=12),
        normal(4, 10),
    )
    g, d = initialized(generator, z), initialized(discriminator, normal(4, 8, 8, 1))

    def value(gp, dp):
        x, _ = generator.apply({**g, "params": gp}, z, train=True, mutable=["batch_stats"])

        def logits(x):
            return discriminator.apply({**d, "params": dp}, x, train=True, mutable=["batch_stats"])[
                0
            ][0]

        return (
            jax.nn.softplus(-logits(x)).sum()
            + jnp.sum(jax.grad(lambda x: logits(x).sum())(x) ** 2) * 1e3
        )

    got = []
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (g["params"], d["params"]))
        for name in ("fast", "xla"):
            with tracing.use(implementation=name):
                got.append(jax.jit(lambda p: jax.value_and_grad(value, (0, 1))(*p))(params))
    for a, b in zip(*map(jax.tree.leaves, got), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize("family", [dcgan, goodfellow])
def test_bfloat16_is_a_setting(family):
    generator, discriminator = (
        family.Generator((8, 8, 1), dtype=jnp.bfloat16),
        family.Discriminator(dtype=jnp.bfloat16),
    )
    g, d = shapes(generator, 2, 10), shapes(discriminator, 2, 8, 8, 1)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((g, d))} == {"float32"}
    x = jax.eval_shape(lambda v, z: generator.apply(v, z, train=False), g, jnp.zeros((2, 10)))
    logit, _ = jax.eval_shape(lambda v, x: discriminator.apply(v, x, train=False), d, x)
    assert x.dtype == logit.dtype == jnp.bfloat16

"""Auto-encoders: the paper's counts, weights that are shared, halves that make the whole, noise
that is each image's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models
from advdl.models import autoencoder

SHAPE = (8, 8, 1)
SMALL = {
    "dense": autoencoder.Dense(SHAPE, hidden=(12, 10), code=5),
    "tied": autoencoder.Dense(SHAPE, hidden=(12, 10), code=5, tied=True),
    "conv": autoencoder.Convolutional(SHAPE, width=4, code=5),
    "resize": autoencoder.Convolutional(SHAPE, width=4, code=5, up="resize", act=jnp.tanh),
    "vae": autoencoder.Variational(SHAPE, hidden=(12,), code=5),
}


def images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def started(model, x, seed=0):
    return jax.jit(lambda key: model.init(key, x))(jax.random.key(seed))


@pytest.mark.parametrize(("tied", "count"), [(False, 2_837_314), (True, 1_420_814)])
def test_the_deep_autoencoder_has_the_counts_of_784_1000_500_250_30(tied, count):
    sizes = (784, 1000, 500, 250, 30)
    kernels = sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))
    biases = sum(sizes[1:]) + sum(sizes[:-1])
    assert count == (1 if tied else 2) * kernels + biases
    network = autoencoder.Dense((28, 28, 1), tied=tied)
    assert models.count_parameters(models.abstract(network, (28, 28, 1))) == count


def test_the_variational_one_has_the_widths_of_the_paper():
    variables = models.abstract(autoencoder.Variational((28, 28, 1)), (28, 28, 1))
    count = models.count_parameters(variables)
    assert count == 785 * 500 + 2 * 501 * 20 + 21 * 500 + 501 * 784


@pytest.mark.parametrize("name", SMALL)
def test_the_halves_make_the_whole_and_the_code_is_among_the_intermediates(name):
    model, x = SMALL[name], images(3, *SHAPE)
    v = started(model, x)
    logits, seen = model.apply(v, x)
    assert logits.shape == x.shape and seen["code"].shape == (3, 5)
    code, encoded = model.apply(v, x, method="encode")
    np.testing.assert_array_equal(code, seen["code"])
    decoded, _ = model.apply(v, code, method="decode")
    np.testing.assert_array_equal(decoded, logits)
    assert set(encoded) <= set(seen)
    assert np.ptp(logits, 0).min() > 0  # each pixel depends on the image


def test_tied_decoders_are_the_encoders_transposed():
    """By NumPy; and the kernel's gradient is the sum of those of an untied network with the same
    weights."""
    model, x = SMALL["tied"], images(4, *SHAPE)
    v = started(model, x)
    p = jax.tree.map(np.asarray, v["params"])
    assert all(set(p[f"decoder_{n}"]) == {"bias"} for n in range(3))
    rng = np.random.default_rng(1)
    for layer in p.values():
        layer["bias"] = rng.normal(size=layer["bias"].shape).astype(np.float32)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    h = x.reshape(4, -1)
    for n, act in enumerate((sigmoid, sigmoid, lambda a: a)):
        h = act(h @ p[f"encoder_{n}"]["kernel"] + p[f"encoder_{n}"]["bias"])
    for n, act in enumerate((sigmoid, sigmoid, lambda a: a)):
        h = act(h @ p[f"encoder_{2 - n}"]["kernel"].T + p[f"decoder_{n}"]["bias"])
    np.testing.assert_allclose(
        model.apply({"params": p}, x)[0].reshape(4, -1), h, rtol=1e-4, atol=1e-5
    )

    untied = {name: dict(layer) for name, layer in p.items()}
    for n in range(3):
        untied[f"decoder_{n}"]["kernel"] = p[f"encoder_{2 - n}"]["kernel"].T

    def slope(model, p):
        return jax.grad(lambda p: jnp.square(model.apply({"params": p}, x)[0]).sum())(p)

    shared, both = slope(model, p), slope(SMALL["dense"], untied)
    for n in range(3):
        total = both[f"encoder_{n}"]["kernel"] + both[f"decoder_{2 - n}"]["kernel"].T
        assert np.abs(both[f"decoder_{2 - n}"]["kernel"]).max() > 0
        np.testing.assert_allclose(shared[f"encoder_{n}"]["kernel"], total, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("up", ["transpose", "resize"])
@pytest.mark.parametrize(
    ("shape", "smallest"), [((8, 8, 1), (2, 2)), ((28, 20, 3), (7, 5)), ((64, 32, 1), (8, 4))]
)
def test_convolutions_halve_and_double_again(up, shape, smallest):
    model = autoencoder.Convolutional(shape, width=4, up=up)
    x = jnp.zeros((2, *shape))
    logits, seen = jax.eval_shape(lambda key: model.init_with_output(key, x)[0], jax.random.key(0))
    assert logits.shape == x.shape
    levels = [name for name in seen if name.startswith("encoded")]
    assert seen[levels[-1]].shape[1:3] == smallest
    assert seen["encoded1"].shape[1:3] == (shape[0] // 2, shape[1] // 2)


def test_a_constant_map_has_no_checkerboard_away_from_the_border():
    """Every output pixel of a 4×4 transposed convolution of stride 2 gets four products; of a 3×3
    one, one, two or four."""

    def layer(k):
        return autoencoder.ConvTranspose(
            1, k, strides=2, padding=1, kernel_init=jax.nn.initializers.ones
        )

    flat, uneven = (
        layer(k).init_with_output(jax.random.key(0), jnp.ones((1, 6, 6, 1)))[0][0, 2:-2, 2:-2]
        for k in (4, 3)
    )
    assert np.ptp(flat) == 0 < np.ptp(uneven)


@pytest.mark.parametrize("shape", [(7, 8, 1), (8, 10, 1), (30, 30, 3)])
def test_sizes_that_do_not_halve_are_refused(shape):
    with pytest.raises(ValueError, match="halve"):
        models.abstract(autoencoder.Convolutional(shape), shape)


@pytest.mark.parametrize("name", SMALL)
def test_images_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match="8"):
        models.abstract(SMALL[name], (8, 4, 2))


def test_a_code_is_its_mean_or_drawn_around_it_for_each_image():
    model, x = SMALL["vae"], images(64, *SHAPE)
    x[1] = x[0]
    v = started(model, x)
    run = jax.jit(lambda key: model.apply(v, x, train=True, rngs={"noise": key})[1])
    _, still = model.apply(v, x)
    np.testing.assert_array_equal(still["code"], still["mean"])
    seen = run(jax.random.key(1))
    epsilon = (seen["code"] - seen["mean"]) / np.exp(seen["log_variance"] / 2)
    assert np.abs(epsilon[0] - epsilon[1]).min() > 0  # the same image, other noise
    assert (
        abs(epsilon.mean()) < 0.2 and abs(epsilon.std() - 1) < 0.15
    )  # 320 draws: 3.5 and 3.8 standard errors
    np.testing.assert_array_equal(seen["code"], run(jax.random.key(1))["code"])
    assert np.any(seen["code"] != run(jax.random.key(2))["code"])
    given = model.apply(v, x, epsilon_BZ=epsilon)[1]
    np.testing.assert_allclose(given["code"], seen["code"], atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_is_a_setting_and_parameters_stay_float32(name):
    model = SMALL[name].clone(dtype=jnp.bfloat16)
    v = models.abstract(model, SHAPE)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(v)} == {"float32"}
    logits, _ = jax.eval_shape(lambda v: model.apply(v, jnp.zeros((2, *SHAPE))), v)
    assert logits.dtype == jnp.bfloat16

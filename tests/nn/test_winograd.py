"""3×3 convolution by tiles: the numbers of XLA's convolution, derivatives included, whatever the
sizes and paddings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.nn import convolution, tracing, winograd


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "size, padding",
    [((6, 8), ((1, 1), (1, 1))), ((7, 5), ((0, 0), (0, 0))), ((5, 9), ((2, 0), (1, 3)))],
    ids=str,
)
def test_tiles_are_the_convolution_and_its_gradient(size, padding):
    geometry = convolution.Geometry((1, 1), padding)
    x, kernel = normal(2, *size, 3), normal(3, 3, 3, 4, seed=1)
    with jax.enable_x64(True):
        x, kernel = np.float64(x), np.float64(kernel)
        y, pull = jax.vjp(lambda kernel: convolution._conv(x, kernel, geometry), kernel)
        g = np.float64(normal(*y.shape, seed=2))
        np.testing.assert_allclose(winograd.conv(x, kernel, padding), y, rtol=1e-12, atol=1e-12)
        turned = convolution._conv(g, kernel[::-1, ::-1].swapaxes(2, 3), geometry)
        np.testing.assert_allclose(
            winograd.turned(g, kernel, padding), turned, rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(
            winograd.kernel_gradient(x, g, padding), pull(g)[0], rtol=1e-12, atol=1e-12
        )


def test_wide_convolutions_go_by_tiles_and_no_other():
    x = jnp.zeros((8, 14, 14, 64))
    assert winograd.suits(x, (14, 14), 128, (3, 3), winograd.least_pairs())
    assert not winograd.suits(x, (14, 14), 64, (3, 3), winograd.least_pairs()), (
        "few pairs of channels"
    )
    with tracing.use(onednn=True):  # whose gradient of few channels takes longer than Eigen's
        assert winograd.suits(x, (14, 14), 64, (3, 3), winograd.least_pairs())
    assert not winograd.suits(x, (14, 14), 32, (3, 3)), "few channels"
    assert not winograd.suits(x, (14, 14), 128, (5, 5)), "another kernel"
    assert not winograd.suits(x, (5, 5), 128, (3, 3)), "much beyond the image"
    assert not winograd.suits(x[:1], (14, 14), 128, (3, 3)), "few tiles"
    assert not winograd.suits(x.astype(jnp.bfloat16), (14, 14), 128, (3, 3)), "half precision"


@pytest.mark.slow
def test_a_wide_convolution_has_the_plain_numbers():
    x, kernel = normal(3, 16, 16, 128), normal(3, 3, 128, 128, seed=1)
    weight = normal(3, 16, 16, 128, seed=2)

    def run(how):
        with tracing.use(implementation=how):

            def f(x, kernel):
                return (convolution.conv(x, kernel, padding=1) * weight).sum()

            text = jax.jit(jax.grad(f, (0, 1))).lower(x, kernel).as_text()
            return jax.jit(jax.value_and_grad(f, (0, 1)))(x, kernel), text

    (fast, text), (plain, plain_text) = run("fast"), run("xla")
    assert "stablehlo.convolution" in plain_text and "stablehlo.convolution" not in text
    for a, b in zip(jax.tree.leaves(fast[1]), jax.tree.leaves(plain[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6 * np.abs(b).max())


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_says_so_where_it_is(value):
    """And nowhere else: the channels of a kernel's gradient are apart."""
    x, g = normal(1, 8, 8, 3), normal(1, 8, 8, 4, seed=1)
    g[0, 0, 0, 0] = value
    gradient = np.asarray(winograd.kernel_gradient(x, g, ((1, 1), (1, 1))))
    assert np.isfinite(gradient[..., 1:]).all() and not np.isfinite(gradient[..., 0]).all()

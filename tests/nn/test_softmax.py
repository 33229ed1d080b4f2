"""Cross-entropy in one piece and biases by products: the numbers of XLA's implementation,
derivatives included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.nn import tracing
from advdl.nn.normalization import add_bias
from advdl.nn.softmax import softmax_cross_entropy


def normal(*shape, scale=1.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape) * scale, jnp.float32)


def both(f, *given):
    """`jax.value_and_grad(f)`, fast and plain."""
    found = []
    for how in ("fast", "xla"):
        with tracing.use(implementation=how):
            found.append(jax.jit(jax.value_and_grad(f, tuple(range(len(given)))))(*given))
    return found


@pytest.mark.parametrize("classes", [2, 10, 33, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_fast_cross_entropy_is_the_plain_one(classes, smoothing):
    """In double precision, so that nothing but the formula can differ."""
    label = np.random.default_rng(2).integers(0, classes, (3, 4))
    with jax.enable_x64(True):
        logits, weight = (
            jnp.asarray(np.float64(x))
            for x in (normal(3, 4, classes, scale=20.0), normal(3, 4, seed=1))
        )
        (value, gradient), (wanted, plain) = both(
            lambda logits: (softmax_cross_entropy(logits, label, smoothing) * weight).sum(), logits
        )
        np.testing.assert_allclose(value, wanted, rtol=1e-12)
        np.testing.assert_allclose(gradient[0], plain[0], atol=1e-12)


@pytest.mark.parametrize("how", ["fast", "xla"])
def test_extremes_stay_finite_and_a_class_that_is_not_there_gives_nan(how):
    with tracing.use(implementation=how):
        extreme = softmax_cross_entropy(jnp.array([[1e4, -1e4, 0.0]]), jnp.array([1]))
        outside = softmax_cross_entropy(normal(2, 3), jnp.array([3, -1]))
    np.testing.assert_allclose(extreme, 2e4)
    assert np.isnan(outside).all()


def test_a_bias_and_its_gradient_are_the_plain_ones():
    x, bias, weight = normal(3, 5, 4, 6), normal(6, seed=1), normal(3, 5, 4, 6, seed=2)
    (value, fast), (wanted, plain) = both(
        lambda x, bias: (jnp.sin(add_bias(x, bias)) * weight).sum(), x, bias
    )
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)

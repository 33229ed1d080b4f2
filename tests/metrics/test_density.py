"""Divergences and modes against closed forms, quadrature and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial.distance import jensenshannon

from advdl import data, metrics
from advdl.metrics import compute, merge


def test_js_divergence_is_scipys_squared():
    p, q = np.random.default_rng(0).random((2, 40))
    p[:5] = q[3:9] = 0
    assert metrics.js_divergence(p, q) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-12)
    assert metrics.js_divergence(p, 7 * p) == pytest.approx(0, abs=1e-15)
    assert metrics.js_divergence([1, 0], [0, 1]) == pytest.approx(np.log(2))
    assert np.isnan(metrics.js_divergence([0, 0], [0, 1]))


def test_value_of_the_best_discriminator_is_its_integral():
    """Equation 6 against max_D V of proposition 1, integrated."""
    p, q = stats.norm(4, 0.5).pdf, stats.norm(4.5, 0.7).pdf

    def inside(x):
        return p(x) * np.log(p(x) / (p(x) + q(x))) + q(x) * np.log(q(x) / (p(x) + q(x)))

    exact = integrate.quad(inside, 1, 8)[0]
    x = np.linspace(-1, 10, 4001)
    assert metrics.optimal_value(p(x), q(x)) == pytest.approx(exact, abs=1e-6)
    d = metrics.optimal_discriminator(p(x), q(x))
    assert np.trapezoid(p(x) * np.log(d) + q(x) * np.log1p(-d), x) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("t", [0.7, 1.0])
def test_no_other_discriminator_does_better_on_smoothed_labels(t):
    p, q = 0.3, 0.5

    def value(d):
        return t * p * np.log(d) + ((1 - t) * p + q) * np.log(1 - d)

    best = metrics.optimal_discriminator([p], [q], t)[0]
    assert value(best) >= max(value(d) for d in np.linspace(0.01, 0.99, 99))


def test_wasserstein_is_scipys():
    a, b = np.random.default_rng(1).normal(size=(2, 200)) * [[1], [2]]
    assert metrics.wasserstein_1(a, b) == pytest.approx(stats.wasserstein_distance(a, b))
    with pytest.raises(ValueError, match="one shape"):
        metrics.wasserstein_1(a, b[:5])


def test_divergences_of_parts_merge_into_that_of_the_whole():
    a, b = np.random.default_rng(2).normal(size=(2, 64)).astype(np.float32)
    edges = tuple(np.linspace(-2, 2, 11))
    mask = np.arange(64) < 50
    whole = metrics.Divergence.of(a, b, edges, mask)
    parts = [
        metrics.Divergence.of(a[s], b[s], edges, mask[s]) for s in (slice(0, 30), slice(30, 64))
    ]
    merged = merge({"JSD": parts[0]}, {"JSD": parts[1]})
    assert compute(merged)["JSD"] == pytest.approx(compute({"JSD": whole})["JSD"])
    counts = np.histogram(np.clip(a[:50], -1.99, 1.99), edges)[0]
    np.testing.assert_array_equal(whole.data, counts)


def test_modes_are_counted_by_the_rule_of_three_deviations():
    centers = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    x = jnp.array([[0.0, 0.29], [0.0, 0.31], [1.0, 0.0], [1.0, 0.1], [5.0, 5.0], [0.0, 1.0]])
    mask = jnp.array([1, 1, 1, 1, 1, 0])
    found = compute(jax.jit(lambda x: metrics.mode_metrics(x, centers, 0.1, mask))(x))
    share = np.array([1, 2]) / 3
    assert found["modes"] == 2 and found["high_quality"] == pytest.approx(3 / 5)
    assert found["reverse_kl"] == pytest.approx((share * np.log(3 * share)).sum())


def test_modes_at_the_extremes():
    assert metrics.mode_figures([5, 5, 5], 15) == {
        "modes": 3,
        "high_quality": 1,
        "reverse_kl": pytest.approx(0),
    }
    assert metrics.mode_figures([0, 0, 0], 15) == {
        "modes": 0,
        "high_quality": 0,
        "reverse_kl": pytest.approx(np.log(3)),
    }
    assert metrics.mode_figures([9, 0, 0], 9)["reverse_kl"] == pytest.approx(np.log(3))


def test_the_best_discriminator_has_no_error():
    one, other = (data.Mixture(np.array([[m]]), s) for m, s in ((4.0, 0.5), (4.5, 0.7)))
    x = one.places(10, 4001)[:, None]
    p, q = one.density(x), other.density(x)
    step = x[1, 0] - x[0, 0]
    best = metrics.optimal_discriminator(p, q)
    found = metrics.discriminator_errors(best, p, q, step)
    assert found == pytest.approx({"d_error": 0, "d_mean": 0.5, "value_error": 0}, abs=1e-6)
    off = metrics.discriminator_errors(0.9 * best, p, q, step)
    assert off["d_error"] == pytest.approx(0.05, abs=1e-3) and off["value_error"] > 0.01
    smooth = metrics.discriminator_errors(0.9 * best, p, q, step, real_label=0.9)
    assert smooth == pytest.approx({"d_error": 0, "d_mean": 0.45}, abs=1e-6)


@pytest.mark.slow
def test_samples_are_near_data_by_their_divergence_on_the_line_and_by_their_modes_elsewhere():
    line, ring = data.MIXTURES["normal"], data.MIXTURES["ring"]
    x = np.asarray(line.sample(jax.random.key(0), 2000))
    found = metrics.compute(metrics.distribution_metrics(line, jnp.asarray(x), jnp.asarray(x)))
    assert found == {"jsd": 0}
    far = metrics.compute(metrics.distribution_metrics(line, jnp.asarray(x), jnp.asarray(x + 9)))
    assert far["jsd"] == pytest.approx(np.log(2), rel=1e-3)
    centers = jnp.asarray(ring.centers_KD, jnp.float32)
    mask = jnp.array([1.0] * 3 + [0.0] * 5)
    found = metrics.compute(metrics.distribution_metrics(ring, centers, centers, mask))
    assert found["modes"] == 3 and found["high_quality"] == 1

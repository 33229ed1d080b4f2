"""Measures of generated images against closed forms, SciPy, scikit-learn and published cases."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity, NearestNeighbors

from advdl import metrics

RANDOM = np.random.default_rng(0)
REAL = RANDOM.normal(size=(300, 6)) @ RANDOM.normal(size=(6, 6))
FAKE = RANDOM.normal(size=(250, 6)) @ RANDOM.normal(size=(6, 6)) + 0.5


def test_moments_are_numpys_and_come_part_by_part():
    whole = metrics.Moments.of(REAL)
    np.testing.assert_allclose(whole.mean, REAL.mean(0))
    np.testing.assert_allclose(whole.covariance, np.cov(REAL.T))
    parts = metrics.Moments.streamed(REAL[first : first + 77] for first in range(0, 300, 77))
    assert parts.count == 300
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=1e-10)


def test_moments_far_from_zero_lose_no_digits():
    far = metrics.Moments.streamed(part + 1e6 for part in np.array_split(REAL, 7))
    np.testing.assert_allclose(far.covariance, np.cov(REAL.T), rtol=1e-6)


def test_frechet_distance_is_its_formula_with_a_matrix_root():
    a, b = metrics.Moments.of(REAL), metrics.Moments.of(FAKE)
    root = sqrtm(np.cov(REAL.T) @ np.cov(FAKE.T)).real
    expected = ((REAL.mean(0) - FAKE.mean(0)) ** 2).sum() + np.trace(
        np.cov(REAL.T) + np.cov(FAKE.T) - 2 * root
    )
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_fewer_images_than_dimensions_is_finite():
    """Singular covariances, of which matrix roots fail."""
    few = [metrics.Moments.of(RANDOM.normal(size=(5, 64))) for _ in range(2)]
    assert 0 < metrics.frechet_distance(*few) < 500
    constant = metrics.Moments.of(np.ones((4, 3)))
    assert metrics.frechet_distance(
        constant, metrics.Moments.of(np.zeros((4, 3)))
    ) == pytest.approx(3)


def test_frechet_distance_of_scaled_gaussians_is_the_closed_form():
    identity = metrics.Moments(101, np.zeros(4), 100 * np.eye(4))
    wide = metrics.Moments(101, np.full(4, 2.0), 100 * 9 * np.eye(4))
    assert metrics.frechet_distance(identity, wide) == pytest.approx(4 * 4 + 4 * (3 - 1) ** 2)


@pytest.mark.slow
def test_kernel_distance_is_the_double_sum_and_unbiased():
    x, y = REAL[:9], FAKE[:9]

    def k(a, b):
        return (a @ b / 6 + 1) ** 3

    inside = sum(k(s[i], s[j]) for s in (x, y) for i in range(9) for j in range(9) if i != j) / 72
    across = sum(k(a, b) for a in x for b in y) / 81
    found = metrics.kernel_distance(x, y, subsets=3)
    assert found.mean == pytest.approx(inside - 2 * across) and found.deviation == pytest.approx(
        0, abs=1e-9
    )
    same = [
        metrics.kernel_distance(*RANDOM.normal(size=(2, 200, 3)), subsets=1).mean
        for _ in range(200)
    ]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(200)
    assert min(same) < 0 < max(same)


def test_kernel_distance_deviates_over_subsets():
    found = metrics.kernel_distance(REAL, FAKE, subsets=20, size=50)
    assert found.deviation > 0 and found == metrics.kernel_distance(REAL, FAKE, subsets=20, size=50)


@pytest.mark.parametrize("rows", [64, 1024])
def test_manifold_figures_are_those_of_a_neighbor_search(rows):
    k = 3

    def ball(x):
        return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k]

    real, fake = ball(REAL), ball(FAKE)
    away = np.linalg.norm(REAL[:, None] - FAKE[None], axis=-1)
    found = metrics.manifold(REAL, FAKE, k, rows)
    assert found.precision == pytest.approx((away < real[:, None]).any(0).mean())
    assert found.recall == pytest.approx((away < fake[None]).any(1).mean())
    assert found.density == pytest.approx((away < real[:, None]).sum(0).mean() / k)
    assert found.coverage == pytest.approx((away.min(1) < real).mean())


@pytest.mark.slow
def test_manifold_of_equal_gaussians_in_a_thousand_dimensions_is_what_is_expected_of_it():
    """Whatever the distribution, if both sets have it: density 1, and of n real and n samples no
    sample in a ball of k neighbors with probability (n · … · (n - k + 1)) / ((2n - 1) · … · (2n -
    k)) (Naeem et al. 2020, appendix). The implementation released with that paper prints 1.056 and
    0.974 for one draw of 10,000."""
    n, k = 400, 5
    found = [
        metrics.manifold(*np.random.default_rng(seed).normal(size=(2, n, 1000)), k)
        for seed in range(12)
    ]
    missed = math.prod(n - i for i in range(k)) / math.prod(2 * n - 1 - i for i in range(k))
    for name, expected in (("density", 1), ("coverage", 1 - missed)):
        values = [getattr(one, name) for one in found]
        assert np.mean(values) == pytest.approx(
            expected, abs=4 * np.std(values) / math.sqrt(len(values))
        )


def test_a_memorizing_and_a_collapsed_generator_are_told_apart():
    copy, collapsed = (
        metrics.manifold(REAL, REAL.copy(), 3),
        metrics.manifold(REAL, np.repeat(REAL[:1], 250, 0), 3),
    )
    assert copy.precision == copy.recall == copy.coverage == 1
    assert collapsed.precision == 1 and collapsed.coverage < 0.05 and collapsed.recall == 0


def test_classifier_score_at_its_bounds_and_by_its_formula():
    assert metrics.classifier_score(np.tile(np.eye(10), (20, 1)), splits=1).mean == pytest.approx(
        10
    )
    assert metrics.classifier_score(np.full((100, 10), 0.1)).mean == pytest.approx(1)
    p = RANDOM.dirichlet(np.ones(4), 50)
    marginal = p.mean(0)
    expected = math.exp((p * np.log(p / marginal)).sum(1).mean())
    assert metrics.classifier_score(p, splits=1) == (pytest.approx(expected), 0)


def test_parzen_is_scikit_learns_density_and_chooses_the_bandwidth_on_validation():
    samples, validation, test = (RANDOM.uniform(size=(n, 8)) for n in (200, 40, 50))
    found = metrics.parzen(samples, validation, test)
    scores = {
        sigma: KernelDensity(bandwidth=sigma).fit(samples).score_samples(validation).mean()
        for sigma in np.logspace(-1, 0, 10)
    }
    assert found.bandwidth == pytest.approx(max(scores, key=scores.get))
    each = KernelDensity(bandwidth=found.bandwidth).fit(samples).score_samples(test)
    assert found.log_likelihood == pytest.approx(
        each.mean()
    ) and found.standard_error == pytest.approx(each.std() / math.sqrt(50))


def test_parzen_of_one_sample_is_a_gaussian():
    test = RANDOM.uniform(size=(5, 3))
    exact = multivariate_normal(np.zeros(3), 0.25 * np.eye(3)).logpdf(test).mean()
    assert metrics.parzen(np.zeros((1, 3)), test, test, [0.5]).log_likelihood == pytest.approx(
        exact
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: metrics.Moments.of(np.zeros((0, 3))),
        lambda: metrics.Moments.of(np.full((2, 3), np.nan)),
        lambda: metrics.Moments.streamed([]),
        lambda: metrics.FeatureSet.streamed([], np.arange(0)),
        lambda: metrics.FeatureSet.streamed([(REAL, REAL)], np.array([2, 300])),
        lambda: metrics.frechet_distance(metrics.Moments.of(REAL), metrics.Moments.of(REAL[:, :3])),
        lambda: metrics.kernel_distance(REAL, FAKE[:, :3]),
        lambda: metrics.manifold(REAL[:3], FAKE, 3),
        lambda: metrics.parzen(REAL, REAL[:, :2], REAL),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError):
        wrong()


def test_a_gaussian_fit_has_the_images_moments():
    images = 0.1 * (RANDOM.normal(size=(4000, 4)) @ RANDOM.normal(size=(4, 4))).reshape(-1, 2, 2, 1)
    drawn = metrics.gaussian_fit(images, 20_000, -100, 100).reshape(-1, 4)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(images.reshape(-1, 4).T), atol=3e-3)
    cut = metrics.gaussian_fit(images, 100, -0.01, 0.02)
    assert cut.shape == (100, 2, 2, 1) and cut.min() >= -0.01 and cut.max() <= 0.02


def of_all(features, probability, size=70):
    """A `FeatureSet` that keeps all features."""
    cuts = range(0, len(features), size)
    parts = ((features[n : n + size], probability[n : n + size]) for n in cuts)
    return metrics.FeatureSet.streamed(parts, np.arange(len(features)))


@pytest.mark.slow
def test_figures_of_several_sets_are_called_by_their_space_and_real_images_are_best():
    probability = np.eye(3)[RANDOM.integers(0, 2, 300)]
    sets = {"same": of_all(REAL, probability), "other": of_all(FAKE, probability[:250])}
    found = metrics.fidelity_figures(of_all(REAL, probability), sets, "FD (resnet8)")
    assert abs(found["same"]["FD (resnet8)"]) < 1e-6 < found["other"]["FD (resnet8)"]
    assert found["same"]["precision"] == found["same"]["coverage"] == 1 > found["other"]["coverage"]
    other = found["other"]
    assert (
        other["images"],
        other["real images"],
        other["images of each set, precision to coverage"],
    ) == (250, 300, 250)
    assert (found["same"]["classes"], found["same"]["rarest class"]) == (2, 0)


def test_a_feature_set_has_the_moments_of_all_images_and_the_features_of_the_rows_asked_for():
    probability, rows = RANDOM.dirichlet(np.ones(4), 300), np.array([0, 69, 70, 139, 140, 299])
    parts = [(REAL[n : n + 70], probability[n : n + 70]) for n in range(0, 300, 70)]
    found = metrics.FeatureSet.streamed(iter(parts), rows)
    np.testing.assert_allclose(found.moments.covariance, np.cov(REAL.T), rtol=1e-10)
    np.testing.assert_array_equal(found.features, REAL[rows])
    np.testing.assert_array_equal(found.probability, probability)
    assert metrics.FeatureSet.streamed(parts, rows, probability=False).probability is None


@pytest.mark.slow
def test_figures_of_sorted_features_are_those_of_shuffled_ones():
    """Of samples too, and of fewer images of the one set than of the other. Only which ones are
    compared in pairs differs."""
    real, fake = (
        RANDOM.normal(size=(n, 2)) + 8 * np.repeat([0, 1], n // 2)[:, None] for n in (1200, 400)
    )
    probability = np.eye(2)[np.repeat([0, 1], 200)]
    order, other = RANDOM.permutation(1200), RANDOM.permutation(400)
    figures = []
    for own, made, p in ((real, fake, probability), (real[order], fake[other], probability[other])):
        sets = {"made": of_all(made, p)}
        figures.append(
            metrics.fidelity_figures(of_all(own, np.zeros((1200, 2))), sets, "FD")["made"]
        )
    for name in ("FD", "classes", "rarest class"):
        assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-9)
    for name in ("precision", "recall", "density", "coverage", "classifier score"):
        assert figures[0][name] == pytest.approx(figures[1][name], abs=0.1), name


def test_the_classifier_score_of_images_sorted_by_class_is_that_of_shuffled_ones():
    p = np.eye(10)[np.repeat(np.arange(10), 500)]
    assert (
        metrics.classifier_score(p).mean > 9.8
    )  # ten splits in this order have a class each, which scores 1


@pytest.mark.slow
def test_pixel_distance_merges_and_is_the_distance_of_small_images():
    import jax.numpy as jnp

    a, b = RANDOM.normal(size=(64, 8, 8, 1)), 0.5 + RANDOM.normal(size=(64, 8, 8, 1))
    mask = np.arange(64) < 50
    whole = metrics.PixelDistance.of(jnp.asarray(a), jnp.asarray(b), jnp.asarray(mask))
    parts = [
        metrics.PixelDistance.of(jnp.asarray(a[n]), jnp.asarray(b[n]))
        for n in (slice(0, 20), slice(20, 50))
    ]
    exact = metrics.frechet_distance(*(metrics.Moments.of(x[:50].reshape(50, -1)) for x in (a, b)))
    assert whole.compute() == pytest.approx(exact, rel=1e-3)
    assert metrics.merge(*parts).compute() == pytest.approx(exact, rel=1e-3)

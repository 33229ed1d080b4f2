"""Linear methods on images, against their closed forms."""

import numpy as np
import pytest

from advdl import metrics

MIX = np.random.default_rng(0).normal(size=(4, 12)) / 12


def images(count, seed):
    """In the middle of [0, 1], so that nothing is clipped: four directions and a little of all
    others."""
    rng = np.random.default_rng(seed)
    return 0.5 + rng.uniform(-1, 1, (count, 4)) @ MIX + 0.001 * rng.uniform(-1, 1, (count, 12))


def test_pca_leaves_the_variance_of_the_components_that_are_left_out():
    x = images(400, 1)
    spectrum = np.sort(np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True)))[::-1]
    for components in (1, 3, 5):
        error = np.square(metrics.pca_reconstruction(x, x, components) - x).sum(1).mean()
        assert error == pytest.approx(spectrum[components:].sum(), rel=1e-6)
    np.testing.assert_allclose(
        metrics.pca_reconstruction(x, x, 99), x, atol=1e-9
    )  # as many as there can be


@pytest.mark.slow
def test_the_wiener_filter_is_least_squares_from_noisy_to_clean_images():
    """Regression on many noisy copies comes to the same map; and its error is the trace of (C⁻¹ +
    I/σ²)⁻¹."""
    x, noise = images(400, 1), 0.05
    noisy = x + noise * np.random.default_rng(2).normal(size=(500, *x.shape))
    made = metrics.wiener(x, noisy.reshape(-1, 12), noise)
    rows = np.c_[noisy.reshape(-1, 12), np.ones(len(made))]
    fitted = rows @ np.linalg.lstsq(rows, np.tile(x, (500, 1)), rcond=None)[0]
    np.testing.assert_allclose(made, fitted, atol=2e-3)
    expected = np.trace(
        np.linalg.inv(np.linalg.inv(np.cov(x, rowvar=False)) + np.eye(12) / noise**2)
    )
    assert np.square(made - np.tile(x, (500, 1))).sum(1).mean() == pytest.approx(expected, rel=0.02)


def test_what_leaves_the_range_of_pixels_is_clipped():
    x = images(50, 1)
    for made in (metrics.pca_reconstruction(x, 9 * x - 4, 3), metrics.wiener(x, 9 * x - 4, 0.01)):
        assert made.min() == 0 and made.max() == 1


def test_linear_methods_keep_the_shape_and_have_a_filter_for_white_noise_alone():
    fit, given = images(50, 3).reshape(50, 4, 3, 1), images(20, 4).reshape(20, 4, 3, 1)
    found = metrics.linear_reconstructions(fit, given, 2)
    assert set(found) == {"mean_image", "pca"}
    np.testing.assert_allclose(found["mean_image"], np.broadcast_to(fit.mean(0), given.shape))
    flat = metrics.pca_reconstruction(fit.reshape(50, 12), given.reshape(20, 12), 2)
    np.testing.assert_array_equal(found["pca"], flat.reshape(given.shape))
    noisy = metrics.linear_reconstructions(fit, given, 2, noise=0.1)["wiener"]
    flat = metrics.wiener(fit.reshape(50, 12), given.reshape(20, 12), 0.1)
    np.testing.assert_array_equal(noisy, flat.reshape(given.shape))

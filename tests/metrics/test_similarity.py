"""Structural similarity against SciPy's filters, and the box that it is read in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from advdl import metrics

RANDOM = np.random.default_rng(0)


def reference(a, b, span):
    """Of two channels (H, W), by scipy.ndimage, in float64."""

    def local(x):
        return ndimage.gaussian_filter(x, 1.5, radius=5, mode="reflect")

    m, n = local(a), local(b)
    v, w, both = local(a * a) - m * m, local(b * b) - n * n, local(a * b) - m * n
    c, d = (0.01 * span) ** 2, (0.03 * span) ** 2
    return (2 * m * n + c) * (2 * both + d) / ((m * m + n * n + c) * (v + w + d))


@pytest.mark.parametrize("size", [(9, 17), (4, 6)])
def test_ssim_is_that_of_scipys_gaussian_window(size):
    a = RANDOM.uniform(-1, 1, (2, *size, 3))
    b = np.clip(a + RANDOM.normal(0, 0.3, a.shape), -1, 1)
    found = jax.jit(metrics.ssim)(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    for n in range(2):
        wanted = np.mean([reference(a[n, ..., c], b[n, ..., c], 2.0) for c in range(3)], 0)
        np.testing.assert_allclose(found[n], wanted, atol=2e-5)


def test_ssim_of_an_image_with_itself_is_one_and_falls_with_noise():
    x = jnp.asarray(RANDOM.uniform(-1, 1, (1, 16, 16, 1)), jnp.float32)
    noise = jnp.asarray(RANDOM.normal(0, 1, x.shape), jnp.float32)
    worth = [
        float(metrics.ssim(x, x + strength * noise).mean()) for strength in (0.0, 0.1, 0.3, 1.0)
    ]
    assert worth[0] == pytest.approx(1) and worth == sorted(worth, reverse=True) and worth[3] < 0.6
    with pytest.raises(ValueError, match="shapes"):
        metrics.ssim(x, x[:, :8])


def test_the_box_is_the_smallest_around_what_is_kept():
    mask = np.zeros((3, 6, 8), np.float32)
    mask[0, 2, 3] = mask[0, 4, 6] = 1
    mask[1] = 1
    box = np.asarray(metrics.bounding_box(jnp.asarray(mask)))
    wanted = np.zeros_like(mask)
    wanted[0, 2:5, 3:7], wanted[1] = 1, 1
    np.testing.assert_array_equal(box, wanted)


def test_detail_is_that_of_the_neighbors():
    x = jnp.asarray(RANDOM.uniform(-1, 1, (1, 5, 4, 2)), jnp.float32)
    found = np.asarray(metrics.detail(x))
    image = np.asarray(x[0])
    assert found[0, 1, 2] == pytest.approx(
        (np.abs(image[2, 2] - image[1, 2]).mean() + np.abs(image[1, 3] - image[1, 2]).mean()) / 2,
        rel=1e-5,
    )
    assert found[0, 4, 3] == 0  # nothing is below it or to its right


def test_blur_lowers_the_sharpness_of_an_edge_and_leaves_its_detail():
    """A step of 1, at once or over four pixels."""
    sharp = jnp.repeat(jnp.array([0.0] * 8 + [1.0] * 8), 3).reshape(1, 1, 16, 3)
    blurred = jnp.repeat(jnp.array([0.0] * 6 + [0.25, 0.5, 0.75] + [1.0] * 7), 3).reshape(
        sharp.shape
    )
    detail, sharpness = (
        [float(of(x).sum()) for x in (sharp, blurred)] for of in (metrics.detail, metrics.sharpness)
    )
    assert detail == pytest.approx([0.5, 0.5]) and sharpness == pytest.approx([0.5, 0.125])


def test_figures_of_the_foreground_see_nothing_else():
    """Outside of the mask and of its box, and in an image of weight 0, everything may change."""
    x, y = (RANDOM.uniform(-1, 1, (3, 24, 24, 3)).astype(np.float32) for _ in range(2))
    mask = np.zeros((3, 24, 24), np.float32)
    mask[:, 8:12, 8:10] = mask[:, 8:9, 8:14] = 1
    weight = jnp.array([1.0, 1.0, 0.0])
    figures = jax.jit(lambda x, y: metrics.foreground_similarity(x, y, mask, weight))
    found = metrics.compute(figures(x, y))
    inside = mask[:2] > 0
    assert found["l1"] == pytest.approx(np.abs(x - y).mean(-1)[:2][inside].mean(), rel=1e-5)
    assert found["ssim"] == pytest.approx(
        float(metrics.ssim(x, y)[:2, 8:12, 8:14].mean()), rel=1e-4
    )
    assert found["detail"] == pytest.approx(
        float(metrics.detail(x)[:2, 8:12, 8:14].mean()), rel=1e-5
    )
    assert found["sharpness"] == pytest.approx(
        float(metrics.sharpness(x)[:2, 8:12, 8:14].mean()), rel=1e-5
    )
    other = x.copy()
    other[2], other[:, 18:] = 0, 0.5  # SSIM reaches five pixels beyond the box
    assert metrics.compute(figures(other, y)) == pytest.approx(found, rel=1e-5)

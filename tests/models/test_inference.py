"""Predictions of whole images by parts: what must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import in_portions, interpolate, probabilities


def pixelwise(x_BHWC):
    """A network that looks at one pixel at a time: windows, mirrors and their borders cannot matter
    to it."""
    return jax.nn.softmax(jnp.stack([x_BHWC[..., 0], -2 * x_BHWC[..., 1], x_BHWC.sum(-1)], -1))


@pytest.mark.parametrize("size", [(20, 31), (16, 16), (7, 40)])
@pytest.mark.parametrize(
    "options", [{"window": 9}, {"window": 16, "mirror": True}, {"mirror": True}, {"window": 100}]
)
def test_windows_and_mirrors_cover_every_pixel_once(size, options):
    x = np.random.default_rng(0).standard_normal((2, *size, 2)).astype(np.float32)
    p = probabilities(pixelwise, x, **options)
    np.testing.assert_allclose(p, pixelwise(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_scales_of_a_constant_image_are_the_same_and_probabilities_add_up():
    x = np.broadcast_to(np.float32([0.3, -0.2]), (1, 12, 10, 2))
    p = probabilities(pixelwise, x, scales=(0.5, 1.0, 1.75))
    np.testing.assert_allclose(p, pixelwise(x), rtol=1e-5)
    noisy = np.random.default_rng(0).standard_normal((1, 12, 10, 2)).astype(np.float32)
    np.testing.assert_allclose(
        probabilities(pixelwise, noisy, scales=(0.5, 1.5)).sum(-1), 1, rtol=1e-5
    )


def test_portions_are_the_whole_whatever_their_size():
    x, k = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32), np.arange(23)

    def apply(x, k):
        return {"square": x**2, "both": x[:, 0] + k}

    for rows in (5, 23, 100):
        found = in_portions(apply, x, k, rows=rows)
        np.testing.assert_array_equal(found["square"], x**2)
        np.testing.assert_allclose(found["both"], x[:, 0] + k)


def test_codes_lie_evenly_from_start_to_end():
    start, end = np.float32([[0, 1], [4, 4]]), np.float32([[2, 5], [4, 0]])
    found = interpolate(start, end, 3)
    np.testing.assert_allclose(found, [[0, 1], [1, 3], [2, 5], [4, 4], [4, 2], [4, 0]])

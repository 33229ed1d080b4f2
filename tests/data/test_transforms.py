"""Transforms of whole batches against loops over examples."""

import numpy as np
import pytest

from advdl.data import compose, random_crop, random_flip, standardize, to_float


@pytest.fixture
def batch():
    images = np.random.default_rng(3).normal(size=(64, 5, 4, 3)).astype(np.float32)
    return {"image": images, "label": np.arange(64, dtype=np.int32)}


def uniforms(draws, seed=0):
    return np.random.default_rng(seed).random((64, draws))


def test_crop_is_a_window_of_the_padded_image(batch):
    u, p = uniforms(2), 2
    cropped = random_crop(p, fill=-1.0)(batch, u)["image"]
    for n, image in enumerate(batch["image"]):
        padded = np.full((9, 8, 3), -1.0, np.float32)
        padded[2:7, 2:6] = image
        top, left = int(u[n, 0] * 5), int(u[n, 1] * 5)
        np.testing.assert_array_equal(cropped[n], padded[top : top + 5, left : left + 4])
    corners = random_crop(p)(batch, np.repeat([[0.0, 1 - 2**-53]], 64, 0))["image"]
    np.testing.assert_array_equal(corners[:, 2:, :2], batch["image"][:, :3, 2:])


def test_every_place_of_a_crop_is_as_likely():
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    many = {"image": np.repeat(image, 4000, 0)}
    middle = random_crop(1)(many, np.random.default_rng(1).random((4000, 2)))["image"][:, 1, 1, 0]
    share = np.bincount(middle.astype(int), minlength=9) / 4000
    assert np.all(np.abs(share - 1 / 9) < 0.02)


def test_half_of_the_images_are_mirrored(batch):
    u = uniforms(1)
    flipped = random_flip()(batch, u)["image"]
    for n, image in enumerate(batch["image"]):
        np.testing.assert_array_equal(flipped[n], image[:, ::-1] if u[n, 0] < 0.5 else image)
    assert 20 < (u[:, 0] < 0.5).sum() < 44


def test_float_range_and_standardization():
    levels = {"image": np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)}
    image = to_float(-1.0, 1.0)(levels)["image"].ravel()
    assert image.dtype == np.float32 and image[0] == -1 and image[-1] == 1
    np.testing.assert_allclose(np.diff(image), 2 / 255, rtol=1e-4)
    scaled = standardize([0.5], [2.0])({"image": image.reshape(1, 16, 16, 1)})["image"].ravel()
    np.testing.assert_allclose(scaled, (image - 0.5) / 2, rtol=1e-6)


def test_composed_transforms_draw_numbers_of_their_own(batch):
    both = compose(random_crop(1), standardize([0, 0, 0], [1, 1, 1]), random_flip())
    assert both.draws == 3
    u = uniforms(3)
    expected = random_flip()(random_crop(1)(batch, u[:, :2]), u[:, 2:])["image"]
    np.testing.assert_array_equal(both(batch, u)["image"], expected)


def test_what_is_given_is_not_changed(batch):
    before = batch["image"].copy()
    compose(random_crop(1), random_flip())(batch, uniforms(3))
    np.testing.assert_array_equal(batch["image"], before)


def test_standardize_is_by_channel_and_takes_bytes():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    mean, std = np.array([1.0, 20.0, 130.0]), np.array([2.0, 50.0, 70.0])
    seen = standardize(mean, std)({"image": image})["image"]
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, (image - mean) / std, rtol=1e-6, atol=1e-6)

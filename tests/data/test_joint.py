"""Transforms of images together with their masks."""

import numpy as np
import pytest
import scipy.stats

from advdl import data


def noise(*shape, below=256, seed=0):
    return np.random.default_rng(seed).integers(0, below, shape, dtype=np.uint8)


def joint(count=64, height=12, width=10, channels=3):
    """Images whose channels all are 20·id."""
    mask = noise(count, height // 2, width // 2, below=12).repeat(2, 1).repeat(2, 2)
    return {
        "image": np.repeat(20 * mask[..., None], channels, 3),
        "mask": mask,
        "label": np.arange(count),
    }


def uniforms(count, draws, seed=0):
    return np.random.default_rng(seed).random((count, draws))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "transform",
    [
        data.joint_flip(),
        data.joint_scale_crop((8, 14)),
        data.joint_scale_crop(12, (1.0, 1.0), void=11),
    ],
)
def test_image_and_mask_move_together_by_their_own_numbers(transform, channels):
    batch = joint(channels=channels)
    before, u = batch["image"].copy(), uniforms(64, transform.draws)
    moved = transform(batch, u)
    np.testing.assert_array_equal(batch["image"], before)
    alone = transform({key: batch[key][5:6] for key in batch}, u[5:6])
    for key in ("image", "mask", "label"):
        np.testing.assert_array_equal(alone[key][0], moved[key][5])
    assert (
        moved["image"].dtype == moved["mask"].dtype == np.uint8
        and moved["image"].shape[-1] == channels
    )
    assert moved["image"].shape[:3] == moved["mask"].shape
    assert not np.array_equal(
        moved["mask"], transform(batch, uniforms(64, transform.draws, 1))["mask"]
    )


def test_half_of_the_pairs_are_mirrored_as_random_flip_does():
    batch, u = joint(), uniforms(64, 1)
    flipped = data.joint_flip()(batch, u)
    np.testing.assert_array_equal(flipped["image"], data.random_flip()(batch, u)["image"])
    np.testing.assert_array_equal(flipped["image"][..., 0], 20 * flipped["mask"])


@pytest.mark.parametrize("side", [8, 12, 15])
def test_at_scale_one_the_window_is_a_part_of_the_image_or_holds_it(side):
    batch, u = joint(height=12, width=12), uniforms(64, 3)
    crop = data.joint_scale_crop(side, (1.0, 1.0), void=200)(batch, u)
    for n in range(64):
        top, left = (int(v * (abs(side - 12) + 1)) for v in u[n, 1:])
        if side <= 12:
            np.testing.assert_array_equal(
                crop["mask"][n], batch["mask"][n, top : top + side, left : left + side]
            )
            np.testing.assert_array_equal(
                crop["image"][n], batch["image"][n, top : top + side, left : left + side]
            )
        else:
            inside = np.zeros((side, side), bool)
            inside[top : top + 12, left : left + 12] = True
            np.testing.assert_array_equal(crop["mask"][n][inside].reshape(12, 12), batch["mask"][n])
            assert (crop["mask"][n][~inside] == 200).all() and not crop["image"][n][~inside].any()


def test_scaled_masks_lie_on_scaled_images():
    """Blocks of 16 equal pixels: away from their edges image and mask still tell the same class, at
    every scale."""
    mask = noise(40, 6, 6, below=12).repeat(16, 1).repeat(16, 2)
    batch = {"image": 20 * mask[..., None], "mask": mask}
    u = uniforms(40, 3)
    crop = data.joint_scale_crop((64, 80), (0.5, 2.0))(batch, u)
    inside = crop["mask"] != data.NO_CLASS
    agree = crop["image"][..., 0] == np.where(inside, 20 * crop["mask"].astype(int), 0)
    assert agree[~inside].all() and agree[inside].mean() > 0.7
    apart = {}  # where either is moved by a pixel they fit less well
    for move in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
        moved = np.roll(crop["image"][..., 0], move, (1, 2)).astype(int)
        apart[move] = np.abs(moved - 20 * crop["mask"])[:, 1:-1, 1:-1][inside[:, 1:-1, 1:-1]].mean()
    assert all(apart[move] > 1.5 * apart[0, 0] for move in apart if move != (0, 0))
    sizes = inside.sum((1, 2))
    assert sizes.min() < 60 * 60 and sizes.max() == 64 * 80
    doubled = data.joint_scale_crop(192, (2.0, 2.0))(batch, u)["mask"]
    np.testing.assert_array_equal(doubled, mask.repeat(2, 1).repeat(2, 2))


def test_scales_and_images_that_make_no_sense_are_refused():
    for scales in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="scales"):
            data.joint_scale_crop(8, scales)
    batch = joint()
    with pytest.raises(ValueError, match="uint8"):
        data.joint_scale_crop(8)(
            {**batch, "image": batch["image"].astype(np.float32)}, uniforms(64, 3)
        )


def ramps(height, width):
    """An image whose two channels say where each pixel is, four gray levels a pixel."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([4 * y, 4 * x], -1).astype(np.uint8)[None]


def test_elastic_deformation_moves_the_points_of_its_grid_as_far_as_was_drawn():
    """In between it is smooth, and the mask goes with the image."""
    image = ramps(49, 57)
    mask = (image[..., 0] // 4 >= 20).astype(np.uint8)
    u = np.random.default_rng(0).random((1, 18))
    moved = data.joint_elastic(sigma=2.0)({"image": image, "mask": mask}, u)
    shift = 2.0 * scipy.stats.norm.ppf(u).reshape(2, 3, 3)
    found = moved["image"][0].astype(float) / 4 - image[0] / 4
    for axis in range(2):
        assert found[24, 28, axis] == pytest.approx(shift[axis, 1, 1], abs=0.2)
    assert np.abs(np.diff(found[8:-8, 8:-8], axis=0)).max() < 1.0
    row = moved["image"][0, ..., 0] / 4  # to the next quarter of a pixel
    assert moved["mask"][0][row > 19.7].all() and not moved["mask"][0][row < 19.3].any()
    still = data.joint_elastic(sigma=0.0)({"image": image, "mask": mask}, u)
    np.testing.assert_array_equal(still["image"], image)
    np.testing.assert_array_equal(still["mask"], mask)


def test_elastic_displacements_have_the_standard_deviation_that_is_asked_for():
    """Seen in the middle of many images, where the grid has a point."""
    image = np.repeat(ramps(61, 61), 400, 0)
    u = np.random.default_rng(0).random((400, 18))
    moved = data.joint_elastic(sigma=5.0)({"image": image, "mask": image[..., 0]}, u)["image"]
    middle = moved[:, 30, 30].astype(float) / 4 - 30
    assert np.abs(middle.mean(0)).max() < 1 and np.abs(middle.std(0) - 5).max() < 0.6


def test_border_weights_are_those_of_distances_to_the_two_nearest_objects():
    """By the definition: each pixel of the background against all pixels of each object. Touching
    objects of two classes are two, those of one class are one, and void is none."""
    mask = np.zeros((2, 16, 18), np.uint8)
    (
        mask[0, 2:6, 2:6],
        mask[0, 3:9, 9:12],
        mask[0, 10:14, 3:8],
        mask[0, 10:14, 8:10],
        mask[0, 0, 15:],
    ) = (
        1,
        1,
        2,
        1,
        7,
    )
    mask[1, 4:8, 4:8] = 3  # one object has no border with another
    found = data.border_weights(10.0, 3.0, void=7)({"mask": mask})["border"]
    objects = [
        np.argwhere(part)
        for part in (
            (np.arange(16)[:, None] < 6) & (np.arange(18) < 6) & (mask[0] == 1),
            (mask[0] == 1) & (np.arange(16)[:, None] < 9) & (np.arange(18) >= 9),
            mask[0] == 2,
            (mask[0] == 1) & (np.arange(16)[:, None] >= 10),
        )
    ]
    for pixel in np.argwhere(mask[0] == 0):
        d1, d2 = sorted(np.hypot(*(part - pixel).T).min() for part in objects)[:2]
        assert found[0][tuple(pixel)] == pytest.approx(
            10 * np.exp(-((d1 + d2) ** 2) / (2 * 3.0**2)), rel=1e-5, abs=1e-6
        )
    assert not found[0][mask[0] > 0].any() and not found[1].any()
    assert found[0].max() > 4

"""Operations on colors and geometry, erasing, and colors along their principal axes."""

import numpy as np
import pytest

from advdl import data
from advdl.data import augment


@pytest.fixture
def batch():
    images = np.random.default_rng(3).integers(1, 255, (64, 12, 10, 3), dtype=np.uint8)
    return {"image": images, "label": np.arange(64, dtype=np.int32)}


def uniforms(count, draws, seed=0):
    return np.random.default_rng(seed).random((count, draws))


def one(operation, image, number, sign=1):
    """An operation at magnitude `number` on an image (H, W, C), through TrivialAugment's own
    numbers."""
    names = list(augment.wide_operations())
    u = np.array(
        [
            [
                (names.index(operation) + 0.5) / len(names),
                (number + 0.5) / 31,
                0.75 if sign > 0 else 0.25,
            ]
        ]
    )
    return data.trivial_augment()({"image": image[None]}, u)["image"][0]


@pytest.mark.parametrize(
    "transform", [data.trivial_augment(), data.rand_augment(), data.rand_augment(3, 30)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_a_function_of_its_numbers_and_stays_uint8(batch, transform, channels):
    batch["image"] = batch["image"][..., :channels]
    before, u = batch["image"].copy(), uniforms(64, transform.draws)
    first, second = (transform(batch, u) for _ in range(2))
    np.testing.assert_array_equal(first["image"], second["image"])
    assert first["image"].shape == before.shape and first["image"].dtype == np.uint8
    changed = (first["image"] != before).any((1, 2, 3))
    assert changed.sum() > 32 and np.array_equal(first["label"], batch["label"])
    np.testing.assert_array_equal(batch["image"], before)
    alone = transform({"image": before[5:6]}, u[5:6])[
        "image"
    ]  # an example does not depend on its batch
    np.testing.assert_array_equal(alone[0], first["image"][5])
    with pytest.raises(ValueError, match="uint8"):
        transform(data.to_float(0, 1)(batch), u)


@pytest.mark.parametrize("sign", [-1, 1])
def test_magnitude_zero_changes_nothing(batch, sign):
    for name in augment.wide_operations():
        if name not in ("AutoContrast", "Equalize"):
            np.testing.assert_array_equal(
                one(name, batch["image"][0], 0, sign), batch["image"][0], err_msg=name
            )


def test_no_magnitude_of_rand_augment_at_zero_but_that_of_the_two_without(batch):
    names = list(augment.operations(12, 10))
    u = np.array(
        [
            [(names.index(name) + 0.5) / len(names), 0.3]
            for name in names
            if name not in ("AutoContrast", "Equalize")
        ]
    )
    images = batch["image"][: len(u)]
    np.testing.assert_array_equal(data.rand_augment(1, 0)({"image": images}, u)["image"], images)


def test_operations_are_their_formulas(batch):
    image, top = batch["image"][0], 30
    y, x, _ = np.indices(image.shape)
    np.testing.assert_array_equal(
        one("TranslateX", image, 3)[:, 3:], image[:, :-3]
    )  # 32 · 3/30 = 3.2 pixels
    np.testing.assert_array_equal(one("TranslateY", image, 3, -1)[:-3], image[3:])
    assert not one("TranslateX", image, 3)[:, :3].any()
    np.testing.assert_array_equal(
        one("Rotate", image, 20)[1:11], np.rot90(image[1:11])
    )  # 135° · 20/30, counterclockwise
    np.testing.assert_array_equal(one("Posterize", image, top), image & 0b11000000)
    np.testing.assert_array_equal(one("Solarize", image, top), 255 - image)
    np.testing.assert_array_equal(
        one("Solarize", image, 15), np.where(image >= 127.5, 255 - image, image)
    )
    dark = one("Brightness", image, top, -1)
    np.testing.assert_allclose(dark.astype(int), image * 0.01, atol=1)
    gray = one("Color", image, top, -1).astype(int)
    luma = image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(
        gray, np.repeat(luma[..., None], 3, 2) * 0.99 + image * 0.01, atol=1.5
    )
    flat = one("Contrast", image, top, -1).astype(int)
    np.testing.assert_allclose(flat, luma.mean() * 0.99 + image * 0.01, atol=1.5)
    stretched = one("AutoContrast", image // 2, 0)
    assert (stretched.reshape(-1, 3).min(0) == 0).all() and (
        stretched.reshape(-1, 3).max(0) >= 254
    ).all()
    shear = one("ShearX", image, 15)  # pixel (x, y) comes from x + 0.495 y, measured between pixels
    source = np.floor(x + 0.5 + 0.495 * (y + 0.5)).astype(int)
    expected = np.where(source < 10, np.take_along_axis(image, source.clip(0, 9), 1), 0)
    np.testing.assert_array_equal(shear, expected)
    np.testing.assert_array_equal(
        one("ShearY", image.swapaxes(0, 1), 15), expected.swapaxes(0, 1)
    )  # the same with rows and columns exchanged


def test_tables_have_the_published_operations_and_ranges():
    wide, narrow = augment.wide_operations(), augment.operations(331, 662)
    names = [
        "Identity",
        "ShearX",
        "ShearY",
        "TranslateX",
        "TranslateY",
        "Rotate",
        "Brightness",
        "Color",
        "Contrast",
    ]
    names += ["Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"]
    assert list(wide) == list(narrow) == names
    last = {name: wide[name].magnitudes[-1] for name in names}
    assert last == pytest.approx(
        dict(
            zip(
                names, [0, 0.99, 0.99, 32, 32, 135, 0.99, 0.99, 0.99, 0.99, 2, 0, 0, 0], strict=True
            )
        )
    )  # Müller & Hutter 2021, Table 1, wide
    last = {name: narrow[name].magnitudes[-1] for name in names}
    assert last == pytest.approx(
        dict(zip(names, [0, 0.3, 0.3, 300, 150, 30, 0.9, 0.9, 0.9, 0.9, 4, 0, 0, 0], strict=True))
    )
    assert [name for name in names if wide[name].signed] == names[1:10]


def test_rand_augment_takes_one_operation_after_another(batch):
    u = uniforms(64, 4)
    once = data.rand_augment(1, 9)
    np.testing.assert_array_equal(
        data.rand_augment(2, 9)(batch, u)["image"], once(once(batch, u[:, :2]), u[:, 2:])["image"]
    )
    with pytest.raises(ValueError, match="0 … 30"):
        data.rand_augment(2, 31)


def test_every_operation_is_as_likely_and_every_magnitude_and_sign(monkeypatch):
    seen = []
    spies = {
        name: entry._replace(
            apply=lambda image, m, name=name: seen.append((name, round(float(m), 6))) or image
        )
        for name, entry in augment.wide_operations().items()
    }
    monkeypatch.setattr(augment, "wide_operations", lambda: spies)
    data.trivial_augment()({"image": np.zeros((14_000, 1, 1, 3), np.uint8)}, uniforms(14_000, 3))
    counts = {name: sum(1 for other, _ in seen if other == name) for name in spies}
    assert all(abs(count - 1000) < 130 for count in counts.values())
    turned = np.array([m for name, m in seen if name == "Rotate"])
    np.testing.assert_allclose(np.unique(turned), np.arange(-30, 31) * 4.5, atol=1e-6)
    assert abs((turned < 0).mean() - 0.484) < 0.06  # half of 30 / 31


def test_erasing_zeroes_one_rectangle_of_the_share_asked_for():
    images = np.random.default_rng(0).normal(size=(2000, 32, 48, 2)).astype(np.float32)
    erased = data.random_erasing(0.4)(
        {"image": images}, uniforms(2000, data.random_erasing().draws)
    )["image"]
    gone = (erased == 0).all(-1)
    np.testing.assert_array_equal(erased[~gone], images[~gone])
    chosen = gone.any((1, 2))
    assert chosen.mean() == pytest.approx(0.4, abs=0.04)
    heights, widths = gone.any(2).sum(1)[chosen], gone.any(1).sum(1)[chosen]
    np.testing.assert_array_equal(gone.sum((1, 2))[chosen], heights * widths)  # a full rectangle
    for edge in (gone[:, 0], gone[:, -1], gone[:, :, 0], gone[:, :, -1]):
        assert edge.any()  # it may lie anywhere
    share = heights * widths / (32 * 48)
    assert 0.01 < share.min() < 0.04 and 0.3 < share.max() < 0.35
    assert 0.2 < (heights / widths).min() < 0.5 and 2 < (heights / widths).max() < 4.5
    np.testing.assert_array_equal(
        data.random_erasing(0)({"image": images}, uniforms(2000, 23))["image"], images
    )


def test_colors_move_along_their_axes_alone(batch):
    images = data.to_float(0, 1)(batch)["image"]
    many = {"image": np.repeat(images[:1], 5000, 0)}
    values, vectors = np.array(data.IMAGENET_EIGENVALUES), np.array(data.IMAGENET_EIGENVECTORS)
    moved = data.pca_color(0.1)(many, uniforms(5000, 3))["image"] - many["image"]
    assert moved.dtype == np.float32
    np.testing.assert_allclose(
        moved, np.broadcast_to(moved[:, :1, :1], moved.shape), atol=1e-6
    )  # one for all pixels
    along = moved[:, 0, 0] @ vectors  # the axes are orthonormal
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    np.testing.assert_allclose(np.cov((along / (0.1 * values)).T), np.eye(3), atol=0.06)
    middle = data.pca_color(0.1)(many, np.full((5000, 3), 0.5))["image"]
    np.testing.assert_array_equal(middle, many["image"])
    assert np.isfinite(data.pca_color()(many, np.zeros((5000, 3)))["image"]).all()


def test_colors_of_uint8_images_are_those_of_floats_rounded(batch):
    u = uniforms(64, 3)
    bytes_ = data.pca_color(0.5)(batch, u)["image"]
    floats = data.pca_color(0.5)(data.to_float(0, 1)(batch), u)["image"]
    assert bytes_.dtype == np.uint8
    np.testing.assert_allclose(bytes_, np.rint(floats * 255).clip(0, 255), atol=1)


def test_principal_colors_are_those_of_all_pixels():
    rng = np.random.default_rng(1)
    mixing = np.array([[60, 5, 0], [50, -10, 4], [40, 8, -9]])
    images = (rng.normal(size=(300, 4, 5, 3)) @ mixing.T + 128).clip(0, 255).astype(np.uint8)
    source = data.ArraySource("colors", "train", {"image": images, "label": np.zeros(300)}, ("a",))
    values, vectors = data.principal_colors(source)
    pixels = images.reshape(-1, 3) / 255
    expected, axes = np.linalg.eigh(np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(values, expected[::-1], rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(vectors * axes[:, ::-1], 0)), 1, rtol=1e-9)
    some, _ = data.principal_colors(source, examples=100)
    assert not np.allclose(some, values, rtol=1e-9) and np.allclose(some, values, rtol=0.2)

"""Masks get their colors, and pictures show what they say, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from advdl import data, present
from advdl.present import segmentation

VOID, RIGHT, WRONG = (
    np.array(color) for color in (segmentation.VOID, segmentation.RIGHT, segmentation.WRONG)
)
PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 250]], np.uint8)
MASK = np.array([[0, 1, 2], [7, 255, 1]], np.uint8)


def test_the_default_palette_is_pascal_vocs_and_never_repeats():
    palette = present.default_palette(256)
    assert len(np.unique(palette, axis=0)) == 256
    voc = [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
        (0, 128, 128),
        (128, 128, 128),
    ]
    np.testing.assert_array_equal(palette[:8], voc)
    assert palette[20].tolist() == [0, 64, 128] and palette[255].tolist() == [224, 224, 192]
    np.testing.assert_array_equal(present.default_palette(11), palette[:11])
    with pytest.raises(ValueError, match="257 classes"):
        present.default_palette(257)


def test_every_pixel_has_the_color_of_its_class_and_void_its_own():
    colors = present.colorize(MASK, PALETTE)
    np.testing.assert_array_equal(colors, [PALETTE, [VOID, VOID, PALETTE[1]]])
    np.testing.assert_array_equal(
        present.colorize(MASK, PALETTE, void=1)[0], [PALETTE[0], VOID, PALETTE[2]]
    )
    assert colors.dtype == np.uint8 and present.colorize(MASK[None], PALETTE).shape == (1, 2, 3, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_is_between_image_and_color(channels):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, channels), dtype=np.uint8)
    colors = present.colorize(MASK, PALETTE)
    np.testing.assert_array_equal(present.overlay_mask(image, MASK, PALETTE, opacity=1.0), colors)
    plain = present.overlay_mask(image, MASK, PALETTE, opacity=0.0)
    np.testing.assert_array_equal(plain, np.broadcast_to(image, (2, 3, 3)))
    half = present.overlay_mask(image, MASK, PALETTE, opacity=0.5)
    np.testing.assert_allclose(half, (image.astype(float) + colors) / 2, atol=0.5)


def test_errors_are_where_the_prediction_differs_and_void_is_none():
    prediction = np.array([[0, 2, 2], [0, 1, 0]])
    shown = present.error_map(MASK, prediction, 3)
    np.testing.assert_array_equal(shown, [[RIGHT, WRONG, RIGHT], [VOID, VOID, WRONG]])
    np.testing.assert_array_equal(
        present.error_map(MASK, prediction, 3, void=1)[0], [RIGHT, VOID, RIGHT]
    )
    truth = np.stack([MASK, np.full((2, 3), 9)])
    np.testing.assert_array_equal(
        present.image_accuracy(truth, np.stack([prediction] * 2), 3), [0.5, np.nan]
    )


def test_a_legend_shows_every_color_and_wraps():
    wide = present.legend(["sky", "road", "a car"], PALETTE, 300)
    narrow = present.legend(["sky", "road", "a car"], PALETTE, 60)
    assert wide.shape[1] == 300 and narrow.shape[1] == 60 and narrow.shape[0] > 2 * wide.shape[0]
    for sheet in (wide, narrow):
        for color in PALETTE:
            assert ((sheet == color).all(-1)).sum() >= 100


def scene(count=6):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, (count, 6, 8)).astype(np.uint8)
    prediction = truth.copy()
    for n in range(count):  # image n has n + 1 columns wrong
        prediction[n, :, : n + 1] = (truth[n, :, : n + 1] + 1) % 3
    return rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8), truth, prediction


def test_a_sheet_has_image_truth_prediction_and_errors_in_a_row():
    images, truth, prediction = scene(2)
    sheet = present.tile_overlays(images, truth, prediction, list("abc"), void=3, scale=20)
    rows = len(sheet) - len(
        present.legend([*"abc", "void", "wrong"], [*PALETTE, VOID, WRONG], sheet.shape[1])
    )
    palette = present.default_palette(3)
    expected = [
        images[0],
        present.overlay_mask(images[0], truth[0], palette),
        present.overlay_mask(images[0], prediction[0], palette),
        present.error_map(truth[0], prediction[0], 3),
    ]
    for n, image in enumerate(expected):
        left = 4 + n * 164
        np.testing.assert_array_equal(sheet[4 : 4 + 120 : 20, left : left + 160 : 20], image)
    assert rows > 2 * 124
    gray = present.tile_overlays(images[..., :1], truth, prediction, list("abc"), PALETTE, 3)
    assert gray.dtype == np.uint8 and gray.shape[2] == 3
    for wrong, words in [
        ({"palette": PALETTE[:2]}, "2 colors"),
        ({"captions": ["one"]}, "1 captions"),
    ]:
        with pytest.raises(ValueError, match=words):
            present.tile_overlays(images, truth, prediction, list("abc"), **wrong)
    with pytest.raises(ValueError, match="do not fit"):
        present.tile_overlays(images, truth[:1], prediction, list("abc"))


@pytest.mark.parametrize(
    ("most", "rows", "worst"),
    [(1, [3, 1], 1), (2, [3, 0, 4, 1], 2), (9, [3, 0, 5, 4, 1], 3), (0, [], 0)],
)
def test_extremes_go_from_worst_to_best_once_each_and_without_no_number(most, rows, worst):
    found, titles = present.extremes(np.array([0.3, 0.9, np.nan, 0.1, 0.8, 0.5]), most)
    assert found.tolist() == rows and titles == ["worst"] * worst + ["best"] * (len(rows) - worst)


def test_worst_and_best_images_are_drawn_and_the_same_bytes_again(tmp_path):
    images, truth, prediction = scene()
    path = present.draw_overlays(
        images, truth, prediction, tmp_path / "a.png", list("abcd"), most=1
    )
    share = present.image_accuracy(truth, prediction, 4)
    assert share.argmin() == 5 and share.argmax() == 0
    captions = [f"worst {share[5]:.0%}", f"best {share[0]:.0%}"]
    rows = [5, 0]
    sheet = present.tile_overlays(
        images[rows],
        truth[rows],
        prediction[rows],
        list("abcd"),
        captions=captions,
    )
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), sheet)
    again = present.draw_overlays(
        images, truth, prediction, tmp_path / "b.png", list("abcd"), most=1
    )
    assert path.read_bytes() == again.read_bytes()


def rectangle(path):
    """(top, left, bottom, right) of what is drawn in the color of the outline, and the picture."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    rows, columns = np.nonzero((pixels == WRONG).all(-1))
    return (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1), pixels


def test_a_receptive_field_is_the_pixels_it_covers(tmp_path):
    image = (
        data.digits("test").read(np.array([3]))["image"][0].repeat(4, 0).repeat(4, 1)
    )  # 32 by 32
    path = present.draw_receptive_field(
        image, size=9, stride=4, offset=1, path=tmp_path / "a.png", unit=(3, 2), scale=10
    )
    box, pixels = rectangle(
        path
    )  # unit (3, 2) is centered on pixel (13, 9): rows 9 … 17, columns 5 … 13; 2 of paper around
    np.testing.assert_array_equal(
        pixels[25:345:10, 25:345:10][:, 14:][18:], np.broadcast_to(image, (32, 32, 3))[18:, 14:]
    )
    dots = [(1 + 4 * k + 0.5 + 2) * 10 for k in range(8)]
    assert all((pixels[int((13.5 + 2) * 10), int(x)] == WRONG).all() for x in dots)
    outline = [
        (pixels[y, x] == WRONG).all() for y, x in ((110, 100), (199, 100), (150, 70), (150, 159))
    ]
    assert all(outline) and box[0] <= 110


def test_a_unit_that_sees_nothing_is_a_dot_alone(tmp_path):
    path = present.draw_receptive_field(
        np.full((8, 8, 3), 90, np.uint8), 0, 1, 0, tmp_path / "a.png"
    )
    with Image.open(path) as picture:
        assert (np.asarray(picture) == WRONG).all(-1).any()


def test_a_field_beyond_the_image_is_seen_on_paper(tmp_path):
    image = np.full((16, 24, 3), 90, np.uint8)
    path = present.draw_receptive_field(image, 40, 8, 3.5, tmp_path / "a.png", scale=4)
    box, pixels = rectangle(path)
    assert pixels.shape[0] % 4 == 0 and (box[2] - box[0], box[3] - box[1]) == (160, 160)
    huge = present.draw_receptive_field(image, 4000, 32, 0, tmp_path / "b.png", scale=1)
    with Image.open(huge) as picture:
        assert picture.size == (24 + 2 * 26, 16 + 2 * 26)

"""Pixels land where they should, at the shade they should have."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

from advdl import present
from advdl.errors import UserError
from advdl.present import classified, grid
from advdl.present.figure import save

IMAGES_BHWC = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4, 1))
DIGITS_BHWC = (load_digits().images[:12] / 16)[..., None]


def test_each_pixel_lands_in_its_place():
    sheet = present.tile(IMAGES_BHWC, columns=2, scale=3, margin=2)
    assert sheet.dtype == np.uint8 and sheet.shape == (2 + 3 * (9 + 2), 2 + 2 * (12 + 2), 3)
    covered = np.zeros(sheet.shape[:2], bool)
    for b, image in enumerate(IMAGES_BHWC):
        top, left = 2 + (b // 2) * 11, 2 + (b % 2) * 14
        expected = np.rint((image[..., 0] + 1) / 2 * 255)
        for channel in range(3):
            np.testing.assert_array_equal(
                sheet[top + 1 : top + 9 : 3, left + 1 : left + 12 : 3, channel], expected
            )
        np.testing.assert_array_equal(
            sheet[top : top + 9, left : left + 12, 0], expected.repeat(3, 0).repeat(3, 1)
        )
        covered[top : top + 9, left : left + 12] = True
    assert (sheet[~covered] == 255).all()


def test_low_and_high_become_black_and_white_and_the_rest_is_clipped():
    images = np.array([-9.0, 2.0, 2.5, 3.0, 9.0, -np.inf, np.inf]).reshape(1, 1, 7, 1)
    shades = present.tile(images, low=2, high=3, scale=1, margin=0)[0, :, 0]
    np.testing.assert_array_equal(shades, [0, 0, 128, 255, 255, 0, 255])


def test_no_number_is_magenta():
    images = np.zeros((1, 1, 2, 3))
    images[0, 0, 1, 2] = np.nan
    np.testing.assert_array_equal(
        present.tile(images, scale=1, margin=0)[0], [[128] * 3, [255, 0, 255]]
    )


def test_bytes_and_colors_are_taken_as_they_are():
    images = np.random.default_rng(1).integers(0, 256, (1, 4, 4, 3), np.uint8)
    np.testing.assert_array_equal(present.tile(images, scale=1, margin=0), images[0])


@pytest.mark.parametrize(("side", "scale"), [(8, 6), (28, 2), (48, 1), (64, 1)])
def test_small_images_are_enlarged_until_legible(side, scale):
    assert present.tile(np.ones((1, side, side, 1)), margin=0).shape[:2] == (
        side * scale,
        side * scale,
    )


def test_captions_stand_below_their_tile():
    plain = present.tile(DIGITS_BHWC[:2], low=0, columns=2)
    captioned = present.tile(DIGITS_BHWC[:2], low=0, columns=2, captions=["", "nine"])
    np.testing.assert_array_equal(captioned[:52], plain[:52])
    ink = captioned[52:].min(axis=(0, 2))
    assert (ink[:56] == 255).all() and (ink[56:] < 100).any()


def test_long_captions_stay_within_their_tile_and_three_lines():
    words = "a man rides a brown horse along the beach at sunset while gulls circle"
    short = present.tile(DIGITS_BHWC[:1], margin=0, captions=["a b c"])
    long = present.tile(DIGITS_BHWC[:1], margin=0, captions=[words])
    word = present.tile(DIGITS_BHWC[:1], margin=0, captions=["Donaudampfschifffahrtsgesellschaft"])
    assert short.shape[1] == long.shape[1] == word.shape[1] == 48
    assert long.shape[0] - 48 == 3 * (short.shape[0] - 48) == 3 * (word.shape[0] - 48)


def test_the_right_column_has_one_image_a_row_behind_a_rule():
    right = 1 - DIGITS_BHWC[:3]
    without = present.tile(DIGITS_BHWC, low=0, columns=4, scale=1)
    sheet = present.tile(DIGITS_BHWC, low=0, columns=4, scale=1, right_RHWC=right)
    width = without.shape[1]
    np.testing.assert_array_equal(sheet[:, :width], without)
    for r in range(3):
        row = sheet[4 + 12 * r : 12 + 12 * r, -12:-4]
        np.testing.assert_array_equal(row, present.tile(right[r : r + 1], low=0, scale=1, margin=0))
    rule = sheet[10, width:-12]
    assert (rule.std(axis=1) > 10).any() and (rule[0] == 255).all() and (rule[-1] == 255).all()


def test_a_title_stands_above_all():
    plain = present.tile(DIGITS_BHWC, low=0)
    titled = present.tile(DIGITS_BHWC, low=0, title="step 100")
    np.testing.assert_array_equal(titled[-len(plain) :], plain)
    assert titled[: -len(plain)].min() < 100


def test_what_does_not_fit_is_refused():
    for wrong, match in [
        ({"captions": ["one"]}, "1 captions for 5"),
        ({"right_RHWC": IMAGES_BHWC[:1], "columns": 2}, "beside 3 rows"),
    ]:
        with pytest.raises(ValueError, match=match):
            present.tile(IMAGES_BHWC, **wrong)
    with pytest.raises(ValueError, match="is needed"):
        present.tile(IMAGES_BHWC[..., 0])
    with pytest.raises(ValueError, match="no images"):
        present.tile(IMAGES_BHWC[:0])


def test_a_written_grid_is_the_sheet_and_the_same_bytes_again(tmp_path):
    path = present.draw_grid(DIGITS_BHWC, tmp_path / "new" / "a.png", low=0, title="digits")
    with Image.open(path) as image:
        np.testing.assert_array_equal(
            np.asarray(image), present.tile(DIGITS_BHWC, low=0, title="digits")
        )
    again = present.draw_grid(DIGITS_BHWC, tmp_path / "b.png", low=0, title="digits")
    assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "b.png", "new"]


def test_a_grid_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*a.png"):
        present.draw_grid(DIGITS_BHWC, tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="cannot write .*folder.png"):
        present.draw_grid(DIGITS_BHWC, tmp_path / "folder.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


def frames_of(path):
    with Image.open(path) as gif:
        for number in range(gif.n_frames):
            gif.seek(number)
            yield np.asarray(gif.convert("RGB")), gif.info["duration"], gif.info["loop"]


def test_gray_animation_keeps_every_frame_and_shade_and_holds_the_last(tmp_path):
    sheets = [present.tile(DIGITS_BHWC[k : k + 4], low=0, title=f"step {k}") for k in range(5)]
    path = present.animate(sheets, tmp_path / "a.gif", milliseconds=120, hold=900)
    frames, durations, loops = zip(*frames_of(path), strict=True)
    np.testing.assert_array_equal(frames, sheets)
    assert durations == (120, 120, 120, 120, 900) and set(loops) == {0}
    assert (
        path.read_bytes()
        == present.animate(sheets, tmp_path / "b.gif", milliseconds=120, hold=900).read_bytes()
    )


def test_colored_animation_is_close_and_steady(tmp_path):
    across = np.tile(np.linspace(0, 1, 32), (32, 1))
    ramp = np.stack([across, across.T, np.full((32, 32), 0.3)], -1)
    images = [np.stack([ramp, ramp * (0.5 + 0.1 * k)]) for k in range(4)]
    sheets = [present.tile(image, low=0) for image in images]
    frames = [frame for frame, *_ in frames_of(present.animate(sheets, tmp_path / "a.gif"))]
    assert np.abs(np.stack(frames).astype(int) - np.stack(sheets)).max() < 32
    left = [frame[4:68, 4:68] for frame in frames]  # this image is the same in all frames
    assert all((image == left[0]).all() for image in left)


def test_frames_may_be_files_and_equal_frames_are_one_shown_longer(tmp_path):
    sheets = [present.tile(DIGITS_BHWC[k : k + 1]) for k in (0, 1, 1)]
    paths = [
        present.draw_grid(DIGITS_BHWC[k : k + 1], tmp_path / f"{n}.png")
        for n, k in enumerate((0, 1, 1))
    ]
    path = present.animate(paths, tmp_path / "a.gif", milliseconds=100, hold=500)
    assert (
        path.read_bytes()
        == present.animate(sheets, tmp_path / "b.gif", milliseconds=100, hold=500).read_bytes()
    )
    assert [duration for _, duration, _ in frames_of(path)] == [100, 600]


def test_one_frame_is_an_animation_and_none_is_not(tmp_path):
    with Image.open(present.animate([present.tile(DIGITS_BHWC)], tmp_path / "a.gif")) as gif:
        np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), present.tile(DIGITS_BHWC))
    with pytest.raises(ValueError, match="one shape is needed"):
        present.animate([], tmp_path / "b.gif")
    with pytest.raises(ValueError, match="one shape is needed"):
        present.animate([present.tile(DIGITS_BHWC[:n]) for n in (1, 2)], tmp_path / "b.gif")


def test_of_very_many_pixels_every_second_or_third_is_shown(monkeypatch):
    monkeypatch.setattr(grid, "_MOST", 600)
    images = np.random.default_rng(1).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    sheet = present.tile(images, columns=2, scale=1, margin=0)
    np.testing.assert_array_equal(
        sheet, present.tile(images[:, ::2, ::2], columns=2, scale=1, margin=0)
    )


def test_images_of_one_row_are_not_enlarged_to_the_height_of_others(tmp_path):
    """Maps of 1 by 30,000 pixels once asked for twenty gigabytes."""
    images = np.zeros((2, 1, 30_000, 1), np.uint8)
    classified.heat_section(images, np.ones((2, 1, 4)), ["a", "b"], "conv", tmp_path)
    with Image.open(tmp_path / "heat.png") as sheet:
        assert sheet.width < 130_000 and sheet.height < 100


def test_a_character_that_the_font_lacks_is_no_warning(tmp_path):
    chart = Figure()
    chart.text(0, 0, "\x01 漢字")
    assert save(chart, tmp_path / "text.png").exists()

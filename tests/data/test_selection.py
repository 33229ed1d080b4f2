"""Rows that stand for a whole source, and reading it by blocks."""

import numpy as np
import pytest

from advdl import data

PIXELS = (np.arange(900) % 256).astype(np.uint8).repeat(4).reshape(900, 2, 2, 1)
SORTED = data.ArraySource("sorted", "train", PIXELS, np.repeat([0, 1, 2], 300), ("a", "b", "c"))


def test_a_selection_of_a_sorted_source_has_every_class():
    label = SORTED.read(data.selected(SORTED, 90))["label"]
    assert np.bincount(label, minlength=3).min() > 15


def test_a_selection_is_ascending_distinct_and_a_function_of_length_count_and_seed():
    rows = data.selected(SORTED, 90)
    assert rows.dtype == np.int64 and len(rows) == 90 and (np.diff(rows) > 0).all()
    assert np.array_equal(rows, data.selected(900, 90, 0)) and not np.array_equal(
        rows, data.selected(900, 90, 1)
    )


def test_a_selection_of_more_than_there_are_is_all():
    assert (
        np.array_equal(data.selected(SORTED, 10_000), np.arange(900))
        and len(data.selected(SORTED, 0)) == 0
    )


def test_every_row_is_selected_equally_often():
    counts = np.bincount(
        np.concatenate([data.selected(20, 5, seed) for seed in range(2000)]), minlength=20
    )
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500 * 0.75)


def test_blocks_are_the_source_in_the_rows_order():
    rows = data.selected(SORTED, 250)
    parts = list(data.read_blocks(SORTED, rows, 100))
    assert [len(part["label"]) for part in parts] == [100, 100, 50]
    assert np.array_equal(
        np.concatenate([part["image"] for part in parts]), SORTED.read(rows)["image"]
    )
    assert sum(len(part["label"]) for part in data.read_blocks(SORTED)) == 900


def test_blocks_of_large_images_are_small():
    """Memory is bounded whatever the images' size."""
    large = data.ArraySource(
        "large", "train", np.zeros((40, 1024, 1024, 1), np.uint8), np.zeros(40), ("a",)
    )
    assert [len(part["label"]) for part in data.read_blocks(large)] == [8] * 5


def test_a_source_that_draws_has_no_blocks():
    drawing = data.open_source("blank:8x8x1:2", "train", view=data.random_resized_crop(8))
    with pytest.raises(ValueError, match="draws random numbers"):
        next(data.read_blocks(drawing))


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="count is -1"):
        data.selected(SORTED, -1)


def test_means_of_pixels_are_the_same_whatever_is_read_at_a_time():
    digits = data.open_source("digits", "test")
    pixels = digits.read(np.arange(len(digits)))["image"] / 255
    for size in (0, 7):
        found = data.pixel_means(digits, size)
        np.testing.assert_allclose(found, pixels.mean(0).ravel(), rtol=1e-12)

"""Rows that stand for a whole source, and reading it by blocks."""

import numpy as np
import pytest

from advdl import data
from advdl.errors import UserError

PIXELS = (np.arange(900) % 256).astype(np.uint8).repeat(4).reshape(900, 2, 2, 1)
SORTED = data.ArraySource(
    "sorted", "train", {"image": PIXELS, "label": np.repeat([0, 1, 2], 300)}, ("a", "b", "c")
)


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
        "large",
        "train",
        {"image": np.zeros((40, 1024, 1024, 1), np.uint8), "label": np.zeros(40)},
        ("a",),
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


def test_a_validation_part_and_the_rest_are_the_source_each_in_its_order():
    digits = data.open_source("digits", "train")
    rest, part = data.split_validation(digits, 0.1)
    assert (len(rest), len(part), part.split) == (1290, 143, "val")
    assert part.image_shape == digits.image_shape and part.label_names == digits.label_names
    found = [source.read(np.arange(len(source))) for source in (digits, rest, part)]
    images = [each["image"].reshape(len(each["image"]), -1) for each in found]
    places = [[row.tobytes() for row in each] for each in images]
    inside = set(places[2])
    assert [row for row in places[0] if row not in inside] == [
        row for row in places[1] if row not in inside
    ]
    assert sorted(places[1] + places[2]) == sorted(places[0])
    assert set(found[2]["label"]) == set(range(10))  # drawn, where the first tenth might be sorted


def test_a_validation_part_is_a_function_of_its_seed():
    digits = data.open_source("digits", "train")
    parts = [data.split_validation(digits, 0.1, seed)[1].read(np.arange(9)) for seed in (0, 0, 1)]
    assert (parts[0]["image"] == parts[1]["image"]).all()
    assert (parts[0]["image"] != parts[2]["image"]).any()


def test_a_sixth_of_60_000_is_10_000_and_of_a_few_at_least_one():
    many, few = (np.zeros((count, 1, 1, 1), np.uint8) for count in (60_000, 3))
    sizes = [
        tuple(map(len, data.split_validation(in_order(images), share)))
        for images, share in ((many, 1 / 6), (few, 0.1))
    ]
    assert sizes == [(50_000, 10_000), (2, 1)]
    with pytest.raises(UserError, match="leave none to train on"):
        data.split_validation(in_order(few[:1]), 0.1)


def in_order(images):
    return data.ArraySource(
        "some", "train", {"image": images, "label": np.zeros(len(images))}, ("a",)
    )


def test_parts_are_opened_when_they_are_asked_for_and_once():
    asked = []

    def opened(split):
        asked.append(split)
        return data.open_source("digits", split)

    parts = data.open_parts(opened, 0.1)
    assert list(parts) == ["train", "val", "test"] and not asked
    assert (len(parts["train"]()), len(parts["val"]())) == (1290, 143) and asked == ["train"]
    assert len(parts["test"]()) == len(parts["test"]()) == 364 and asked == ["train", "test"]
    assert list(data.open_parts(opened)) == ["train", "test"]
    assert len(data.open_parts(opened)["train"]()) == 1433


def test_a_group_is_in_one_part():
    groups = np.repeat(range(30), 30)
    rest, held = data.split_validation(SORTED, 0.1, groups=groups)
    own = [groups[part._rows] for part in (rest, held)]
    assert len(set(own[1])) == 3 and not set(own[0]) & set(own[1])
    assert len(own[0]) + len(own[1]) == 900
    with pytest.raises(UserError, match="1 examples in train; 1 of them"):
        data.split_validation(SORTED, 0.1, groups=np.zeros(900))

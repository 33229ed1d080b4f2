"""Scenes of handwritten digits on counters."""

import numpy as np
import pytest
from PIL import Image

from advdl import data
from advdl.data import counters
from advdl.data.digits import BUILT_IN


def all_of(source):
    return source.read(np.arange(len(source)))


@pytest.fixture(scope="module")
def digit_scenes():
    return {split: data.open_scenes("digit_scenes", split) for split in ("train", "test")}


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("train", 2000), ("test", 300)])
def test_digit_scenes_have_digits_on_a_background_that_is_not_flat(digit_scenes, split, count):
    source = digit_scenes[split]
    batch = all_of(source)
    assert (
        len(source) == count
        and source.label_names == ("background", *"0123456789")
        and source.void is None
    )
    assert batch["image"].shape == (count, 64, 64, 1) and batch["mask"].shape == (count, 64, 64)
    assert batch["image"].dtype == batch["mask"].dtype == np.uint8
    shares = np.bincount(batch["mask"].ravel(), minlength=11) / batch["mask"].size
    assert len(shares) == 11 and 0.5 < shares[0] < 0.7 and shares[1:].min() > 0.03
    kinds = np.array([len(np.unique(mask)) - 1 for mask in batch["mask"]])
    assert kinds.min() >= 1 and kinds.max() == 4 and (kinds >= 2).mean() > 0.8
    image, on = batch["image"][..., 0].astype(float), batch["mask"] > 0
    assert image[on].mean() > image[~on].mean() + 30
    assert image[:, 0].std(1).min() > 3 and image[~on].std() > 15


@pytest.mark.slow
def test_a_scene_is_a_function_of_its_split_and_number(digit_scenes):
    whole = digit_scenes["train"].read(np.arange(5))
    few = all_of(counters.digit_scenes.__wrapped__("train", count=5))
    for key in whole:
        np.testing.assert_array_equal(few[key], whole[key])
    assert (digit_scenes["test"].read(np.arange(5))["image"] != whole["image"]).any()
    assert len(np.unique(all_of(digit_scenes["train"])["image"].reshape(2000, -1), axis=0)) == 2000


@pytest.mark.parametrize("seed", range(5))
def test_counters_are_whole_discs_with_their_digit_and_cover_rims_only(seed):
    """Digits that are full squares: the ink lies in the middle of each counter, under nothing."""
    squares = [Image.fromarray(np.full((8, 8), 255, np.uint8))] * 3
    labels = np.array([4, 0, 9])
    image, mask = counters._scene(np.random.default_rng(seed), (80, 100), 30, 4, squares, labels)
    assert set(np.unique(mask)) <= {0, 1, 5, 10}
    assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    ink = (image < 55) & (mask > 0)
    for part in (mask == 1 + label for label in labels):
        if part.any():
            assert 0.3 < ink[part].mean() < 0.9


def test_single_digits_are_one_counter_each_with_its_digit():
    source = data.single_digits("test", 16)
    batch = source.read(np.arange(len(source)))
    assert (
        source.image_shape == (24, 24, 1)
        and len(source) == 1000
        and source.label_names == tuple("0123456789")
    )
    assert np.bincount(batch["label"], minlength=10).min() > 50
    paper = (batch["image"] > 180).mean(
        (1, 2)
    )  # within the counter, whose area is π/4 of 14 to 18 pixels squared
    assert paper.min() > 0.02 and paper.max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("digit_scenes", "digits"), ("mnist_scenes", "mnist")])
def test_scenes_are_made_of_the_digits_of_their_name_and_split(monkeypatch, name, kind):
    used, read = [], BUILT_IN[kind]
    monkeypatch.setitem(BUILT_IN, kind, lambda split: used.append(split) or read(split))
    for split in ("train", "test"):
        assert counters.digit_scenes.__wrapped__(split, count=1, name=name).name == name
        assert data.captioned_digits(split, count=1, name=name).images.name == name
        data.single_digits(split, 16, name)
    assert used == ["train"] * 3 + ["test"] * 3


def test_scenes_of_digits_say_which_and_how_large():
    opened = data.open_scenes("mnist_scenes:16", "test", size=(20, 20))
    assert opened.name == "mnist_scenes" and len(opened.label_names) == 11
    assert data.of_digits("mnist_scenes:40") == ("mnist_scenes", 40)
    assert data.of_digits("digit_scenes") == ("digit_scenes", 28)
    assert data.of_digits("folder:digit_scenes") is data.of_digits("digit_scenes:") is None
    single = data.singles_of("mnist_scenes:16")("test").read(np.arange(3))
    expected = data.single_digits("test", 16, "mnist_scenes").read(np.arange(3))
    np.testing.assert_array_equal(single["image"], expected["image"])

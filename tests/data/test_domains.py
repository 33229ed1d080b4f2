"""Two sets that nobody has paired."""

import json

import numpy as np
import pytest
from PIL import Image

from advdl import data
from advdl.data import domains, drawing
from advdl.errors import UserError


def write(folder, count, shade, size=(16, 16)):
    folder.mkdir(parents=True)
    for n in range(count):
        Image.new("RGB", size, (shade, n, 0)).save(folder / f"{n:03}.png")


def test_what_is_drawn_covers_as_much_as_its_area():
    x, y = drawing.coordinates(64, 64)
    shapes = {
        "capsule": (drawing.capsule(x, y, (0.3, 0.5), (0.7, 0.5), 0.1), 0.4 * 0.2 + np.pi * 0.01),
        "box": (drawing.box(x, y, (0.5, 0.4), (0.3, 0.2)), 0.6 * 0.4),
        "round box": (drawing.box(x, y, (0.5, 0.4), (0.3, 0.2), 0.1), 0.24 - (4 - np.pi) * 0.01),
        "ring": (drawing.ring(x, y, (0.5, 0.5), (0.3, 0.3), 0.05), np.pi * (0.35**2 - 0.25**2)),
    }
    for name, (distance, area) in shapes.items():
        assert drawing.cover(distance, 64).mean() == pytest.approx(area, rel=0.01), name


def test_hues_are_those_of_pillow():
    hue = np.arange(12) / 12
    with Image.new("HSV", (1, 1)) as one:
        for h, color in zip(hue, drawing.hue_color(hue, 0.75, 0.85), strict=True):
            one.putpixel((0, 0), (round(h * 255), round(0.75 * 255), round(0.85 * 255)))
            np.testing.assert_allclose(
                np.array(one.convert("RGB").getpixel((0, 0))) / 255, color, atol=0.02
            )


def test_test_pairs_share_their_factors_and_training_pairs_do_not():
    training, held_out = (data.open_domains("bags_shoes", split) for split in ("train", "test"))
    assert (held_out.factors["a"] == held_out.factors["b"]).all()
    a, b = (training.factors[side][:, 1] for side in "ab")
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    rows = held_out.read(np.arange(20))
    color = [
        np.array([image[image.min(-1) < 200].mean(0).argmax() for image in rows[side]])
        for side in "ab"
    ]
    assert (color[0] == color[1]).mean() > 0.9  # the same hue, so the same channel is the brightest


def test_factors_move_what_they_say():
    low, high = (np.array([[0.3, *others]]) for others in ((0.1, 0.5), (0.9, 0.5)))
    for draw in (domains.draw_bags, domains.draw_shoes):
        ink = [(255 - draw(factors, 32)[0].astype(int)).sum() for factors in (low, high)]
        assert ink[0] < ink[1]
        tall = [
            np.flatnonzero((draw(np.array([[0.3, 0.5, h]]), 32)[0] < 200).any((1, 2)))[0]
            for h in (0.1, 0.9)
        ]
        assert tall[1] < tall[0]


def test_in_training_the_other_side_is_drawn_anew_and_every_example_of_the_longer_comes_once(
    tmp_path,
):
    write(tmp_path / "train" / "A", 12, 0)
    write(tmp_path / "train" / "B", 5, 255)
    write(tmp_path / "test" / "A", 3, 0)
    write(tmp_path / "test" / "B", 2, 255)
    training, held_out = (
        data.open_domains(f"folder:{tmp_path}", split) for split in ("train", "test")
    )
    assert training.names == ("A", "B") and (len(training), len(held_out)) == (12, 2)
    batches = data.TrainBatches(training, 6, 0)
    parts = [batches(t) for t in range(40)]
    assert all(
        (part["a"][..., 0] == 0).all() and (part["b"][..., 0] == 255).all() for part in parts
    )
    epoch = np.concatenate([part["a"][:, 0, 0, 1] for part in parts[:2]])
    assert sorted(epoch) == list(range(12))
    pairs = {
        (int(a), int(b))
        for part in parts
        for a, b in zip(part["a"][:, 0, 0, 1], part["b"][:, 0, 0, 1], strict=True)
    }
    assert len(pairs) > 50  # of 60


def test_two_folders_without_splits_hold_out_every_tenth(tmp_path):
    write(tmp_path / "A", 25, 0)
    write(tmp_path / "B", 11, 255)
    training, held_out = (
        data.open_domains(f"folder:{tmp_path}", split) for split in ("train", "test")
    )
    assert (len(training.a), len(training.b), len(held_out.a), len(held_out.b)) == (22, 9, 3, 2)
    seen = {
        int(n)
        for source in (training.a, held_out.a)
        for n in source.read(np.arange(len(source)))["image"][:, 0, 0, 1]
    }
    assert seen == set(range(25))


def test_classes_of_any_source_make_a_side():
    digits = data.open_domains("digits", "test", a=["1", "7"], b=["0"])
    assert digits.names == ("1 and 7", "0")
    zeros = data.open_source("digits", "test")
    rows = zeros.read(np.arange(len(zeros)))
    np.testing.assert_array_equal(
        digits.b.read(np.arange(len(digits.b)))["image"], rows["image"][rows["label"] == 0]
    )


def test_points_go_from_rows_to_a_ring():
    training = data.open_domains("modes", "train")
    batch = data.TrainBatches(training, 500, 0)(3)
    for side in "ab":
        mixture = getattr(training, side).mixture
        near = np.linalg.norm(batch[side][:, None] - mixture.centers_KD, axis=-1)
        assert near.min(1).max() < 6 * mixture.deviation and set(near.argmin(1)) == set(range(10))


@pytest.mark.parametrize(
    ("spec", "options", "line"),
    [
        ("digits", {}, "has 10 classes; name those of both sides"),
        ("digits", {"a": ["1"], "b": ["1", "2"]}, "class '1' is on both sides"),
        ("digits", {"a": ["1"], "b": ["eleven"]}, "has no class 'eleven'"),
        ("bags_shoes:17", {}, "multiple of 16"),
        ("bags_shoes", {"a": ["1"]}, "leave --a, --b"),
        ("modes:3", {}, "leave --a, --b"),
        ("bag_shoes", {}, "no data set 'bag_shoes'"),
    ],
)
def test_what_is_not_there_is_told(spec, options, line):
    with pytest.raises(UserError, match=line):
        data.open_domains(spec, "train", **options)


def test_an_empty_side_is_told(tmp_path):
    write(tmp_path / "A", 3, 0)
    (tmp_path / "B").mkdir()
    with pytest.raises(UserError, match="class folder .*B has no images"):
        data.open_domains(f"folder:{tmp_path}", "train")
    write(tmp_path / "B2", 1, 0)
    (tmp_path / "B").rmdir()
    with pytest.raises(UserError, match="no images of B2 in train"):
        data.open_domains(f"folder:{tmp_path}", "train")


def test_the_spec_of_two_domains_comes_back_as_it_was_stored():
    for name, points in (("modes", True), ("bags_shoes", False)):
        spec = data.DomainsSpec.of(data.open_domains(name, "test"))
        stored = json.loads(json.dumps(spec.to_json()))
        assert data.DomainsSpec.from_json(stored) == spec and spec.points is points
    assert spec.factors == domains.FACTORS and (spec.a.name, spec.b.shape) == ("bags", (16, 16, 3))

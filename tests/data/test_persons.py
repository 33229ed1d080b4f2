"""Drawn persons: the same one in two poses, and keypoints that lie on them."""

import numpy as np
import pytest

from advdl import data
from advdl.data import persons
from advdl.errors import UserError

RANDOM = np.random.default_rng(0)


@pytest.mark.slow
def test_a_pair_is_one_person_and_the_other_row_is_the_way_back():
    held_out = data.figures("test")
    assert len(held_out) == 500 and held_out.image_shape == (48, 32, 3)
    pair = held_out.read(np.array([6, 7]))
    np.testing.assert_array_equal(pair["image"][0], pair["target"][1])
    np.testing.assert_array_equal(pair["keypoints"][1], pair["target_keypoints"][0])
    assert (pair["image"][0] != pair["image"][1]).any()


def test_a_person_is_drawn_in_another_pose():
    held_out, rows = data.figures("test"), np.array([6, 9])
    points = held_out.read(rows)["target_keypoints"][:, :, :2] / 48
    wanted = held_out.read(rows)["target"]
    for n in range(2):
        np.testing.assert_array_equal(held_out.posed(rows, points[n])[n], wanted[n])


@pytest.mark.slow
def test_nobody_is_in_both_splits_and_every_draw_is_the_same():
    looks = [persons.DrawnPairs(split).looks for split in ("test", "test")]
    np.testing.assert_array_equal(*looks)
    looks.append(persons.DrawnPairs("val").looks)
    looks.append(np.random.default_rng([0x666967, 0]).random((3000, persons.LOOKS)))  # train
    assert len({tuple(row) for each in looks[1:] for row in each}) == 250 + 250 + 3000


def test_keypoints_lie_on_the_person_in_the_colors_of_its_parts():
    size, count = (96, 64), 40
    looks = RANDOM.random((count, persons.LOOKS))
    looks[:, 5] = 0.9  # long sleeves
    looks[:, 3] = 0.5  # a plain shirt
    points = persons.skeleton(RANDOM.random((count, persons.ANGLES)))
    images = persons.draw_figures(looks, points, size)
    shirt = np.rint(255 * data.drawing.hue_color(looks[:, 2]))
    at = np.clip(np.floor(points * size[0]).astype(int), 0, [size[1] - 1, size[0] - 1])
    for k in (2, 3, 5, 6):
        seen = images[np.arange(count), at[:, k, 1], at[:, k, 0]]
        off = np.abs(seen - shirt).max(1)
        assert np.median(off) <= 1, persons.KEYPOINTS[
            k
        ]  # the other arm, or a hand, may lie over it
    ground = images[:, 0, 0]
    for k in range(14):
        seen = images[np.arange(count), at[:, k, 1], at[:, k, 0]]
        assert (seen != ground).any(1).mean() > 0.9, persons.KEYPOINTS[k]


def test_a_walk_closes():
    walk = persons.walk(12)
    steps = np.abs(np.diff(np.concatenate([walk, walk[:1]]), axis=0)).max(1)
    assert steps[-1] == pytest.approx(steps[0], rel=0.5) and (walk >= 0).all() and (walk < 1).all()


def test_another_split_is_refused():
    with pytest.raises(UserError, match="figures have no split"):
        data.figures("dev")

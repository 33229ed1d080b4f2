"""Strokes: what they cover, and what is no stroke."""

import json

import numpy as np
import pytest

from advdl import data
from advdl.errors import UserError

COLOR = {"kind": "color", "color": [255, 0, 0], "points": [[1, 2], [5, 2]], "radius": 1}
SKETCH = {"kind": "sketch", "points": [[4, 1], [4, 7]], "radius": 0.6}
WARP = {"kind": "warp", "from": [2, 2], "to": [6, 5], "radius": 1.5}


def parsed(*strokes, shape=(8, 10, 3)):
    return data.parse_strokes({"strokes": list(strokes)}, "here", shape)


def test_a_stroke_covers_what_lies_within_its_radius():
    edit = parsed(COLOR)
    y, x = np.mgrid[:8, :10] + 0.5
    away = np.hypot(x - np.clip(x, 1, 5), y - 2)
    np.testing.assert_array_equal(edit.colored > 0, away <= 1)
    assert (edit.color[edit.colored > 0] == [1, 0, 0]).all() and not edit.color[
        edit.colored == 0
    ].any()
    np.testing.assert_array_equal(edit.mask, edit.colored)


def test_a_later_color_lies_over_an_earlier_one_and_gray_is_what_the_eye_sees():
    edit = parsed(COLOR, {**COLOR, "color": [0, 0, 255], "points": [[5, 2]]}, shape=(8, 10, 1))
    assert edit.color[2, 1, 0] == pytest.approx(0.299) and edit.color[2, 4, 0] == pytest.approx(
        0.114
    )


def test_what_is_moved_comes_from_where_it_was():
    edit = parsed(WARP)
    assert (edit.offset[edit.moved > 0] == [-4, -3]).all()
    np.testing.assert_array_equal(np.argwhere(edit.moved > 0).mean(0) + 0.5, [5, 6])


def test_a_sketch_asks_for_edges_and_for_none_beside_them():
    edit = parsed(SKETCH)
    assert edit.edges.sum() < edit.sketched.sum() and (edit.sketched >= edit.edges).all()
    assert parsed(COLOR, SKETCH, WARP).mask.sum() > edit.mask.sum()


@pytest.mark.parametrize(
    ("stroke", "line"),
    [
        (
            {**COLOR, "points": [[1, 2], [11, 2]]},
            r"strokes\[0\]: a point \(11, 2\) lies outside of the image of 10 by 8",
        ),
        ({**WARP, "to": [3, -1]}, r"strokes\[0\]: to .* lies outside"),
        ({**COLOR, "kind": "colour"}, "no kind 'colour'.*nearest: color"),
        ({**COLOR, "color": [300, 0, 0]}, "three numbers from 0 to 255"),
        ({**COLOR, "color": "red"}, "color is 'red'; expected a list of 3"),
        ({**COLOR, "radius": float("nan")}, "radius"),
        ({**COLOR, "radius": 0}, "radius is 0"),
        ({**COLOR, "points": []}, "has 0 points"),
        (
            {**COLOR, "points": [[1, [2]]]},
            r"strokes\[0\].points\[0\]\[1\] is a list; expected a finite number",
        ),
        ({"kind": "sketch", "radius": 1}, "has no points"),
        ({**COLOR, "points": [[3, 3]], "radius": 0.1}, "covers no pixel"),
        ("stroke", r"strokes\[0\] is .stroke.; expected an object"),
    ],
)
def test_what_is_no_stroke_is_told_in_one_line(stroke, line):
    with pytest.raises(UserError, match=f"^here.*{line}"):
        parsed(stroke)


def test_a_file_without_strokes_is_told(tmp_path):
    path = tmp_path / "strokes.json"
    for content, line in (
        ("{", "is not JSON"),
        ("[]", "is a list; expected an object"),
        ('{"strokes": []}', "has no strokes"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=line):
            data.read_strokes(path, (8, 8, 1))
    with pytest.raises(UserError, match="No such file"):
        data.read_strokes(tmp_path / "absent.json", (8, 8, 1))
    path.write_text(json.dumps({"strokes": [COLOR]}))
    assert data.read_strokes(path, (8, 8, 3)).colored.any()

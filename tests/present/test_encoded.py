"""Rows of versions and maps of codes: what is drawn where."""

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from advdl import present
from advdl.present import encoded


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_versions_of_an_image_are_below_each_other_in_bands(tmp_path):
    levels = np.arange(1, 41) / 50
    rows = {"original": levels, "the network": 1 - levels, "third": levels / 2}
    images = {
        name: np.broadcast_to(value[:, None, None, None], (40, 8, 8, 1))
        for name, value in rows.items()
    }
    sheet = pixels(present.draw_rows(images, tmp_path / "rows.png"))
    one = pixels(
        present.draw_grid(
            images["original"][:16], tmp_path / "one.png", low=0.0, high=1.0, columns=16
        )
    )
    left, side = sheet.shape[1] - one.shape[1], 8 * 6 + 4

    def at(band, row, column):
        return sheet[band * (3 * side + 4 + 10) + 28 + row * side, left + 28 + column * side, 0]

    for band in (0, 1):  # 32 of 40: two whole bands
        for row, value in enumerate(rows.values()):
            for column in (0, 7, 15):
                assert at(band, row, column) == round(255 * value[16 * band + column])
    assert sheet.shape[0] == 2 * (3 * side + 4) + 10
    assert (sheet[:, : left - 4].min(axis=(1, 2)) < 200).sum() > 30  # names
    few = {name: value[:3] for name, value in images.items()}
    assert pixels(present.draw_rows(few, tmp_path / "few.png")).shape[0] == 3 * side + 4


def test_versions_of_other_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="versions"):
        present.draw_rows(
            {"a": np.zeros((2, 4, 4, 1)), "b": np.zeros((3, 4, 4, 1))}, tmp_path / "a.png"
        )


def test_a_map_shows_each_class_in_its_color_where_its_points_are(tmp_path):
    rng = np.random.default_rng(0)
    centers = np.array([[-5, 0], [5, 0], [0, 5]])
    label = np.repeat(np.arange(3), 40)
    points = centers[label] + rng.normal(size=(120, 2)) * 0.3
    path = present.draw_map(points, label, ["a", "b$_", "c"], tmp_path / "map.png")
    assert (
        path.read_bytes()
        == present.draw_map(points, label, ["a", "b$_", "c"], tmp_path / "again.png").read_bytes()
    )
    image = pixels(path)[:, : 7 * 120]  # without the legend
    places = []
    for color in encoded.COLORS[:3]:
        near = (np.abs(image - np.round(255 * np.array(matplotlib.colors.to_rgb(color)))) <= 2).all(
            -1
        )
        places.append(np.median(np.nonzero(near), 1))
    (row_a, column_a), (row_b, column_b), (row_c, column_c) = places
    assert column_a < column_c < column_b and row_c < min(row_a, row_b) and abs(row_a - row_b) < 20


@pytest.mark.slow
def test_a_map_of_many_classes_or_of_other_shapes(tmp_path):
    points, label = np.random.default_rng(0).normal(size=(80, 2)), np.arange(80)
    assert (
        present.draw_map(points, label, [f"class {k}" for k in range(80)], tmp_path / "many.png")
        .stat()
        .st_size
        > 1000
    )
    with pytest.raises(ValueError, match="labels"):
        present.draw_map(points[:, :1], label, [], tmp_path / "no.png")

"""What a person draws on an image to say how it should be: strokes of color, sketched edges, parts
that are moved.

Axes: H height, W width, C channels. Places are (x, y) in pixels from the upper left corner of the
  image.
"""

import pathlib
from typing import Any, NamedTuple, TypedDict

import numpy as np

from advdl.errors import UserError, as_user_error, nearest
from advdl.reading import convert, read_json

KINDS = {
    "color": ("color", "points", "radius"),
    "sketch": ("points", "radius"),
    "warp": ("from", "to", "radius"),
}
MOST_POINTS = 10_000

Place = tuple[float, float]
Stroke = TypedDict(
    "Stroke",
    {
        "kind": str,
        "radius": float,
        "color": tuple[float, float, float],
        "points": list[Place],
        "from": Place,
        "to": Place,
    },
    total=False,
)


class Strokes(TypedDict):
    """What a file has, or the page sends."""

    strokes: list[Stroke]


class Edit(NamedTuple):
    """What all strokes ask for. color (H, W, C) in [0, 1] where `colored` (H, W) is 1; edges (H, W)
    in [0, 1] where `sketched` is 1; and where `moved` (H, W) is 1, what lies `offset` (H, W, 2), in
    pixels (x, y), away."""

    color: np.ndarray
    colored: np.ndarray
    edges: np.ndarray
    sketched: np.ndarray
    offset: np.ndarray
    moved: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W): 1 where a stroke of any kind is."""
        return np.maximum.reduce([self.colored, self.sketched, self.moved])


def read_strokes(path: str | pathlib.Path, shape: tuple[int, int, int]) -> Edit:
    """Those of a JSON file, `{"strokes": [{"kind": "color", "color": [r, g, b], "points": [[x, y],
    …], "radius": r}, {"kind": "sketch", "points": …, "radius": r}, {"kind": "warp", "from": [x, y],
    "to": [x, y], "radius": r}]}`; colors from 0 to 255.

    Raises UserError, with its path, as `parse_strokes` does, and where it cannot be read.
    """
    return parse_strokes(read_json(path), str(path), shape)


def parse_strokes(content: Any, name: str, shape: tuple[int, int, int]) -> Edit:
    """Of a decoded file, for an image of this shape (H, W, C); later strokes lie over earlier ones.
    Raises UserError, about `name`, for what is not a stroke, and for a place outside of the
    image."""
    with as_user_error("see `read_strokes`"):
        strokes = convert(Strokes, content, name)["strokes"]
    if not strokes:
        raise UserError(f"{name} has no strokes; expected a list of them under the name strokes")
    height, width, channels = shape
    y, x = np.mgrid[:height, :width] + 0.5
    edit = Edit(
        *(
            np.zeros((height, width, *rest), np.float32)
            for rest in ((channels,), (), (), (), (2,), ())
        )
    )
    for number, stroke in enumerate(strokes):
        here = f"{name}: strokes[{number}]"
        kind = stroke.get("kind")
        if kind not in KINDS:
            raise UserError(
                f"{here} is of no kind {kind!r}; there are"
                f" {', '.join(KINDS)}{nearest(str(kind), KINDS)}"
            )
        if absent := [part for part in KINDS[kind] if part not in stroke]:
            raise UserError(f"{here} ({kind}) has no {absent[0]}")
        radius = stroke["radius"]
        if not 0 < radius <= max(height, width):
            raise UserError(
                f"{here}: radius is {radius:g}; expected more than 0 and at most"
                f" {max(height, width)} pixels"
            )
        if kind == "warp":
            ends = [_inside(stroke[end], f"{here}: {end}", shape) for end in ("from", "to")]
            covered = np.hypot(x - ends[1][0], y - ends[1][1]) <= radius
            edit.offset[covered] = ends[0] - ends[1]
            edit.moved[covered] = 1
            continue
        points = stroke["points"]
        if not 0 < len(points) <= MOST_POINTS:
            raise UserError(f"{here} has {len(points)} points; expected 1 to {MOST_POINTS}")
        line = np.stack([_inside(point, f"{here}: a point", shape) for point in points])
        covered = along(line, x, y) <= radius
        if kind == "sketch":
            edit.sketched[covered | (along(line, x, y) <= 2 * radius)] = 1
            edit.edges[covered] = 1
            continue
        color = np.array(stroke["color"])
        if color.min() < 0 or color.max() > 255:
            raise UserError(
                f"{here}: color is {color.tolist()}; expected three numbers from 0 to 255"
            )
        edit.color[covered] = color / 255 if channels == 3 else color @ [0.299, 0.587, 0.114] / 255
        edit.colored[covered] = 1
    if not edit.mask.any():
        raise UserError(f"{name} covers no pixel; take a larger radius")
    return edit


def along(points_N2: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance of places x, y (H, W) from the line that joins the points in turn."""
    first, last = points_N2[: max(1, len(points_N2) - 1)], points_N2[min(1, len(points_N2) - 1) :]
    nearest_yet = np.full(x.shape, np.inf)
    for a, b in zip(first, last, strict=True):
        way = b - a
        share = ((x - a[0]) * way[0] + (y - a[1]) * way[1]) / max(way @ way, 1e-9)
        share = np.clip(share, 0, 1)
        nearest_yet = np.minimum(
            nearest_yet, np.hypot(x - a[0] - share * way[0], y - a[1] - share * way[1])
        )
    return nearest_yet


def _inside(value: Place, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    place = np.array(value)
    if (place < 0).any() or place[0] > shape[1] or place[1] > shape[0]:
        raise UserError(
            f"{name} ({place[0]:g}, {place[1]:g}) lies outside of the image of {shape[1]} by"
            f" {shape[0]} pixels"
        )
    return place

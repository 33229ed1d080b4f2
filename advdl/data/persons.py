"""Drawn persons: whoever in whatever pose, so that the same person in another pose is known, which
photographs seldom tell.

Axes: B pictures, H, W pixels, K keypoints. Keypoints are OpenPose's 18 of COCO, in this order, as
(x, y, seen): pixels from the upper left corner of the picture, and 1 where the keypoint is known,
else 0.
"""

import functools
from collections.abc import Sequence

import numpy as np

from advdl.data import drawing
from advdl.data.source import Source
from advdl.errors import UserError, nearest

KEYPOINTS = (
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
)
LIMBS = (
    (1, 2),
    (2, 3),
    (3, 4),
    (1, 5),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
    (2, 8),
    (5, 11),
    (8, 11),
)
"""Which keypoints a body joins; the last three close the trunk."""
LOOKS, ANGLES = 10, 11
PERSONS = {"train": 3000, "test": 250, "val": 250}


def skeleton(u_BA: np.ndarray) -> np.ndarray:
    """Keypoints (B, K, 2) in shares of the picture's height, of numbers (B, ANGLES) in [0, 1):
    where the body stands, how far it is turned, how it leans, and the angles of shoulders, elbows,
    hips and knees. A half everywhere stands straight."""
    s = 2 * np.asarray(u_BA, np.float64) - 1
    turn = 0.35 + 0.65 * (1 - np.abs(s[:, 1]))  # how broad it looks
    lean = 0.12 * s[:, 2]
    hip = np.stack([1 / 3 + 0.05 * s[:, 0], np.full(len(s), 0.53)], 1)

    def down(angle):
        return np.stack([np.sin(angle), np.cos(angle)], 1)

    neck = hip - 0.29 * down(-lean)
    across = np.stack([np.cos(lean), np.sin(lean)], 1) * turn[:, None]
    points = np.zeros((len(s), 18, 2))
    points[:, 1] = neck
    points[:, 0] = neck - 0.1 * down(-lean) + np.stack([0.05 * s[:, 1], np.zeros(len(s))], 1)
    for side, sign, shoulder, elbow, hip_angle, knee in ((2, -1, 3, 4, 7, 8), (5, 1, 5, 6, 9, 10)):
        points[:, side] = neck + sign * 0.075 * across + [0, 0.015]
        upper = sign * (0.15 + 1.1 * (s[:, shoulder] + 1) / 2 * 1.6)
        points[:, side + 1] = points[:, side] + 0.13 * down(upper)
        points[:, side + 2] = points[:, side + 1] + 0.12 * down(
            upper + sign * (0.1 + 1.2 * (s[:, elbow] + 1) / 2)
        )
        points[:, side + 6] = hip + sign * 0.045 * across
        thigh = sign * 0.06 + 0.45 * s[:, hip_angle]
        points[:, side + 7] = points[:, side + 6] + 0.19 * down(thigh)
        points[:, side + 8] = points[:, side + 7] + 0.18 * down(thigh - 0.5 * (s[:, knee] + 1) / 2)
        points[:, 14 if side == 2 else 15] = points[:, 0] + sign * 0.02 * across - [0, 0.015]
        points[:, 16 if side == 2 else 17] = points[:, 0] + sign * 0.045 * across - [0, 0.005]
    return points


def scaled(points_BK2: np.ndarray, height: int) -> np.ndarray:
    """Keypoints of `skeleton` in a picture of this height: (B, K, 3) float32, all seen."""
    points = np.asarray(points_BK2) * height
    return np.concatenate([points, np.ones((*points.shape[:2], 1))], -1).astype(np.float32)


def draw_figures(looks_BL: np.ndarray, points_BK2: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """uint8 (B, H, W, 3): persons who look as LOOKS numbers in [0, 1) say (skin, hair, shirt, its
    pattern and that one's color, sleeves, trousers, their length, shoes, background), in these
    poses (`skeleton`)."""
    height, width = size
    skin, hair, shirt, pattern, second, sleeve, trousers, length, shoes, ground = np.asarray(
        looks_BL, np.float64
    ).T
    x, y = drawing.coordinates(height, width)

    def at(k):
        return tuple(drawing.column(points_BK2[:, k, axis]) for axis in (0, 1))

    def shade(u, low, high):
        return low + (high - low) * u

    skins = np.stack([shade(skin, 0.95, 0.42), shade(skin, 0.8, 0.27), shade(skin, 0.7, 0.18)], 1)
    hairs = np.stack([shade(hair, 0.12, 0.8), shade(hair, 0.08, 0.6), shade(hair, 0.06, 0.25)], 1)
    shirts, others = (
        drawing.hue_color(shirt),
        drawing.hue_color((shirt + 0.25 + 0.5 * second) % 1, 0.55, 0.95),
    )
    legs = drawing.hue_color(trousers, 0.5, 0.45)
    feet = np.stack([shade(shoes, 0.1, 0.9)] * 3, 1)
    canvas = np.ones((len(skin), height, width, 3)) * shade(ground, 0.75, 0.95)[:, None, None, None]

    def over(canvas, distance, color):
        return drawing.paint(canvas, drawing.cover(distance, height), color)

    def limb(a, b, radius, share=1.0):
        (ax, ay), (bx, by) = at(a), at(b)
        share = drawing.column(share)
        return drawing.capsule(
            x, y, (ax, ay), (ax + share * (bx - ax), ay + share * (by - ay)), radius
        )

    for hip, knee, ankle in ((8, 9, 10), (11, 12, 13)):
        canvas = over(canvas, np.minimum(limb(hip, knee, 0.036), limb(knee, ankle, 0.028)), skins)
        shank = limb(knee, ankle, 0.034, shade((length > 0.5).astype(float), 0.05, 0.95))
        canvas = over(canvas, np.minimum(limb(hip, knee, 0.042), shank), legs)
        ax, ay = at(ankle)
        canvas = over(
            canvas,
            drawing.capsule(x, y, (ax - 0.01, ay + 0.02), (ax + 0.025, ay + 0.02), 0.024),
            feet,
        )
    trunk = np.minimum.reduce(
        [
            limb(2, 8, 0.04),
            limb(5, 11, 0.04),
            limb(1, 8, 0.045),
            limb(1, 11, 0.045),
            limb(2, 5, 0.035),
        ]
    )
    (_, ny), (_, hy) = at(1), at(8)
    along = (y - ny) / np.maximum(hy - ny, 1e-6)
    stripes = (np.floor(along * 5) % 2 == 1) & (drawing.column(pattern) < 0.4)
    half = (along > 0.5) & (drawing.column(pattern) > 0.75)
    cloth = np.where((stripes | half)[..., None], others[:, None, None], shirts[:, None, None])
    canvas = over(canvas, trunk, cloth)
    canvas = over(canvas, limb(1, 0, 0.022), skins)
    fx, fy = at(0)
    canvas = over(canvas, np.hypot(x - fx, (y - fy + 0.015) / 1.15) - 0.06, hairs)
    canvas = over(canvas, np.hypot(x - fx, (y - fy - 0.008) / 1.1) - 0.048, skins)
    for eye in (14, 15):
        ex, ey = at(eye)
        canvas = over(canvas, np.hypot(x - ex, y - ey) - 0.008, np.full((len(skin), 3), 0.1))
    for shoulder, elbow, wrist in ((2, 3, 4), (5, 6, 7)):
        canvas = over(
            canvas, np.minimum(limb(shoulder, elbow, 0.026), limb(elbow, wrist, 0.023)), skins
        )
        fore = limb(elbow, wrist, 0.028, shade((sleeve > 0.5).astype(float), 0.0, 0.85))
        canvas = over(canvas, np.minimum(limb(shoulder, elbow, 0.032), fore), shirts)
    return drawing.to_pixels(canvas)


class DrawnPairs(Source):
    """`{"image", "target"}` uint8 (B, H, W, 3), the same person in two poses, and `{"keypoints",
    "target_keypoints"}` float32 (B, 18, 3) of either. Row n is person n // 2 from the one pose to
    the other, or back. `train` has 3,000 persons, `test` and `val` 250 others
    each."""

    def __init__(self, split: str, size: tuple[int, int] = (48, 32)):
        self.name, self.split, self.image_shape = "figures", split, (*size, 3)
        count, random = (
            PERSONS[split],
            np.random.default_rng([0x666967, list(PERSONS).index(split)]),
        )
        self.looks = random.random((count, LOOKS))
        points = skeleton(random.random((2 * count, ANGLES)))
        looks = np.repeat(self.looks, 2, 0)
        parts = [slice(first, first + 250) for first in range(0, 2 * count, 250)]
        self._images = np.concatenate(
            [draw_figures(looks[part], points[part], size) for part in parts]
        )
        self._keypoints = scaled(points, size[0])

    def __len__(self) -> int:
        return len(self._images)

    def posed(self, rows: np.ndarray, points_K2: np.ndarray) -> np.ndarray:
        """The persons of these rows (N,) in another pose of `skeleton`, (N, H, W, 3) uint8."""
        points = np.repeat(np.asarray(points_K2)[None], len(rows), 0)
        return draw_figures(self.looks[rows // 2], points, self.image_shape[:2])

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        self.uniforms(rows, u)
        other = rows ^ 1
        return {
            "image": self._images[rows],
            "keypoints": self._keypoints[rows],
            "target": self._images[other],
            "target_keypoints": self._keypoints[other],
        }


@functools.lru_cache(4)
def figures(split: str, size: tuple[int, int] = (48, 32)) -> DrawnPairs:
    """Drawn persons of this size (H, W). Raises UserError for another split."""
    if split not in PERSONS:
        raise UserError(
            f"figures have no split {split!r}; there are"
            f" {', '.join(PERSONS)}{nearest(split, PERSONS)}"
        )
    return DrawnPairs(split, size)


def walk(count: int) -> np.ndarray:
    """Poses of somebody who walks in place and waves, (count, ANGLES), the last followed by the
    first."""
    phase = 2 * np.pi * np.arange(count) / count
    u = np.full((count, ANGLES), 0.5)
    swing = 0.5 + 0.35 * np.sin(phase)
    u[:, 3], u[:, 4] = 0.75 + 0.15 * np.sin(phase), 0.6 + 0.3 * np.sin(2 * phase)
    u[:, 5], u[:, 6] = 0.2 + 0.1 * np.sin(phase), 0.3
    u[:, 7], u[:, 9] = swing, 1 - swing
    u[:, 8], u[:, 10] = 0.5 + 0.4 * np.cos(phase), 0.5 - 0.4 * np.cos(phase)
    u[:, 1] = 0.5 + 0.25 * np.sin(phase)
    return u

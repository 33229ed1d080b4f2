"""Pictures drawn from numbers: many at once, with smooth edges, so that their truth is known. Axes:
B pictures, H, W pixels.

Coordinates are in shares of the picture's height: x to the right, y down, (0, 0) the upper left
corner. A shape is its signed distance (B, H, W), negative inside; the fields `x`, `y` that it is
made of are broadcast with parameters (B, 1, 1).
"""

import numpy as np


def coordinates(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels' middles, (1, H, W) each."""
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / height, indexing="ij"
    )
    return x[None], y[None]


def column(values_B) -> np.ndarray:
    """(B,) -> (B, 1, 1), to be broadcast over pixels."""
    return np.asarray(values_B, np.float64).reshape(-1, 1, 1)


def capsule(x, y, a: tuple, b: tuple, radius) -> np.ndarray:
    """A thick line with round ends from point a to b."""
    along = (b[0] - a[0], b[1] - a[1])
    length = along[0] ** 2 + along[1] ** 2
    share = np.clip(
        ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / np.maximum(length, 1e-12), 0, 1
    )
    return np.hypot(x - a[0] - share * along[0], y - a[1] - share * along[1]) - radius


def box(x, y, middle: tuple, half: tuple, round_=0.0) -> np.ndarray:
    """A rectangle with corners of radius `round_`; half: half of its width and of its height."""
    outside = [np.abs(at - m) - h + round_ for at, m, h in zip((x, y), middle, half, strict=True)]
    far = np.hypot(np.maximum(outside[0], 0), np.maximum(outside[1], 0))
    return far + np.minimum(np.maximum(*outside), 0) - round_


def ring(x, y, middle: tuple, radii: tuple, thickness) -> np.ndarray:
    """The rim of an ellipse, about."""
    scaled = np.hypot((x - middle[0]) / radii[0], (y - middle[1]) / radii[1])
    return np.abs(scaled - 1) * np.minimum(*radii) - thickness


def cover(distance_BHW: np.ndarray, height: int) -> np.ndarray:
    """How much of each pixel a shape covers, in [0, 1]."""
    return np.clip(0.5 - distance_BHW * height, 0, 1)


def paint(canvas_BHWC: np.ndarray, covered_BHW: np.ndarray, color) -> np.ndarray:
    """The canvas with a color (B, C), or colors (B, H, W, C), over it."""
    color = np.asarray(color, np.float64)
    color = color[:, None, None] if color.ndim == 2 else color
    return canvas_BHWC + covered_BHW[..., None] * (color - canvas_BHWC)


def hue_color(hue_B: np.ndarray, saturation: float = 0.75, value: float = 0.85) -> np.ndarray:
    """RGB in [0, 1], (B, 3), of hues in [0, 1)."""
    wheel = np.abs((np.asarray(hue_B)[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return value * (1 - saturation + saturation * np.clip(wheel, 0, 1))


def to_pixels(canvas_BHWC: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8."""
    return np.rint(np.clip(canvas_BHWC, 0, 1) * 255).astype(np.uint8)

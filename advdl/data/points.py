"""Points of known densities: for what can only be judged where the truth is known.

Axes: B batch, N points, D dimensions, K components.
"""

import dataclasses
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from advdl.data.source import GeneratedSource
from advdl.data.spec import Spec
from advdl.errors import UserError, nearest


class Mixture(NamedTuple):
    """K equally likely Gaussians of one width: the mean of N(center_k, deviation² I). centers_KD:
    (K, D) float64."""

    centers_KD: np.ndarray
    deviation: float

    def density(self, x_ND: np.ndarray) -> np.ndarray:
        """p(x), (N,) float64."""
        square_NK = np.square(
            (np.asarray(x_ND, np.float64)[:, None] - self.centers_KD) / self.deviation
        ).sum(-1)
        height = (2 * np.pi * self.deviation**2) ** (-self.centers_KD.shape[1] / 2)
        return height * np.exp(-square_NK / 2).mean(1)

    def points(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, D) float32 and their components (N,) int32, a function of uniform numbers (N,
        1 + D) in [0, 1)."""
        label = (u[:, 0] * len(self.centers_KD)).astype(np.int32)
        normal = ndtri(np.clip(u[:, 1:], 2.0**-54, 1 - 2.0**-53))  # 0 would be at minus infinity
        return (self.centers_KD[label] + self.deviation * normal).astype(np.float32), label

    def sample(self, key: jax.Array, count: int) -> jax.Array:
        """Points (count, D) float32, drawn on the device."""
        keys, centers = jax.random.split(key), jnp.asarray(self.centers_KD, jnp.float32)
        noise = jax.random.normal(keys[1], (count, centers.shape[1]))
        return (
            centers[jax.random.randint(keys[0], (count,), 0, len(centers))] + self.deviation * noise
        )

    def places(self, deviations: float, count: int) -> np.ndarray:
        """Even places on the line, (count,), from the mean less so many deviations to it plus as
        many."""
        mean, std = float(self.mean[0]), float(self.std[0])
        return np.linspace(mean - deviations * std, mean + deviations * std, count)

    @property
    def mean(self) -> np.ndarray:
        """(D,)"""
        return self.centers_KD.mean(0)

    @property
    def std(self) -> np.ndarray:
        """(D,), of each coordinate."""
        return np.sqrt(self.centers_KD.var(0) + self.deviation**2)


def ring(count: int, radius: float) -> np.ndarray:
    """Points (count, 2) on a circle, evenly."""
    angle = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def grid(columns: int, rows: int, step: float) -> np.ndarray:
    """Points (columns·rows, 2) around 0, `step` apart."""
    x, y = (step * (np.arange(side) - (side - 1) / 2) for side in (columns, rows))
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class MixtureSpec(Spec):
    """Points of a known mixture, by its name: the centers of the Gaussians, and their deviation."""

    name: str
    centers: tuple[tuple[float, ...], ...]
    deviation: float

    @classmethod
    def of(cls, name: str) -> Self:
        """The spec of a mixture of `MIXTURES`. Raises UserError for another name."""
        mixture = open_points(name, "test").mixture
        return cls(name, tuple(map(tuple, mixture.centers_KD.tolist())), mixture.deviation)

    @property
    def mixture(self) -> Mixture:
        """The distribution of the points."""
        return Mixture(np.array(self.centers), self.deviation)


# The grid is that of VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018); their ring has
# radius 1 and deviation 0.01, here both are doubled.
MIXTURES = {
    "normal": Mixture(np.array([[4.0]]), 0.5),
    "ring": Mixture(ring(8, 2.0), 0.02),
    "grid": Mixture(grid(5, 5, 2.0), 0.05),
}
SPLITS = ("train", "test")


class Points(GeneratedSource):
    """A source of a mixture's points: `{"point": float32 (B, D), "label": int32 (B,)}`, the label
    being the component.

    `train` never ends, see `GeneratedSource`. `test` is fixed: 10,000 points of a line, or 2,500,
    by which modes are counted. image_shape: (D,).
    """

    def __init__(self, name: str, split: str, mixture: Mixture):
        components, dimensions = mixture.centers_KD.shape
        self.mixture, self.image_shape = mixture, (dimensions,)
        self.label_names = tuple(map(str, range(components)))
        count = 10_000 if dimensions == 1 else 2_500
        super().__init__(name, split, 1 + dimensions, self._generated, count, 0x706F696E)

    def _generated(self, u: np.ndarray) -> dict[str, np.ndarray]:
        points, label = self.mixture.points(u)
        return {"point": points, "label": label}


def open_points(spec: str, split: str) -> Points:
    """`normal`, N(4, 0.5²) on a line; `ring`, eight Gaussians on a circle of radius 2; `grid`, 5 by
    5 of them, 2 apart.

    Raises UserError for another name or split.
    """
    for what, given, known in (("points", spec, MIXTURES), ("split", split, SPLITS)):
        if given not in known:
            raise UserError(
                f"no {what} called {given!r}; there are {', '.join(known)}{nearest(given, known)}"
            )
    return Points(spec, split, MIXTURES[spec])

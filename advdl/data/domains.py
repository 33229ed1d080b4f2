"""Two sets of images that belong to nobody's pairs, for learning to translate one into the other.

Axes: B batch, N examples, H height, W width, C channels, F factors, D dimensions of a point.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from advdl.data import drawing
from advdl.data.catalog import open_source
from advdl.data.digits import SPLITS
from advdl.data.points import Mixture, Points, grid, ring
from advdl.data.selection import Subset
from advdl.data.source import ArraySource, Source
from advdl.data.spec import Spec
from advdl.data.transforms import Transform, to_float
from advdl.errors import UserError, nearest
from advdl.ranges import Range, whole_number
from advdl.reading import expand, is_folder

FACTORS = ("hue", "size", "height")
COUNTS = {"train": 4000, "test": 500}


class UnpairedSource(Source):
    """`{"a": …, "b": …}`, uint8 (B, H, W, C) or float32 points (B, D): an example of the one set
    and one of the other.

    In `train` row n has example n of the longer set (the shorter begins anew) and of the other one
    that is drawn: nobody's pair. In `test` both are example n, and no more than the shorter has.
    names: of the two. factors: where the truth is known, what the examples "a" and "b" were made
    from, (N, F) each, called `factor_names`; in `test` they are the same, so that row n of b is the
    true counterpart of row n of a.
    """

    def __init__(
        self,
        a: Source,
        b: Source,
        split: str,
        names: tuple[str, str],
        factors: Mapping[str, np.ndarray] | None = None,
        factor_names: tuple[str, ...] = (),
    ):
        self.a, self.b, self.split, self.names = a, b, split, names
        self.factors: Mapping[str, np.ndarray] = factors or {}
        self.factor_names = factor_names
        self.name, self.label_names, self.image_shape = a.name, names, a.image_shape
        self._key = "point" if isinstance(a, Points) else "image"
        self.draws = 1 + a.draws + b.draws if split == "train" else 0

    def __len__(self) -> int:
        return (max if self.split == "train" else min)(len(self.a), len(self.b))

    @property
    def mixtures(self) -> tuple[Mixture, Mixture]:
        """Of points, what those of A and of B are drawn from. Raises TypeError for images."""
        if isinstance(self.a, Points) and isinstance(self.b, Points):
            return self.a.mixture, self.b.mixture
        raise TypeError(f"{self.name} are no points")

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        u, found = self.uniforms(rows, u), {}
        for name, source, drawn in (
            ("a", self.a, u[:, 1 : 1 + self.a.draws]),
            ("b", self.b, u[:, 1 + self.a.draws :]),
        ):
            own = rows % len(source)
            if self.split == "train" and name == self._drawn:
                own = (u[:, 0] * len(source)).astype(np.int64)
            found[name] = source.read(own, drawn)[self._key]
        return found

    @property
    def _drawn(self) -> str:
        return "b" if len(self.a) >= len(self.b) else "a"


@dataclasses.dataclass(frozen=True)
class DomainSpec(Spec):
    """One of two domains: its name and the shape of an example; of points, (D,), also the mean and
    the standard deviation of each coordinate."""

    name: str
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, name: str, source: Source) -> Self:
        """The spec of a source's examples."""
        known = (source.mixture.mean, source.mixture.std) if isinstance(source, Points) else ()
        return cls(name, tuple(source.image_shape), *(tuple(x.tolist()) for x in known))


@dataclasses.dataclass(frozen=True)
class DomainsSpec(Spec):
    """Two domains between which is translated. factors: the names of what examples were made from,
    where that is known."""

    a: DomainSpec
    b: DomainSpec
    factors: tuple[str, ...] = ()

    @classmethod
    def of(cls, domains: UnpairedSource) -> Self:
        """The spec of both."""
        a, b = zip(domains.names, (domains.a, domains.b), strict=True)
        return cls(DomainSpec.of(*a), DomainSpec.of(*b), tuple(domains.factor_names))

    @property
    def points(self) -> bool:
        """Whether the examples are points, not images."""
        return len(self.a.shape) == 1

    def transform(self) -> Transform | None:
        """How networks see the examples: pixels in [-1, 1], and points as they are."""
        return None if self.points else to_float(-1.0, 1.0, "a", "b")


def open_domains(
    spec: str,
    split: str,
    data_dir: str | None = None,
    image_size: int | None = None,
    a: Sequence[str] = (),
    b: Sequence[str] = (),
) -> UnpairedSource:
    """Two sets that a person named.

    spec: `bags_shoes` or `bags_shoes:SIDE`, drawn handbags and shoes; `modes`, points (see there);
    or what `open_source` takes, of which `a` and `b` name the classes on either side (by default
    its two classes); `folder:PATH` may have `PATH/A` and `PATH/B` without splits, and then every
    tenth image of each is held out.

    Raises UserError for a name, folder, split, size or class that is not there, and for a side
    without images.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("bags_shoes", "modes") and (a or b or image_size or (kind == "modes" and rest)):
        raise UserError(
            f"{kind} have two sides and a size of their own; leave --a, --b and --image-size out"
        )
    if split not in SPLITS:
        raise UserError(
            f"no split {split!r}; there are {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    if kind == "bags_shoes":
        side = whole_number(rest or "16", Range(16, 256, "[]"))
        if side is None or side % 16:
            raise UserError(
                f"{spec!r}: the side must be a multiple of 16, up to 256, as in bags_shoes:32"
            )
        return bags_shoes(split, side)
    if kind == "modes":
        return modes(split)
    if kind == "folder" and rest and not is_folder(expand(rest) / "train"):
        source, held_out = open_source(spec, ".", data_dir, image_size), 10
    else:
        source, held_out = open_source(spec, split, data_dir, image_size), 0
    if not a and not b and len(source.label_names) == 2:
        a, b = source.label_names[:1], source.label_names[1:]
    if not a or not b:
        raise UserError(
            f"{spec} has {len(source.label_names)} classes; name those of both sides, as in --a Bag"
            " --b Sneaker"
        )
    if both := set(a) & set(b):
        raise UserError(f"class {both.pop()!r} is on both sides; give it to one")
    labels, sides = labels_of(source), []
    for names in (a, b):
        for name in names:
            if name not in source.label_names:
                raise UserError(f"{spec} has no class {name!r}{nearest(name, source.label_names)}")
        rows = np.flatnonzero(np.isin(labels, [source.label_names.index(name) for name in names]))
        if held_out:
            apart = np.arange(len(rows)) % held_out == 0
            rows = rows[apart if split == "test" else ~apart]
        if not len(rows):
            raise UserError(f"{spec} has no images of {', '.join(names)} in {split}")
        sides.append(Subset(source, rows, split))
    first, second = sides
    return UnpairedSource(first, second, split, (" and ".join(a), " and ".join(b)))


def labels_of(source: Source, rows: int = 4096) -> np.ndarray:
    """Of every example, (N,) int32."""
    starts = range(0, len(source), rows)

    def u(count):
        return np.zeros((count, source.draws))

    def read(part):
        return source.read(part, u(len(part))) if source.draws else source.read(part)

    return np.concatenate(
        [read(np.arange(first, min(first + rows, len(source))))["label"] for first in starts]
    )


@functools.lru_cache(4)
def bags_shoes(split: str, side: int = 16) -> UnpairedSource:
    """Handbags and boots, each drawn from three factors (`FACTORS`): the hue; the size; the height
    of the handle or of the shaft. In `train` 4,000 of either with factors of their own, in `test`
    500 with the same: what belongs together is known, and no training shows it."""
    count, seed = COUNTS[split], {"train": 0, "test": 1}[split]
    own, other = (
        np.random.default_rng([0x62616773, seed, n]).random((count, len(FACTORS))) for n in range(2)
    )
    other = own if split == "test" else other
    none = np.zeros(count, np.int32)
    name = f"bags_shoes:{side}"
    bags = ArraySource(name, split, {"image": draw_bags(own, side), "label": none}, ("bags",))
    shoes = ArraySource(name, split, {"image": draw_shoes(other, side), "label": none}, ("shoes",))
    return UnpairedSource(bags, shoes, split, ("bags", "shoes"), {"a": own, "b": other}, FACTORS)


def draw_bags(factors_BF: np.ndarray, side: int) -> np.ndarray:
    """uint8 (B, side, side, 3): a body and the handle above it, on white."""
    hue, size, tall = factors_BF.T
    x, y = drawing.coordinates(side, side)
    half = drawing.column(0.18 + 0.14 * size)
    top = drawing.column(0.5)
    rise = drawing.column(0.12 + 0.26 * tall)
    handle = np.where(y < top, drawing.ring(x, y, (0.5, top), (0.72 * half, rise), 0.035), 1.0)
    body = drawing.box(x, y, (0.5, top + 0.6 * half), (half, 0.6 * half), 0.04)
    canvas = np.ones((len(hue), side, side, 3))
    color = drawing.hue_color(hue)
    canvas = drawing.paint(canvas, drawing.cover(handle, side), 0.55 * color)
    return drawing.to_pixels(drawing.paint(canvas, drawing.cover(body, side), color))


def draw_shoes(factors_BF: np.ndarray, side: int) -> np.ndarray:
    """uint8 (B, side, side, 3): a foot, the shaft above its heel, a dark sole, on white."""
    hue, size, tall = factors_BF.T
    x, y = drawing.coordinates(side, side)
    long = drawing.column(0.2 + 0.16 * size)
    thick = drawing.column(0.08 + 0.04 * size)
    rise = drawing.column(0.1 + 0.42 * tall)
    ground, heel = 0.84, 0.5 - long + thick
    foot = drawing.capsule(
        x, y, (heel, ground - thick), (0.5 + long - thick, ground - thick), thick
    )
    shaft = drawing.box(
        x, y, (heel, ground - rise / 2 - thick / 2), (thick, rise / 2 + thick / 2), 0.02
    )
    sole = drawing.box(x, y, (0.5, ground + 0.015), (long, 0.03))
    color = drawing.hue_color(hue)
    canvas = drawing.paint(
        np.ones((len(hue), side, side, 3)), drawing.cover(np.minimum(foot, shaft), side), color
    )
    return drawing.to_pixels(drawing.paint(canvas, drawing.cover(sole, side), 0.35 * color))


# The paper's toy domain has ten target modes (section 4.1); where its modes lie is not printed. Two
# layouts that are not one another moved: on two equal rings a plain GAN already finds all.
MODES_A = Mixture(grid(2, 5, 1.0) + np.array([-2.0, -2.0]), 0.1)
MODES_B = Mixture(ring(10, 2.0) + np.array([2.0, 2.0]), 0.1)


def modes(split: str) -> UnpairedSource:
    """Points of ten narrow Gaussians in two rows of five, and of ten in a ring."""
    return UnpairedSource(
        Points("modes", split, MODES_A), Points("modes", split, MODES_B), split, ("rows", "ring")
    )

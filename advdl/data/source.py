"""Sources: examples that are read by row, in any order.

Axes: B batch, N examples, H height, W width, C channels.
"""

import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import get_type_hints

import numpy as np

IN_MEMORY = 2**28  # bytes: decoded sets up to this size are read once and kept


class Source:
    """A set of examples that is read by row, in any order; a kind of data is a subclass.

    name, split: what it is called. image_shape: (H, W, C). label_names: one for each of K classes.
    draws: how many uniform numbers an example needs, 0 for a source without randomness. broken:
    files that were left out since they do not decode. Of masks, void: the id of pixels that do not
    count, never one of 0 … K-1, or None; palette: (K, 3) uint8, or None. stacked: the source of
    gray images of which each channel is one, where that is so; a label is then the number whose
    digits are the channels' labels.
    """

    name: str
    split: str
    image_shape: tuple[int, ...] = ()
    label_names: tuple[str, ...] = ()
    draws: int = 0
    broken: tuple[pathlib.Path, ...] = ()
    void: int | None = None
    palette: np.ndarray | None = None
    stacked: "Source | None" = None

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> Mapping[str, np.ndarray]:
        """`{"image": uint8 (B, H, W, C), "label": int32 (B,)}` of these rows (B,), with each
        example's own numbers u (B, draws) in [0, 1), which a source that draws must be given.

        Images with masks have `mask`, uint8 (B, H, W) of 0 … K-1 and void, in place of `label`;
        other kinds of examples have other entries.
        """
        raise NotImplementedError

    def uniforms(self, rows: np.ndarray, u: np.ndarray | None) -> np.ndarray:
        """u (B, draws), or the empty one where the source needs none. Raises ValueError where it is
        not of that shape."""
        u = np.empty((len(rows), 0)) if u is None else u
        if u.shape != (len(rows), self.draws):
            raise ValueError(
                f"{self.name} draws {self.draws} numbers for each of {len(rows)} examples, not"
                f" {u.shape}"
            )
        return u


class ArraySource(Source):
    """A source in memory: arrays (N, …) by the names of an example's entries; labels become int32.
    Raises ValueError where they are not equally long."""

    def __init__(
        self,
        name: str,
        split: str,
        arrays: Mapping[str, np.ndarray],
        label_names: Sequence[str] = (),
        void: int | None = None,
        palette: np.ndarray | None = None,
    ):
        self.name, self.split, self.label_names = name, split, tuple(label_names)
        self.void, self.palette, self._arrays = void, palette, dict(arrays)
        if len({len(array) for array in self._arrays.values()}) != 1:
            raise ValueError(
                f"{name} has arrays of {[len(array) for array in self._arrays.values()]} rows"
            )
        if "image" in arrays:
            self.image_shape = arrays["image"].shape[1:]
        if "label" in arrays:
            self._arrays["label"] = arrays["label"].astype(np.int32)

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        self.uniforms(rows, u)
        return {name: array[rows] for name, array in self._arrays.items()}


class GeneratedSource(Source):
    """A source of what `generate(u (B, draws))` gives, a dict of arrays (B, …).

    In `train` every place in the line of examples has an example of its own, made from its own
    numbers, and the length `count` means nothing; any other split has `count` examples, which are
    a function of the seed.
    """

    def __init__(
        self,
        name: str,
        split: str,
        draws: int,
        generate: Callable[[np.ndarray], dict[str, np.ndarray]],
        count: int,
        seed: int | Sequence[int],
    ):
        self.name, self.split, self._count = name, split, count
        self.draws = draws if split == "train" else 0
        self._generate, self._fixed = generate, None
        if not self.draws:
            self._fixed = generate(np.random.default_rng(seed).random((count, draws)))

    def __len__(self) -> int:
        return self._count

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        u = self.uniforms(rows, u)
        if self._fixed is None:
            return self._generate(u)
        return {name: array[rows] for name, array in self._fixed.items()}


class ZipSource(Source):
    """Several sources read together, by name: their entries are called `entry/name`. Row n has row
    n of each, and its length is that of the shortest."""

    def __init__(self, sources: Mapping[str, Source]):
        self._sources = dict(sources)
        first = next(iter(self._sources.values()))
        self.name, self.split = first.name, first.split
        self.draws = sum(source.draws for source in self._sources.values())

    def __len__(self) -> int:
        return min(map(len, self._sources.values()))

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        draws = np.cumsum([source.draws for source in self._sources.values()])
        parts = np.split(self.uniforms(rows, u), draws[:-1], axis=1)
        return {
            f"{entry}/{name}": value
            for (name, source), part in zip(self._sources.items(), parts, strict=True)
            for entry, value in source.read(rows, part).items()
        }


class SourceWrapper(Source):
    """A source made of another: it has the properties of the other one, but for what a subclass
    changes."""

    def __init__(self, source: Source):
        self._source = source
        for name in get_type_hints(Source):
            setattr(self, name, getattr(source, name))

    def __getattr__(self, name: str):
        """What only the other source has, such as `files`."""
        if name.startswith("_"):  # what copying looks for before there is a source
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)


class CachedSource(SourceWrapper):
    """A source whose examples are all read at the first use."""

    def __init__(self, source: Source):
        super().__init__(source)
        self._arrays, self._lock = None, threading.Lock()

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        with self._lock:  # threads that read ahead ask at the same time
            if self._arrays is None:
                parts = [
                    self._source.read(r)
                    for r in np.array_split(np.arange(len(self)), len(self) // 1024 + 1)
                ]
                self._arrays = {
                    key: np.concatenate([part[key] for part in parts]) for key in parts[0]
                }
        return {key: array[rows] for key, array in self._arrays.items()}


def in_memory(source: Source, limit: int = IN_MEMORY) -> Source:
    """The same source, read once and kept where all its images take at most `limit` bytes decoded
    and it does not draw."""
    small = len(source) * int(np.prod(source.image_shape)) <= limit
    return CachedSource(source) if small and not source.draws else source

"""Sources: labeled images that are read by row, in any order.

Axes: B batch, N examples, H height, W width, C channels.
"""

import pathlib
import threading
from collections.abc import Mapping
from typing import Protocol

import numpy as np

IN_MEMORY = 2**28  # bytes: decoded sets up to this size are read once and kept


class Source(Protocol):
    """A set of labeled images that is read by row, in any order.

    name, split: what it is called. image_shape: (H, W, C). label_names: one a class. draws: how
    many uniform numbers an example needs, 0 for a source without randomness. broken: files that
    were left out since they do not decode. void: the class of pixels that do not count, where there
    are such.
    """

    @property
    def name(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def image_shape(self) -> tuple[int, ...]: ...
    @property
    def label_names(self) -> tuple[str, ...]: ...
    @property
    def draws(self) -> int: ...
    @property
    def broken(self) -> tuple[pathlib.Path, ...]: ...
    @property
    def void(self) -> int | None: ...
    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> Mapping[str, np.ndarray]:
        """`{"image": uint8 (B, H, W, C), "label": int32 (B,)}` of these rows (B,), with each
        example's own numbers u (B, draws) in [0, 1), which a source that draws must be given. Other
        kinds of examples have other entries beside `image`; `advdl.data.scenes` has `mask`."""
        ...


def numbers(source: Source, rows: np.ndarray, u: np.ndarray | None) -> np.ndarray:
    """u (B, draws), or the empty one where the source needs none. Raises ValueError where it is not
    of that shape."""
    u = np.empty((len(rows), 0)) if u is None else u
    if u.shape != (len(rows), source.draws):
        raise ValueError(
            f"{source.name} draws {source.draws} numbers for each of {len(rows)} examples, not"
            f" {u.shape}"
        )
    return u


class Bare:
    """What a source says that has nothing to say of it."""

    draws: int = 0
    broken: tuple[pathlib.Path, ...] = ()
    label_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()
    void: int | None = None


class ArraySource(Bare):
    """A source in memory: images (N, H, W, C) uint8, labels (N,)."""

    def __init__(
        self,
        name: str,
        split: str,
        images: np.ndarray,
        labels: np.ndarray,
        label_names: tuple[str, ...],
    ):
        self.name, self.split, self.label_names = name, split, tuple(label_names)
        self.image_shape = images.shape[1:]
        self._images, self._labels = images, labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        return {"image": self._images[rows], "label": self._labels[rows]}


class Columns(Bare):
    """A source in memory of whatever arrays there are: name -> (N, …). Raises ValueError where they
    are not equally long."""

    def __init__(self, name: str, split: str, columns: Mapping[str, np.ndarray]):
        self.name, self.split, self._columns = name, split, dict(columns)
        if len({len(column) for column in self._columns.values()}) != 1:
            raise ValueError(
                f"{name} has columns of {[len(column) for column in self._columns.values()]} rows"
            )

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        numbers(self, rows, u)
        return {name: column[rows] for name, column in self._columns.items()}


class Of:
    """A source made of another: what it does not say itself, the other says."""

    name: str
    split: str
    image_shape: tuple[int, ...]
    label_names: tuple[str, ...]
    draws: int
    broken: tuple[pathlib.Path, ...]
    void: int | None

    def __init__(self, source: Source):
        self._source = source

    def __getattr__(self, name: str):
        if name.startswith("_"):  # what copying looks for before there is a source
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)


class _Kept(Of):
    """A source whose examples are all read at the first use."""

    def __init__(self, source: Source):
        super().__init__(source)
        self._arrays, self._lock = None, threading.Lock()

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
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
    return _Kept(source) if small and not source.draws else source

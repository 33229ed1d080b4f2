"""Sources: labeled images that are read by row, in any order.

Axes: B batch, N examples, H height, W width, C channels.
"""

import threading
from collections.abc import Mapping
from typing import Protocol

import numpy as np

IN_MEMORY = 2**28  # bytes: decoded sets up to this size are read once and kept


class Source(Protocol):
    """A set of labeled images that is read by row, in any order.

    name, split: what it is called. image_shape: (H, W, C). label_names: one a class.
    """

    name: str
    split: str
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        """`{"image": uint8 (B, H, W, C), "label": int32 (B,)}` of these rows (B,)."""
        ...


class ArraySource:
    """A source in memory: images (N, H, W, C) uint8, labels (N,)."""

    def __init__(self, name: str, split: str, images: np.ndarray, labels: np.ndarray, label_names: tuple[str, ...]):
        self.name, self.split, self.label_names = name, split, tuple(label_names)
        self.image_shape = images.shape[1:]
        self._images, self._labels = images, labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        return {"image": self._images[rows], "label": self._labels[rows]}


class _Kept:
    """A source whose examples are all read at the first use."""

    def __init__(self, source: Source):
        self.name, self.split = source.name, source.split
        self.image_shape, self.label_names = source.image_shape, source.label_names
        self._source, self._array, self._lock = source, None, threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        with self._lock:  # threads that read ahead ask at the same time
            if self._array is None:
                parts = [self._source.read(r) for r in np.array_split(np.arange(len(self)), len(self) // 1024 + 1)]
                images, labels = (np.concatenate([part[key] for part in parts]) for key in ("image", "label"))
                self._array = ArraySource(self.name, self.split, images, labels, self.label_names)
        return self._array.read(rows)


def in_memory(source: Source, limit: int = IN_MEMORY) -> Source:
    """The same source, read once and kept where all its images take at most `limit` bytes decoded."""
    return _Kept(source) if len(source) * int(np.prod(source.image_shape)) <= limit else source

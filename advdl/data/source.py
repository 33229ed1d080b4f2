"""Where examples come from: built-in sets, `tfds:NAME`, `folder:PATH`, all read by row.

Axes: B batch, N examples, H height, W width, C channels.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from advdl.errors import UserError, nearest

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
        self._source, self._array = source, None

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        if self._array is None:
            parts = [self._source.read(r) for r in np.array_split(np.arange(len(self)), max(1, len(self) // 1024))]
            images, labels = (np.concatenate([part[key] for part in parts]) for key in ("image", "label"))
            self._array = ArraySource(self.name, self.split, images, labels, self.label_names)
        return self._array.read(rows)


def in_memory(source: Source, limit: int = IN_MEMORY) -> Source:
    """The same source, read once and kept where all its images take at most `limit` bytes decoded."""
    return _Kept(source) if len(source) * int(np.prod(source.image_shape)) <= limit else source


def open_source(
    spec: str, split: str, data_dir: str | None = None, image_size: int | None = None, channels: int | None = None
) -> Source:
    """The source that a person named.

    spec: a built-in name (`digits`), `tfds:NAME`, or `folder:PATH` with `PATH/split/class/*.png|jpg|jpeg`.
    data_dir: where tensorflow-datasets keeps prepared data. image_size: side of a square to which images are brought
    (shorter side scaled, middle cut out); by default the size they have, which must then be one. channels: 1 or 3; by
    default those of the images.

    Raises UserError for a name, folder, split or size that is not there.
    """
    from advdl.data.digits import digits
    from advdl.data.folder import FolderSource
    from advdl.data.tfds import open_tfds

    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        return in_memory(FolderSource(rest, split, image_size, channels))
    if kind == "tfds" and rest:
        return in_memory(open_tfds(rest, split, data_dir, image_size, channels))
    if spec != "digits":
        known = ["digits", "tfds:NAME", "folder:PATH"]
        raise UserError(f"no data set {spec!r}; there are {', '.join(known)}{nearest(spec, known)}")
    if image_size not in (None, 8) or channels not in (None, 1):
        raise UserError("digits are 8 by 8 pixels of gray; leave --image-size out")
    return digits(split)


def same_classes(first: Source, second: Source) -> None:
    """Raises UserError where two splits do not have the same classes in the same order, or images of the same shape."""
    if first.label_names != second.label_names:
        only = sorted(set(first.label_names) ^ set(second.label_names))
        raise UserError(
            f"{first.name} has other classes in {first.split} than in {second.split}: {', '.join(only[:5]) or 'another order'}"
        )
    if first.image_shape != second.image_shape:
        raise UserError(
            f"{first.name} has images of {first.image_shape} in {first.split} and of {second.image_shape} in "
            f"{second.split}; give --image-size"
        )

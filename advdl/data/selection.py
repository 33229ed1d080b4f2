"""Which rows of a source stand for all of it, and reading many rows with bounded memory.

A source may be sorted, by class or by time, so its first rows are no sample of it. Whatever shows
or measures "some examples" takes the rows that `selected` draws.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized

import numpy as np

from advdl.data.source import Source, SourceWrapper
from advdl.errors import UserError

BLOCK = 2**23  # values of images that are held at a time: 64 MiB of them in float64


def selected(source: Sized | int, count: int, seed: int = 0) -> np.ndarray:
    """Rows of `count` examples of a source, drawn uniformly without replacement: (min(count, N),)
    int64, ascending.

    source: anything with a length N, or N itself. All rows where count is N or more. The rows are a
    function of N, count and seed. They are ascending so that files are read in their order; the
    first few of them are therefore no selection, and a smaller one is another call. Raises
    ValueError for a negative count.
    """
    total = source if isinstance(source, int) else len(source)
    if count < 0:
        raise ValueError(f"count is {count}; expected 0 or more")
    if count >= total:
        return np.arange(total, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False)).astype(np.int64)


def read_blocks(
    source: Source, rows: np.ndarray | None = None, size: int = 0
) -> Iterator[Mapping[str, np.ndarray]]:
    """What `source.read` gives of these rows (all: None) in their order, `size` rows at a time.

    size: by default so many that an image's values times it are at most `BLOCK`, and no more than
    4,096. Raises ValueError for a source that draws random numbers, since its examples are not
    fixed.
    """
    if source.draws:
        raise ValueError(
            f"{source.name} draws random numbers; its examples are read by TrainBatches"
        )
    rows = np.arange(len(source), dtype=np.int64) if rows is None else rows
    size = size or max(1, min(4096, BLOCK // math.prod(source.image_shape)))
    for first in range(0, len(rows), size):
        yield source.read(rows[first : first + size])


def pixel_means(source: Source, size: int = 0) -> tuple[float, ...]:
    """Mean of every pixel over all images of a source, in [0, 1]: H·W·C numbers, row by row. size:
    of what is read at a time, see `read_blocks`."""
    total = np.zeros(source.image_shape)
    for block in read_blocks(source, size=size):
        total += block["image"].sum(0, dtype=np.float64)
    return tuple((total / (255 * len(source))).ravel().tolist())


class Subset(SourceWrapper):
    """Some rows of a source, as a source of its own."""

    def __init__(self, source: Source, rows: np.ndarray, split: str):
        super().__init__(source)
        self.split, self._rows = split, rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> Mapping[str, np.ndarray]:
        """See `Source.read`."""
        return self._source.read(self._rows[rows], u)


def hold_out(source: Sized, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a source to train on, and rows held out to choose by: `round(share * N)` of them,
    drawn by the seed; both ascending. Raises UserError where a share holds out none or all."""
    order = np.random.default_rng([seed, len(source)]).permutation(len(source))
    count = round(share * len(source))
    if share and count in (0, len(source)):
        raise UserError(
            f"a share of {share:g} of {len(source)} examples for validation is"
            f" {'all' if count else 'none'} of them; give another share, or 0 for none"
        )
    return np.sort(order[count:]), np.sort(order[:count])


def split_validation(
    source: Source, share: float, seed: int = 0, groups: np.ndarray | None = None
) -> tuple[Source, Source]:
    """A source in two: (what is left to train on, a validation part to choose by).

    The part is a share of the examples, at least one, drawn by the seed; both keep the order of the
    source. groups: (N,) of the examples; those of one group, such as one person, stay together, and
    the share is one of the groups. Raises UserError where nothing is left.
    """
    groups = np.arange(len(source)) if groups is None else groups
    names, of = np.unique(groups, return_inverse=True)
    count = max(1, round(share * len(names)))
    if count >= len(names):
        raise UserError(
            f"{source.name} has {len(names)} examples in {source.split}; {count} of them for"
            " validation leave none to train on"
        )
    inside = np.isin(of, selected(len(names), count, seed))
    rest, chosen = np.flatnonzero(~inside), np.flatnonzero(inside)
    return Subset(source, rest, source.split), Subset(source, chosen, "val")


def open_parts(
    opened: Callable[[str], Source],
    validation: float = 0.0,
    seed: int = 0,
    names: Sequence[str] = ("train", "test"),
) -> dict[str, Callable[[], Source]]:
    """Functions that open the parts of a data set, each when it is first called, for `Splits`.

    opened: gives the source of each of `names`, which are "train", "test" and, where the data have
    one, "val". validation: share of the training part that becomes `val` where they have none, see
    `split_validation`; 0 leaves it whole.
    """
    opened = functools.cache(opened)
    parts = {split: functools.partial(opened, split) for split in names}
    if not validation or "val" in parts:
        return parts
    halves = functools.cache(lambda: split_validation(opened("train"), validation, seed))
    return {"train": lambda: halves()[0], "val": lambda: halves()[1], "test": parts["test"]}

"""Sequences of many lengths in batches of few shapes.

Axes: B global batch, N examples, T steps of a sequence.
"""

import bisect
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from advdl.data.batches import EvalBatches, ShardedBatches, TrainBatches
from advdl.data.source import Source
from advdl.data.transforms import Batch, Transform, compose
from advdl.errors import UserError


class Padded(NamedTuple):
    """ids (B, T, …), zeros after each sequence's end; lengths (B,) int32; cut: how many sequences
    lost their ends."""

    ids: np.ndarray
    lengths: np.ndarray
    cut: int


def pad(sequences: Iterable[Any], length: int) -> Padded:
    """Sequences (T, …) filled up with zeros, or cut, to this length: int32 of whole numbers,
    float32 of others."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    kind = (
        np.float32 if any(array.dtype.kind == "f" and array.size for array in arrays) else np.int32
    )
    rest = next((array.shape[1:] for array in arrays if array.size), ())
    ids = np.zeros((len(arrays), length, *rest), kind)
    lengths = np.array([min(len(array), length) for array in arrays], np.int32)
    for row, array, end in zip(ids, arrays, lengths, strict=True):
        if end:
            row[:end] = array[:end]
    return Padded(ids, lengths, sum(len(array) > length for array in arrays))


def buckets(
    lengths: Sequence[int], boundaries: Sequence[int], name: str = "sequences"
) -> np.ndarray:
    """The bucket of each length (N,): the first whose boundary is not below it. Raises UserError,
    about `name`, for a length of 0 or beyond the last boundary, and for boundaries that do not
    grow."""
    counts, ends = np.asarray(lengths, np.int64), np.asarray(boundaries, np.int64)
    if not ends.size or ends[0] < 1 or (np.diff(ends) <= 0).any():
        raise UserError(
            f"boundaries of {name} are {list(boundaries)}; expected whole numbers from 1 on, each"
            " larger than the last"
        )
    if (counts < 1).any():
        raise UserError(
            f"{(counts < 1).sum()} of {len(counts)} {name} are empty, first number"
            f" {counts.argmin()}; leave them out"
        )
    if (beyond := counts > ends[-1]).any():
        raise UserError(
            f"{beyond.sum()} of {len(counts)} {name} are longer than the last boundary,"
            f" {ends[-1]}; the longest is number {counts.argmax()} with {counts.max()}; raise it,"
            " or cut or leave them out"
        )
    return np.searchsorted(ends, counts)


def boundaries(lengths: Sequence[int], count: int, longest: int) -> tuple[int, ...]:
    """At most so many lengths to pad to, of which `longest` is the last: between them lie about
    equally many sequences."""
    within = np.minimum(np.asarray(lengths, np.int64), longest)
    inner = (
        np.ceil(np.quantile(within, np.arange(1, count) / count)).astype(int) if within.size else []
    )
    return tuple(sorted({max(1, int(end)) for end in inner} | {longest}))


Line = TypeVar("Line", bound=ShardedBatches)


class _BucketBatchesBase(ShardedBatches, Generic[Line]):
    """Batches of which each is of a bucket's own line."""

    _lines: list[Line]

    def part(self, process: int, processes: int) -> Self:
        """See `ShardedBatches.part`."""
        part = super().part(process, processes)
        part._lines = [line.part(process, processes) for line in self._lines]
        return part


class BucketBatches(_BucketBatchesBase[TrainBatches]):
    """`batches(t)`: what `TrainBatches` is, of sequences: a function of the seed and the step, of
    few shapes.

    examples: columns of N entries. Those that `boundaries` names hold sequences (T, …) and are
    padded: `name` (B, boundary, …), int32 or float32, and `name_length` (B,) int32; others are
    arrays (N, …) and are taken as they are. boundaries: the lengths to pad each column to, equally
    many for all; an example is in the first bucket that holds all its sequences. So `{"source":
    (10, 20), "target": (12, 25)}` makes batches of two shapes. `index` (B,) int32 is the row.

    The examples of a bucket stand in an endless line of their own, in a new order every time it is
    through, and each batch of the bucket is the next B of it. A bucket of n examples has ⌊(e + 1) n
    / B⌋ - ⌊e n / B⌋ batches in epoch e, and an epoch's batches of all buckets come in a random
    order. So nothing is left out or topped up, a batch is of a bucket with a probability
    proportional to its size, and after e epochs each example of a bucket with n ≥ B was drawn e or
    e - 1 times.

    Raises UserError as `buckets` does, and where boundaries do not go with each other.
    """

    def __init__(
        self,
        examples: Mapping[str, Sequence],
        boundaries: Mapping[str, Sequence[int]],
        batch_size: int,
        seed: int,
        transform: Transform | None = None,
    ):
        self.examples, self.batch_size, self._seed = examples, batch_size, seed
        found = _buckets(examples, boundaries)
        self._sizes = [len(bucket) for bucket in found]
        self._first, self._count = 0, batch_size
        self._lines = [
            TrainBatches(bucket, batch_size, _seed(seed, bucket.number), bucket.then(transform))
            for bucket in found
        ]
        self._order = functools.lru_cache(4)(
            self._new_order
        )  # the last few, since threads read ahead

    def __call__(self, t: int) -> Batch:
        epoch = self.epoch(t)
        bucket, number = self._order(epoch)[t - self.steps(epoch)]
        return self._lines[bucket](int(number))

    def longest(self) -> Batch:
        """One of the longest sequences' bucket, which takes the most memory."""
        return self._lines[-1](0)

    def steps(self, epochs: int) -> int:
        """Batches in this many epochs from the first on."""
        return sum(epochs * size // self.batch_size for size in self._sizes)

    def epoch(self, t: int) -> int:
        """The epoch that batch t belongs to."""
        every = sum(self._sizes)  # e·every/B - buckets < steps(e) <= e·every/B
        low, high = (
            t * self.batch_size // every,
            (t + len(self._sizes)) * self.batch_size // every + 1,
        )
        return low - 1 + bisect.bisect_right(range(low, high), t, key=self.steps)

    def _new_order(self, epoch: int) -> np.ndarray:
        """(steps, 2): bucket and number in its line of each batch of an epoch."""
        ends = [
            (epoch * size // self.batch_size, (epoch + 1) * size // self.batch_size)
            for size in self._sizes
        ]
        batches = [
            (bucket, number)
            for bucket, (first, end) in enumerate(ends)
            for number in range(first, end)
        ]
        return np.random.default_rng([self._seed, epoch, 0x6275636B]).permutation(
            np.array(batches, np.int64).reshape(-1, 2)
        )


class BucketEvalBatches(_BucketBatchesBase[EvalBatches]):
    """A finite sequence of batches as `BucketBatches` has them, bucket after bucket in the order of
    the examples, with a `mask` (B,) float32: the last one of each bucket is filled up with its last
    example, masked by 0. Every example is there once."""

    def __init__(
        self,
        examples: Mapping[str, Sequence],
        boundaries: Mapping[str, Sequence[int]],
        batch_size: int,
        transform: Transform | None = None,
    ):
        self.examples = examples
        self.batch_size, self._first, self._count = batch_size, 0, batch_size
        found = _buckets(examples, boundaries)
        self._lines = [EvalBatches(bucket, batch_size, bucket.then(transform)) for bucket in found]
        self._ends = np.cumsum([len(line) for line in self._lines]).tolist()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> Batch:
        if not 0 <= number < len(self):
            raise IndexError(number)
        bucket = bisect.bisect_right(self._ends, number)
        return self._lines[bucket][number - (self._ends[bucket] - len(self._lines[bucket]))]


class _BucketSource(Source):
    """The examples of one bucket, as a source that pads them."""

    name, split = "bucket", ""

    def __init__(
        self,
        number: int,
        rows: np.ndarray,
        examples: Mapping[str, Any],
        lengths: Mapping[str, int],
    ):
        self.number, self._rows, self._examples, self._lengths = number, rows, examples, lengths

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> Batch:
        """See `Source.read`."""
        batch, rows = {}, self._rows[rows]
        for name, column in self._examples.items():
            if name in self._lengths:
                batch[name], batch[f"{name}_length"], _ = pad(
                    [column[row] for row in rows], self._lengths[name]
                )
            else:
                batch[name] = column[rows]
        return batch

    def then(self, transform: Transform | None) -> Transform:
        """`index` becomes the row of all examples; then what is asked for."""
        whole = Transform(
            0, lambda batch, u: {**batch, "index": self._rows[batch["index"]].astype(np.int32)}
        )
        return whole if transform is None else compose(whole, transform)


def _buckets(
    examples: Mapping[str, Sequence], boundaries: Mapping[str, Sequence[int]]
) -> list[_BucketSource]:
    """Those that have examples. Raises ValueError for columns that are not of one set, UserError as
    `BucketBatches` says."""
    counts = {name: len(column) for name, column in examples.items()}
    if len(set(counts.values())) != 1 or {"index", "mask"} & set(counts):
        raise ValueError(
            f"columns of one set are equally long, and none is called index or mask: {counts}"
        )
    if not boundaries or not set(boundaries) <= set(counts):
        raise ValueError(f"boundaries are of {list(boundaries)}, columns are {list(counts)}")
    if len({len(ends) for ends in boundaries.values()}) > 1:
        listed = "; ".join(f"{name} {list(ends)}" for name, ends in boundaries.items())
        raise UserError(
            f"boundaries are not equally many: {listed}; give each column one for each bucket"
        )
    if not max(counts.values()):
        raise UserError("there are no examples; expected at least one")
    columns = {
        name: column if name in boundaries else np.asarray(column)
        for name, column in examples.items()
    }
    of_columns = [
        buckets([len(one) for one in columns[name]], ends, name)
        for name, ends in boundaries.items()
    ]
    of_example = np.max(of_columns, 0)
    return [
        _BucketSource(
            number,
            np.flatnonzero(of_example == number),
            columns,
            {name: ends[number] for name, ends in boundaries.items()},
        )
        for number in np.unique(of_example).tolist()
    ]


def _seed(seed: int, bucket: int) -> int:
    """One of each bucket's own, so that buckets of the same size do not share their orders."""
    return int(np.random.SeedSequence([seed, bucket]).generate_state(1)[0])

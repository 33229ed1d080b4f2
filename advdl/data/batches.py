"""batch(t): a function of the seed, the step and the data; nothing about the input is saved in a
checkpoint.

Examples stand in an endless line: the data set in a new order every epoch, one epoch after another.
Batch t is places t·B … (t+1)·B - 1 of it. Where several processes train together, each reads its
own contiguous part of every batch, which `part` gives. Whatever is random about an example is a
function of the seed and of its place. Axes: B global batch.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Any, Self

import grain
import numpy as np

from advdl.data.masks import NO_CLASS
from advdl.data.source import Source
from advdl.data.transforms import Batch, Transform
from advdl.errors import UserError


class ShardedBatches:
    """Batches of which each process reads its own part: rows `_first` … `_first + _count - 1`, all
    of them to begin with."""

    batch_size: int
    """B, over all processes."""
    _first: int
    _count: int

    def part(self, process: int, processes: int) -> Self:
        """The same batches, of each only the part that this process reads, a contiguous one of B /
        processes rows; so the parts of all, one after the other, are the batch. Raises UserError
        where B does not divide."""
        if self.batch_size % processes:
            raise UserError(
                f"a batch of {self.batch_size} does not divide over {processes} processes; take a"
                f" multiple of {processes}"
            )
        part = copy.copy(self)
        part._count = self.batch_size // processes
        part._first = process * part._count
        return part


class TrainBatches(ShardedBatches):
    """`batches(t)`: what the source reads, `{"image", "label"}`, and `index` (int32), the row, of
    batch t.

    batch_size: B. transform: applied to the batch, `to_float(…)` at least. An example's numbers go
    to the source first (its view's draws), then to the transform.
    """

    def __init__(
        self, source: Source, batch_size: int, seed: int, transform: Transform | None = None
    ):
        self.source, self.batch_size = source, batch_size
        self._seed, self._transform = seed, transform
        self._first, self._count = 0, batch_size
        self._orders: OrderedDict[int, np.ndarray] = OrderedDict()

    def __call__(self, t: int) -> Batch:
        first = t * self.batch_size + self._first
        rows = self.rows(first, self._count)
        draws = self.source.draws
        u = self._uniforms(
            first, self._count, draws + (self._transform.draws if self._transform else 0)
        )
        batch = {**self.source.read(rows, u[:, :draws]), "index": rows.astype(np.int32)}
        return batch if self._transform is None else self._transform(batch, u[:, draws:])

    def rows(self, first: int, count: int) -> np.ndarray:
        """The source's rows at places first … first + count - 1 of the endless line, (count,)
        int64."""
        size = len(self.source)
        places = np.arange(first, first + count)
        epochs = places // size
        rows = np.empty(count, np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            chosen = epochs == epoch
            rows[chosen] = self._order(epoch)[places[chosen] % size]
        return rows

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of one epoch; the last few are kept, since threads read ahead."""
        order = self._orders.get(epoch)
        if order is None:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self.source))
            self._orders[epoch] = order
            while len(self._orders) > 4:
                self._orders.popitem(last=False)
        return order

    def _uniforms(self, first: int, count: int, draws: int) -> np.ndarray:
        """(count, draws) in [0, 1): words p·draws … of one counter-based stream belong to place
        p."""
        if not draws:
            return np.empty((count, 0))
        stream = np.random.Philox(key=[self._seed, 0x61756776])
        block, skip = divmod(first * draws, 4)  # Philox advances by blocks of four words
        stream.advance(block)
        words = stream.random_raw(skip + count * draws)[skip:]
        return ((words >> 11) * 2.0**-53).reshape(count, draws)


class EvalBatches(ShardedBatches):
    """A finite sequence of batches in the source's order, as `TrainBatches` has them and with a
    `mask` (float32): the last one is filled up with the last example, masked by 0. Raises
    ValueError for a source that draws, and UserError for one without examples.

    Of scenes, `mask` (B, H, W) is the classes of the pixels: there what fills up is void
    (`NO_CLASS` where they have no void) in every pixel, so that no statistic over pixels counts it,
    and `counted` (B,) float32 is 1 for the others.
    """

    def __init__(self, source: Source, batch_size: int, transform: Transform | None = None):
        if source.draws:
            raise ValueError(
                f"{source.name} shows random parts of its images; evaluate on cover or center_crop"
            )
        if not len(source):
            raise UserError(f"{source.name} has no examples in {source.split}")
        self.source, self.batch_size, self._transform = source, batch_size, transform
        self._first, self._count = 0, batch_size

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        if not 0 <= number < len(self):
            raise IndexError(number)
        places = np.arange(self._count) + number * self.batch_size + self._first
        return self._of(
            np.minimum(places, len(self.source) - 1), (places < len(self.source)).astype(np.float32)
        )

    def examples(self, rows: np.ndarray) -> Batch:
        """A batch of these rows of the source, (B,) and as many as one likes, all of which count;
        such as `selected` draws."""
        return self._of(rows, np.ones(len(rows), np.float32))

    def _of(self, rows: np.ndarray, counted: np.ndarray) -> Batch:
        batch = {"mask": counted, **self.source.read(rows), "index": rows.astype(np.int32)}
        if batch["mask"] is not counted:
            none = NO_CLASS if self.source.void is None else self.source.void
            batch |= {
                "mask": np.where(counted[:, None, None] > 0, batch["mask"], np.uint8(none)),
                "counted": counted,
            }
        return batch if self._transform is None else self._transform(batch)


def batches_of(
    part: str, source: Source, size: int, seed: int, transform: Transform | None = None
) -> TrainBatches | EvalBatches:
    """Batches of a part of the data: endless ones of `train`, a finite sequence of any other."""
    if part == "train":
        return TrainBatches(source, size, seed, transform)
    return EvalBatches(source, size, transform)


class StackedBatches:
    """`batches(n)`: those of steps n·count … n·count + count - 1 in one, where example i of step
    n·count + j is at place i·count + j. So splitting it into `count` parts, as `train.multi_step`
    does, gives the batches back, and each shard of it has the shards of all."""

    def __init__(self, batches: Callable[[int], Batch], count: int):
        self._batches, self._count = batches, count

    def __call__(self, n: int) -> Batch:
        parts = [self._batches(n * self._count + j) for j in range(self._count)]
        return (
            parts[0]
            if len(parts) == 1
            else {name: self._dealt([part[name] for part in parts]) for name in parts[0]}
        )

    def _dealt(self, parts: list[np.ndarray]) -> np.ndarray:
        stacked = np.stack(parts, 1)
        return stacked.reshape(-1, *stacked.shape[2:])


def prefetch(
    batches: Callable[[int], Any],
    start: int,
    stop: int,
    threads: int = 1,
    depth: int = 4,
    put: Callable[[Any], Any] = lambda batch: batch,
) -> Generator[Any, None, None]:
    """`put(batches(t))` for t = start … stop - 1 in turn, read ahead by `threads`, at most `depth`
    of them.

    Errors arrive as they are, at their turn. Closing the iterator stops the threads.
    """
    line = grain.MapDataset.range(start, stop).map(lambda t: _attempt(batches, put, int(t)))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(depth, threads))
    iterator = iter(line.to_iter_dataset(options))
    try:
        for outcome in iterator:
            if isinstance(outcome, _Failed):
                raise outcome.error
            yield outcome
    finally:
        iterator.close()


class _Failed:
    """An error on its way out of a thread; Grain would add notes to it and try to make it
    another."""

    def __init__(self, error: BaseException):
        self.error = error


def _attempt(batches, put, t):
    try:
        return put(batches(t))
    except Exception as error:
        return _Failed(error)

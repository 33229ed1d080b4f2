"""Sequences made to order, that ask how long something can be kept in mind.

Axes: B batch, T time. In `train` every place in the line of examples has a sequence of its own,
drawn from its own numbers, and the length of the source means nothing; `test` is fixed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from advdl.data.source import GeneratedSource, ZipSource
from advdl.data.spec import Spec
from advdl.errors import UserError

EPOCH = 10_000


def _source(
    name: str,
    split: str,
    draws: int,
    generate: Callable[[np.ndarray], dict[str, np.ndarray]],
    count: int,
) -> GeneratedSource:
    """count: number of sequences of the fixed parts."""
    size = EPOCH if split == "train" else count
    return GeneratedSource(name, split, draws, generate, size, [0x7461736B, draws])


@dataclasses.dataclass(frozen=True)
class TaskSpec(Spec):
    """What a network must know of such a task. outputs: numbers of an answer (logits of classes, or
    one number)."""

    outputs: int


def bits(split: str, shortest: int, longest: int, count: int = 512) -> GeneratedSource:
    """`{"sequence": float32 (B, T, 2), "length": int32 (B,), "label": int32 (B,), "parity": int32
    (B, T)}`: a 0 or a 1 at each step, one-hot, and whether there is an odd number of ones in the
    whole sequence, and in what has been read so far. Lengths are uniform from `shortest` to
    `longest`, which is T; what follows the length is 0."""

    def make(u):
        length = shortest + (u[:, 0] * (longest - shortest + 1)).astype(np.int32)
        token = (u[:, 1:] < 0.5).astype(np.int32) * (np.arange(longest) < length[:, None])
        odd = parity(token)
        return {
            "sequence": np.eye(2, dtype=np.float32)[token],
            "length": length,
            "label": odd[:, -1],
            "parity": odd,
        }

    return _source("bits", split, 1 + longest, make, count)


def parity(token: np.ndarray) -> np.ndarray:
    """Of bits (…, T), whether there is an odd number of ones up to each step, int32 (…, T)."""
    return np.cumsum(token, -1, dtype=np.int32) % 2


def parse_bits(text: str) -> np.ndarray:
    """`"0110"` -> int32 (T,). Raises UserError for anything else."""
    if not text or set(text) - {"0", "1"}:
        wrong = "".join(f" ({character!r})" for character in sorted(set(text) - {"0", "1"})[:1])
        raise UserError(f"{text[:40]!r} is no sequence of bits{wrong}; expected 0 and 1")
    return np.array([int(bit) for bit in text], np.int32)


def task_units(batch: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How many steps the sequences of a batch have, padding not counted, as `tokens`."""
    if "length" in batch:
        return {"tokens": float(batch["length"].sum())}
    sequences = (value for name, value in batch.items() if name.startswith("sequence"))
    return {"tokens": float(sum(value[..., 0].size for value in sequences))}


def adding(split: str, steps: int, count: int = 1000) -> GeneratedSource:
    """`{"sequence": float32 (B, T, 2), "target": float32 (B,)}`: numbers in [0, 1), and beside each
    whether it is one of the two, one in each half, whose sum is the target. Hochreiter &
    Schmidhuber 1997, experiment 4, as in later work: without their ranges and ends. Who knows
    nothing and says 1 is off by 1/6 in the mean square."""

    def make(u):
        value, half = u[:, :steps], steps // 2
        marked = np.zeros_like(value)
        rows = np.arange(len(u))
        first, second = (
            (u[:, steps] * half).astype(int),
            half + (u[:, steps + 1] * (steps - half)).astype(int),
        )
        marked[rows, first] = marked[rows, second] = 1
        sequence = np.stack([value, marked], -1).astype(np.float32)
        return {
            "sequence": sequence,
            "target": (sequence[rows, first, 0] + sequence[rows, second, 0]).astype(np.float32),
        }

    return _source("adding", split, steps + 2, make, count)


SYMBOLS = 6


def temporal_order(split: str, steps: int, count: int = 1000) -> GeneratedSource:
    """`{"sequence": float32 (B, T, 6), "target": int32 (B,)}`: four kinds of distractors, one of
    six each, and somewhere in the second tenth and again in the sixth an X or a Y (the last two);
    the target is their order, XX, XY, YX or YY. Hochreiter & Schmidhuber 1997, experiment 6a, whose
    places these are in proportion to its lengths of 100 to 110."""

    def make(u):
        symbol = (u[:, :steps] * 4).astype(int)
        rows, tenth = np.arange(len(u)), max(1, steps // 10)
        chosen = (u[:, steps : steps + 2] < 0.5).astype(int)
        for n, begin in enumerate((tenth, 5 * tenth)):
            place = begin + (u[:, steps + 2 + n] * tenth).astype(int)
            symbol[rows, place] = 4 + chosen[:, n]
        return {
            "sequence": np.eye(SYMBOLS, dtype=np.float32)[symbol],
            "target": (2 * chosen[:, 0] + chosen[:, 1]).astype(np.int32),
        }

    return _source("temporal_order", split, steps + 4, make, count)


class Task(NamedTuple):
    """A task whose answer lies far back.

    make: `(split, steps) -> source`. outputs: those of a network, one number or the logits of
    classes. error: what is measured. blind: the error of a network that ignores the input.
    """

    make: Callable[[str, int], GeneratedSource]
    outputs: int
    error: str
    blind: float

    def at(self, split: str, lags: Sequence[int]) -> ZipSource:
        """The task at several lengths: `sequence/50` and `target/50`, and so on."""
        return ZipSource({str(lag): self.make(split, lag) for lag in lags})


TASKS: Mapping[str, Task] = {
    "adding": Task(adding, 1, "mean square error", 1 / 6),
    "temporal_order": Task(temporal_order, 4, "share of wrong answers", 3 / 4),
}

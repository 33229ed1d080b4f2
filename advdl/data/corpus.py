"""One long text: where it comes from, how it is spelled in tokens, and windows of it in turn.

Axes: N tokens of a text, B streams that are read side by side, T tokens of a window.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from advdl.data.batches import ShardedBatches
from advdl.data.blank import blank_text
from advdl.data.spec import Spec
from advdl.data.text import read_lines
from advdl.data.transforms import Batch
from advdl.data.vocabulary import TextSpec
from advdl.errors import UserError, nearest
from advdl.reading import expand, files, is_file, is_folder


class Corpus(NamedTuple):
    """A text in three parts."""

    name: str
    train: str
    val: str
    test: str


def open_text(spec: str) -> Corpus:
    """The text that a person named.

    spec: `pydoc`, the reference of the Python language in `pydoc_data.topics` of the running
    Python, topics in a fixed random order, each paragraph only where it stands first (topics quote
    each other); or `folder:PATH`, a file, or a folder with train.txt, valid.txt and test.txt, or
    with other *.txt, which are read in the order of their names. What has no parts of its own is
    parted 90 : 5 : 5, the last lines being the test part. `blank:10000` is made up of so many
    words.

    Raises UserError for another name, and for what cannot be read, is not UTF-8 or is too short to
    part.
    """
    kind, _, rest = spec.partition(":")
    if spec == "pydoc":
        return Corpus(spec, *_parted(_reference(), spec))
    if kind == "blank":
        return Corpus(kind, *_parted(blank_text(rest), spec))
    if kind != "folder" or not rest:
        known = ["pydoc", "folder:PATH"]
        raise UserError(f"no text {spec!r}; there are {', '.join(known)}{nearest(spec, known)}")
    path = expand(rest)

    def read(file):
        return "\n".join(read_lines(file)) + "\n"

    parts = [path / f"{name}.txt" for name in ("train", "valid", "test")]
    if all(map(is_file, parts)):
        return Corpus(path.name, *map(read, parts))
    found = [path] if not is_folder(path) else files(path, [".txt"])
    if not found:
        raise UserError(
            f"{path} is no text file and has no *.txt; expected one or more, or train.txt,"
            " valid.txt and test.txt"
        )
    return Corpus(path.stem, *_parted("".join(map(read, found)), str(path)))


def _reference() -> str:
    """The topics of Python's own help."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    known: set[str] = set()
    said = []
    for place in np.random.default_rng(0).permutation(len(names)):
        own = []
        for paragraph in re.split(r"\n\s*\n", topics[names[place]].strip("\n")):
            if (plain := " ".join(paragraph.split())) not in known:
                known.add(plain)
                own.append(paragraph.rstrip())
        said.append("\n\n".join(own))
    return "\n\n\n".join(filter(None, said)) + "\n"


def _parted(text: str, name: str) -> list[str]:
    """The text cut at line ends."""
    cuts = [text.find("\n", round(share * len(text))) + 1 for share in (0.9, 0.95)]
    parts = [text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :]]
    if not cuts[0] or not all(part.strip() for part in parts):
        raise UserError(
            f"{name} has {len(text)} characters and too few lines to part 90 : 5 : 5; give a longer"
            " text"
        )
    return parts


@dataclass(frozen=True)
class CorpusSpec(Spec):
    """A long text, as a network gets it. train_tokens: number of tokens of the part to train on."""

    text: TextSpec
    train_tokens: int

    @classmethod
    def of(cls, corpus: Corpus, unit: str, least: int, size: int) -> Self:
        """The spec of a corpus; see `TextSpec.of`."""
        text = TextSpec.of(unit, corpus.train.splitlines(keepends=True), least, size)
        return cls(text, len(text.encode_lines(corpus.train)))

    def updates(self, batch: int, window: int) -> int:
        """Number of updates of an epoch, at least 1."""
        return max(1, (self.train_tokens - 1) // (batch * window))


def stream_batches(
    corpus: Corpus, part: str, spec: CorpusSpec, size: int, window: int, seed: int
) -> "StreamBatches | StreamEvalBatches":
    """Batches of a part of a corpus, in `size` streams: endless ones of `train`."""
    text = getattr(corpus, part)
    ids = spec.text.encode_lines(text)
    if part == "train":
        return StreamBatches(ids, size, window, seed)
    return StreamEvalBatches(ids, size, window, len(text) / max(1, len(ids)))


class StreamBatches(ShardedBatches):
    """`batches(t)`: windows of a text (N,) in turn, for truncated back-propagation through time; a
    function of seed and step.

    The text is cut into B streams that lie one behind the other; batch t holds the next T tokens of
    each: `inputs` (B, T), and `targets` (B, T), the tokens after them, int32. `fresh` (B,) float32
    is 1 in the first window of an epoch, where there is nothing before. `index` (B,) int32: the
    place of the first input in the text. What does not come out even is left over at either end,
    another share in every epoch. Raises UserError for a text of less than a window for each stream.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, length: int, seed: int):
        self.ids, self.batch_size, self._length, self._seed = (
            np.asarray(ids, np.int32),
            batch_size,
            length,
            seed,
        )
        self.windows = (len(ids) - 1) // (batch_size * length)
        if not self.windows:
            raise UserError(
                f"the text to train on has {len(ids)} tokens, fewer than {batch_size} windows of"
                f" {length} need; give a longer text, or smaller --batch or --window"
            )
        self._first, self._count = 0, batch_size

    def __call__(self, t: int) -> Batch:
        epoch, number = divmod(t, self.windows)
        stream = self.windows * self._length
        left_over = len(self.ids) - 1 - self.batch_size * stream
        offset = int(np.random.default_rng([self._seed, epoch, 0x74657874]).integers(left_over + 1))
        first = offset + (self._first + np.arange(self._count)) * stream + number * self._length
        tokens = self.ids[first[:, None] + np.arange(self._length + 1)]
        fresh = np.full(self._count, number == 0, np.float32)
        return {
            "inputs": tokens[:, :-1],
            "targets": tokens[:, 1:],
            "fresh": fresh,
            "index": first.astype(np.int32),
        }


class StreamEvalBatches(ShardedBatches):
    """A finite sequence of one batch: a text (N,) as B streams of whole windows, `inputs` and
    `targets` (B, n·T) and `counted` (B, n·T) float32, which is 1 for every token but the first of
    the text, once, and 0 for what fills up. characters: how many a token has on average, which
    `characters` (B,) float32 repeats."""

    def __init__(self, ids: np.ndarray, batch_size: int, length: int, characters: float = 0.0):
        targets = len(ids) - 1
        if targets < 1:
            raise UserError(f"a text to evaluate on has {len(ids)} tokens; give a longer one")
        own = -(-targets // batch_size)  # tokens of a stream
        whole = -(-own // length) * length
        place = np.arange(batch_size)[:, None] * own + np.arange(whole)[None]
        counted = (np.arange(whole)[None] < own) & (place < targets)
        place = np.minimum(place, targets - 1)
        self.batch_size, self._first, self._count = batch_size, 0, batch_size
        self.ids = ids = np.asarray(ids, np.int32)
        self._whole = {
            "inputs": ids[place],
            "targets": ids[place + 1],
            "counted": counted.astype(np.float32),
            "characters": np.full(batch_size, characters, np.float32),
        }

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> Batch:
        if number:
            raise IndexError(number)
        return {
            name: rows[self._first : self._first + self._count]
            for name, rows in self._whole.items()
        }

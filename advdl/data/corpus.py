"""One long text: where it comes from, how it is spelled in tokens, and windows of it in turn.

Axes: N tokens of a text, B streams that are read side by side, T tokens of a window.
"""

import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from advdl.data.batches import Shared
from advdl.data.blank import blank_text
from advdl.data.text import join, read_lines, words
from advdl.data.transforms import Batch
from advdl.data.vocabulary import END, Subwords, Vocabulary
from advdl.errors import UserError, nearest

SPELLINGS = ("characters", "words", "spaces", "subwords")


class Corpus(NamedTuple):
    """A text in three parts."""

    name: str
    train: str
    validation: str
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
    path = pathlib.Path(rest).expanduser()

    def read(file):
        return "\n".join(read_lines(file)) + "\n"

    parts = [path / f"{name}.txt" for name in ("train", "valid", "test")]
    if path.is_dir() and all(file.is_file() for file in parts):
        return Corpus(path.name, *map(read, parts))
    files = [path] if path.is_file() else sorted(path.glob("*.txt"))
    if not files:
        raise UserError(
            f"{path} is no text file and has no *.txt; expected one or more, or train.txt,"
            " valid.txt and test.txt"
        )
    return Corpus(path.stem, *_parted("".join(map(read, files)), str(path)))


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
class Speller:
    """Texts as tokens. kind: one of SPELLINGS: characters; words and punctuation, or what stands
    between spaces (as in Penn Treebank), where each line that is not blank ends with `END`; or
    subwords. Only characters and subwords keep all of a text.
    """

    kind: str
    vocabulary: Vocabulary | Subwords

    @classmethod
    def of(cls, kind: str, text: str, least: int = 1, size: int = 2000) -> "Speller":
        """From the text to learn from. least: times that a word must occur to be known. size: of a
        vocabulary of subwords."""
        if kind == "characters":
            return cls(kind, Vocabulary.of_characters(text))
        if kind == "subwords":
            return cls(kind, Subwords.train(text.splitlines(keepends=True), size))
        return cls(
            kind, Vocabulary.of_words((cls._words(kind, line) for line in text.split("\n")), least)
        )

    @staticmethod
    def _words(kind: str, line: str) -> list[str]:
        return words(line, lower=False) if kind == "words" else line.split()

    @property
    def keeps_all(self) -> bool:
        """Whether the text can be had back from its tokens."""
        return self.kind in ("characters", "subwords")

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """Ids (N,) int32."""
        if self.keeps_all:
            return self.vocabulary.encode(text)
        lines = filter(None, (self._words(self.kind, line) for line in text.split("\n")))
        return np.array(
            [number for line in lines for number in (*self.vocabulary.encode(line), END)], np.int32
        )

    def decode(self, ids: Sequence[int]) -> str:
        """A text to read."""
        if self.kind == "subwords":
            return self.vocabulary.decode(ids, until_eos=False)
        tokens = self.vocabulary.decode(ids, until_eos=False)
        if self.kind == "characters":
            return "".join(tokens)
        text, line = "", []
        for token, number in zip(tokens, np.asarray(ids).tolist(), strict=True):
            if number == END:
                text, line = text + self._line(line) + "\n", []
            else:
                line.append(token)
        return text + self._line(line)

    def _line(self, tokens: Sequence[str]) -> str:
        return join(tokens) if self.kind == "words" else " ".join(tokens)

    def unknown(self, text: str) -> list[str]:
        """What of a text is not known, each once."""
        if self.keeps_all:
            return self.vocabulary.unknown(text)
        return self.vocabulary.unknown(
            word for line in text.split("\n") for word in self._words(self.kind, line)
        )

    def to_json(self) -> dict[str, str]:
        """As `from_json` reads it."""
        return {"kind": self.kind, "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_json(cls, content: object, name: str) -> "Speller":
        """What `to_json` made. Raises UserError, about `name`, for anything else."""
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind not in SPELLINGS or not isinstance(content.get("vocabulary"), str):
            raise UserError(
                f"{name} is no vocabulary of {', '.join(SPELLINGS)}; train the run anew"
            )
        kept = Subwords if kind == "subwords" else Vocabulary
        return cls(kind, kept.from_json(content["vocabulary"], name))


class StreamBatches(Shared):
    """`batches(t)`: windows of a text (N,) in turn, for truncated back-propagation through time; a
    function of seed and step.

    The text is cut into B streams that lie one behind the other; batch t holds the next T tokens of
    each: `inputs` (B, T), and `targets` (B, T), the tokens after them, int32. `fresh` (B,) float32
    is 1 in the first window of an epoch, where there is nothing before. `index` (B,) int32: the
    place of the first input in the text. What does not come out even is left over at either end,
    another share in every epoch. Raises UserError for a text of less than a window for each stream.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, length: int, seed: int):
        self._ids, self.batch_size, self._length, self._seed = (
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
        left_over = len(self._ids) - 1 - self.batch_size * stream
        offset = int(np.random.default_rng([self._seed, epoch, 0x74657874]).integers(left_over + 1))
        first = offset + (self._first + np.arange(self._count)) * stream + number * self._length
        tokens = self._ids[first[:, None] + np.arange(self._length + 1)]
        fresh = np.full(self._count, number == 0, np.float32)
        return {
            "inputs": tokens[:, :-1],
            "targets": tokens[:, 1:],
            "fresh": fresh,
            "index": first.astype(np.int32),
        }


class StreamEvalBatches(Shared):
    """A finite sequence of one batch: a text (N,) as B streams of whole windows, `inputs` and
    `targets` (B, n·T) and `counted` (B, n·T) float32, which is 1 for every token but the first of
    the text, once, and 0 for what fills up."""

    def __init__(self, ids: np.ndarray, batch_size: int, length: int):
        targets = len(ids) - 1
        if targets < 1:
            raise UserError(f"a text to evaluate on has {len(ids)} tokens; give a longer one")
        own = -(-targets // batch_size)  # tokens of a stream
        whole = -(-own // length) * length
        place = np.arange(batch_size)[:, None] * own + np.arange(whole)[None]
        counted = (np.arange(whole)[None] < own) & (place < targets)
        place = np.minimum(place, targets - 1)
        self.batch_size, self._first, self._count = batch_size, 0, batch_size
        ids = np.asarray(ids, np.int32)
        self._whole = {
            "inputs": ids[place],
            "targets": ids[place + 1],
            "counted": counted.astype(np.float32),
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

"""Pairs of sentences in two languages."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from advdl.data.blank import blank_pairs
from advdl.data.sequences import BucketBatches, BucketEvalBatches, boundaries
from advdl.data.spec import Spec
from advdl.data.text import read_parallel, words
from advdl.data.vocabulary import TextSpec
from advdl.errors import UserError, nearest
from advdl.reading import expand

PARTS = ("train", "val", "test")
LARGEST = 1_000_000
COUNTS = {"train": 10_000, "val": 500, "test": 1000}

Pairs = list[tuple[str, str]]


def open_parallel(spec: str, source: str, target: str) -> dict[str, Pairs]:
    """`{"train": …, "val": …, "test": …}` that a person named.

    spec: `numbers`, numbers below a million in words, no number in two parts (by the library
    num2words, of its languages); or `folder:PATH` with `PATH/train.SOURCE`, `PATH/train.TARGET` and
    so on for val and test, a sentence a line; a sentence that is empty on either side is left out;
    or `blank:40:10000`, made up of so many words, a sentence and in all. Raises UserError for what
    is not there, and for unequal numbers of lines.
    """
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        root = expand(rest)
        found = {
            part: read_parallel(root / f"{part}.{source}", root / f"{part}.{target}")
            for part in PARTS
        }
        found = {
            part: [pair for pair in pairs if all(side.strip() for side in pair)]
            for part, pairs in found.items()
        }
        for part, pairs in found.items():
            if not pairs:
                raise UserError(f"{root} has no pair of sentences in {part}")
        return found
    if kind == "blank":
        return blank_pairs(rest)
    if spec != "numbers":
        known = ["numbers", "folder:PATH"]
        raise UserError(
            f"no pairs of sentences {spec!r}; there are {', '.join(known)}{nearest(spec, known)}"
        )
    return {part: list(pairs) for part, pairs in numbers_in_words(source, target).items()}


@functools.cache
def numbers_in_words(source: str, target: str) -> dict[str, Pairs]:
    """Numbers drawn evenly by their count of digits, so that short ones are among them.

    source, target: codes of languages that num2words knows. Raises UserError for others, and where
      num2words is missing.
    """
    try:
        import num2words
    except ImportError:
        raise UserError(
            "numbers in words need num2words: pip install 'advdl[text]', or take folder:PATH"
        ) from None
    for language in (source, target):
        if language not in num2words.CONVERTER_CLASSES:
            close = nearest(language, num2words.CONVERTER_CLASSES)
            raise UserError(
                f"num2words knows no language {language!r}{close}; take another, as in --target es"
            )
    random = np.random.default_rng(0x6E756D)
    digits = random.integers(1, 7, 8 * sum(COUNTS.values()))
    drawn = dict.fromkeys((random.random(len(digits)) * 10**digits).astype(int).tolist())
    order = list(drawn)[: sum(COUNTS.values())]
    random.shuffle(order)
    found, first = {}, 0
    for part, count in COUNTS.items():
        own = order[first : first + count]
        found[part] = [
            tuple(num2words.num2words(n, lang=language) for language in (source, target))
            for n in own
        ]
        first += count
    return found


@dataclass(frozen=True)
class TranslationSpec(Spec):
    """Sentences of two languages, as a network gets them: one is read, the other is written."""

    source: TextSpec
    target: TextSpec


class EncodedPairs(dict[str, list[np.ndarray]]):
    """Ids of pairs by column, as `BucketBatches` takes them: `source`, and `target` between its
    beginning and its end. pairs: the sentences, as they were written. left_out: how many pairs are
    not there because they are too long."""

    def __init__(self, spec: TranslationSpec, pairs: Pairs, left_out: int = 0):
        self.pairs, self.left_out = pairs, left_out
        sources = [spec.source.encode(text)[: spec.source.longest] for text, _ in pairs]
        super().__init__(source=sources, target=[spec.target.framed(text) for _, text in pairs])


class ParallelTexts:
    """Pairs of sentences in three parts, in lower case, and their batches.

    longest: number of tokens of the longest sentence; pairs of the training part with a longer one
    are left out, and sentences of the other parts are cut. subwords: the size of a vocabulary of
    subwords for each language, learned from all training pairs; 0 for words. Raises UserError as
    `open_parallel` does, and where no training pair is left.
    """

    def __init__(self, name: str, source: str, target: str, longest: int, subwords: int = 0):
        self._pairs, self._longest = open_parallel(name, source, target), longest
        sides = zip(*self._pairs["train"], strict=True) if subwords else ()
        self._subwords = [
            TextSpec.of("subwords", side, size=subwords, lower=True) for side in sides
        ]
        lengths = {
            part: np.array([self._count(pair) for pair in pairs])
            for part, pairs in self._pairs.items()
        }
        kept = lengths["train"].max(1) <= longest
        if not kept.any():
            raise UserError(
                f"no training pair has at most --longest {longest} {'sub' * bool(subwords)}words on"
                " both sides; take more"
            )
        learned = [pair for pair, keep in zip(self._pairs["train"], kept, strict=True) if keep]
        self._left_out, self._pairs["train"] = int((~kept).sum()), learned
        self._learned = lengths["train"] = lengths["train"][kept]
        self._sizes = np.max([np.minimum(own, longest).max(0) for own in lengths.values()], 0)

    def _count(self, pair: tuple[str, str]) -> list[int]:
        """Number of tokens of either side."""
        if not self._subwords:
            return [len(words(text)) for text in pair]
        return [len(spec.encode(text)) for spec, text in zip(self._subwords, pair, strict=True)]

    def spec(self, least: int) -> TranslationSpec:
        """What a network must know of them. least: number of times that a word must occur in the
        training part to be known; subwords are all known."""
        specs = self._subwords or [
            TextSpec.of("words", side, least, lower=True)
            for side in zip(*self._pairs["train"], strict=True)
        ]
        return TranslationSpec(
            *(
                dataclasses.replace(spec, longest=int(size))
                for spec, size in zip(specs, self._sizes, strict=True)
            )
        )

    def batches(
        self, part: str, spec: TranslationSpec, buckets: int, batch: int, seed: int = 0
    ) -> BucketBatches | BucketEvalBatches:
        """Batches of a part, in so many buckets of lengths: endless ones of `train`."""
        longest = max(spec.source.longest, spec.target.longest)
        ends = boundaries(self._learned.max(1).tolist(), buckets, longest)
        bounds = {"source": ends, "target": tuple(end + 2 for end in ends)}
        if part == "train":
            columns = EncodedPairs(spec, self._pairs[part], self._left_out)
            return BucketBatches(columns, bounds, batch, seed)
        return BucketEvalBatches(EncodedPairs(spec, self._pairs[part]), bounds, batch)

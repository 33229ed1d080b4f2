"""Pairs of sentences in two languages."""

import functools
import pathlib

import numpy as np

from advdl.data.blank import blank_pairs
from advdl.data.text import read_parallel
from advdl.errors import UserError, nearest

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
        root = pathlib.Path(rest).expanduser()
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

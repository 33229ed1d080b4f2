"""Text: lines of files, JSON, and words."""

import functools
import pathlib
import re
import sys
import unicodedata
from collections.abc import Iterable

from advdl.errors import UserError
from advdl.reading import read_text


def read_lines(path: str | pathlib.Path) -> list[str]:
    r"""The lines of a UTF-8 file, without their ends: "\n", or "\r\n". Other separators of Unicode
    stay inside of their line, and so do blank lines in their place. Raises UserError for a file
    that cannot be read or has no text, and for one that is not UTF-8."""
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path} has no text; expected one sentence a line")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def read_parallel(
    source_path: str | pathlib.Path, target_path: str | pathlib.Path
) -> list[tuple[str, str]]:
    """Line n of one file with line n of the other. Raises UserError as `read_lines` does, and where
    one has more lines."""
    source, target = read_lines(source_path), read_lines(target_path)
    if len(source) != len(target):
        longer = source_path if len(source) > len(target) else target_path
        raise UserError(
            f"{source_path} has {len(source)} lines and {target_path} has {len(target)}; "
            f"line {min(len(source), len(target)) + 1} of {longer} has no counterpart"
        )
    return list(zip(source, target, strict=True))


@functools.cache
def _word() -> re.Pattern[str]:
    """Letters, digits, the marks and joiners that go with them, and apostrophes between them; or
    another sign by itself."""
    marks = "\u200c\u200d" + "".join(
        sign for sign in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(sign)[0] == "M"
    )
    letter = rf"(?:[^\W_]|[{marks}])"
    return re.compile(rf"{letter}+(?:['’]{letter}+)*|\S")


def words(sentence: str, lower: bool = True) -> list[str]:
    """Words and punctuation: `"Don't stop, 007!"` -> `["don't", "stop", ",", "007", "!"]`. In
    Unicode's form NFC, so that a letter and its accent are the same however they were typed."""
    sentence = unicodedata.normalize("NFC", sentence)
    return _word().findall(unicodedata.normalize("NFC", sentence.lower()) if lower else sentence)


def join(words: Iterable[str]) -> str:
    """A sentence to read: spaces between words, around punctuation where English has them. `words`
    of it are those again."""
    sentence, tight, opened = "", True, set()
    for word in words:
        closing = word in opened
        before = word in _CLOSING or word == "-" or closing
        sentence += word if tight or before else f" {word}"
        tight = word in _OPENING or word == "-" or (word in _QUOTES and not closing)
        if word in _QUOTES:
            opened ^= {word}
    return sentence


_CLOSING, _OPENING, _QUOTES = set(".,;:!?%)]}…”’»"), set("([{¿¡“‘«$€£#"), {'"', "'"}

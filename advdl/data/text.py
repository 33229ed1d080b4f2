"""Text: lines of files, JSON, words, and vocabularies of words, characters or subwords.

Ids are int32, and the first four are the same in every vocabulary: what fills up, the unknown, the
beginning and the end.
"""

import functools
import json
import pathlib
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from advdl.errors import UserError

PAD, UNKNOWN, BEGIN, END = range(4)
SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
BYTES = 256


def read_lines(path: str | pathlib.Path) -> list[str]:
    r"""The lines of a UTF-8 file, without their ends: "\n", or "\r\n". Other separators of Unicode
    stay inside of their line, and so do blank lines in their place. Raises UserError for a file
    that cannot be read or has no text, and for one that is not UTF-8."""
    path = pathlib.Path(path).expanduser()
    try:
        text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} (0x{error.object[error.start]:02x})"
        raise UserError(
            f"{path} is not UTF-8: {byte} begins no character; convert it to UTF-8"
        ) from error
    if not text.strip():
        raise UserError(f"{path} has no text; expected one sentence a line")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def read_json(path: pathlib.Path) -> Any:
    """What a JSON file holds. Raises UserError, with its path, where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); mend it") from error


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


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, words or characters, and their ids: a token's id is its place. The first four are
    `SPECIALS`; a token of a text that is spelled like one of them is that one. Raises UserError for
    tokens that are not so, or that occur twice."""

    tokens: tuple[str, ...] = field(repr=False)

    def __post_init__(self):
        if not all(isinstance(token, str) and token for token in self.tokens):
            raise UserError(
                "a vocabulary has a token that is not a text or is empty; build it anew"
            )
        if self.tokens[: len(SPECIALS)] != SPECIALS:
            raise UserError(
                f"a vocabulary begins with {self.tokens[: len(SPECIALS)]}; expected {SPECIALS};"
                " build it anew"
            )
        if len(set(self.tokens)) < len(self.tokens):
            twice = Counter(self.tokens).most_common(1)[0][0]
            raise UserError(f"a vocabulary has the token {twice!r} more than once; build it anew")

    @classmethod
    def of_words(
        cls, sentences: Iterable[Sequence[str]], least: int = 1, most: int | None = None
    ) -> "Vocabulary":
        """The words of sentences, each a list of words, that occur at least `least` times; of them
        the `most` most frequent, specials not counted. The more frequent come first, equally
        frequent ones in alphabetical order."""
        counts: Counter[str] = Counter()
        for sentence in sentences:
            if isinstance(sentence, str):
                raise TypeError("a sentence is a list of words here; take `words(sentence)`")
            counts.update(sentence)
        found = sorted(
            (-count, word)
            for word, count in counts.items()
            if count >= least and word not in SPECIALS
        )
        return cls((*SPECIALS, *(word for _, word in found[:most])))

    @classmethod
    def of_characters(cls, text: str | Iterable[str]) -> "Vocabulary":
        """The characters of a text, or of several, in the order of their code points."""
        return cls((*SPECIALS, *sorted(set().union(*text))))

    def __len__(self) -> int:
        return len(self.tokens)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Ids (T,) int32 of a list of words, or of a text of T characters; `UNKNOWN` for what is
        not known."""
        return np.array([self._ids.get(token, UNKNOWN) for token in tokens], np.int32)

    def decode(self, ids: Sequence[int], until_eos: bool = True) -> list[str]:
        """Tokens of ids (T,): those before the first `END`, without `PAD` and `BEGIN`; or else all
        of them, as they are. Raises ValueError for an id that no token has."""
        return [self.tokens[number] for number in _known(ids, len(self), until_eos)]

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """Those of the tokens that are not known, each once."""
        return [token for token in dict.fromkeys(tokens) if token not in self._ids]

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps({"vocabulary": self.tokens}, ensure_ascii=False)

    @classmethod
    def from_json(cls, content: str, name: str = "the text") -> "Vocabulary":
        """What `to_json` wrote. Raises UserError, about `name`, for what is not JSON or not a
        vocabulary."""
        found = _decoded(content, name)
        tokens = found.get("vocabulary") if isinstance(found, dict) else None
        if not isinstance(tokens, list):
            raise UserError(
                f"{name} is not a vocabulary; expected a list of tokens under the name vocabulary"
            )
        try:
            return cls(tuple(tokens))
        except UserError as error:
            raise UserError(f"{name} is not a vocabulary: {error}") from None


@dataclass(frozen=True)
class Subwords:
    """A vocabulary of parts of words that were found by byte pair encoding (Sennrich et al. 2016,
    https://arxiv.org/abs/1508.07909) over the bytes of UTF-8, by the library `tokenizers`. No text
    is unknown to it, and `decode(encode(text)) == text`.

    content: JSON, as the library writes it. Ids 0 … 3 are `SPECIALS`, which no text holds, however
    it is spelled. Raises UserError for what is not such a vocabulary, and where the library is
    missing.
    """

    content: str = field(repr=False)

    def __post_init__(self):
        _ = self._tokenizer

    def __reduce__(self):  # the library's object forgets how specials in a text are read
        return Subwords, (self.content,)

    @classmethod
    def train(cls, sentences: Iterable[str], size: int) -> "Subwords":
        """The `size` subwords of these texts, specials and single bytes among them, or fewer where
        there is no more to join. The same texts give the same subwords. Raises UserError for a size
        without room for the bytes."""
        library = _library()
        least = BYTES + len(SPECIALS)
        if size < least:
            raise UserError(
                f"{size} subwords are too few; the bytes and specials alone are {least}"
            )
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIALS),
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(sentences, trainer)
        return cls(tokenizer.to_str())

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int32 of a text."""
        return np.array(self._tokenizer.encode(text).ids, np.int32)

    def decode(self, ids: Sequence[int], until_eos: bool = True) -> str:
        """The text of ids (T,): of those before the first `END`, without `PAD` and `BEGIN`; or else
        of all, specials spelled out. Bytes that make no character become U+FFFD. Raises ValueError
        for an id that no subword has."""
        return self._tokenizer.decode(_known(ids, len(self), until_eos), skip_special_tokens=False)

    def unknown(self, text: str) -> list[str]:
        """None: as `Vocabulary.unknown`, for whom either will do."""
        return []

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return self.content

    @classmethod
    def from_json(cls, content: str, name: str = "the text") -> "Subwords":
        """What `to_json` wrote. Raises UserError, about `name`, for what is not JSON or not a
        vocabulary of subwords."""
        _decoded(content, name)
        try:
            return cls(content)
        except _NotSubwords as error:
            raise UserError(f"{name} is not a vocabulary of subwords: {error}") from None

    @functools.cached_property
    def _tokenizer(self):
        library = _library()
        try:
            tokenizer = library.Tokenizer.from_str(self.content)
        except Exception as error:  # the library raises nothing more particular
            raise _NotSubwords(f"tokenizers does not read it ({error}); train it anew") from error
        parts, vocabulary = json.loads(self.content), tokenizer.get_vocab()
        for part, kind in (
            ("model", "BPE"),
            ("pre_tokenizer", "ByteLevel"),
            ("decoder", "ByteLevel"),
        ):
            if (found := (parts.get(part) or {}).get("type")) != kind:
                raise _NotSubwords(f"its {part} is {found}; expected {kind}; train it anew")
        given = parts | parts["model"] | parts["pre_tokenizer"]
        if changed := [part for part in _CHANGES if given.get(part)]:
            raise _NotSubwords(f"it has {changed[0]}, which would change texts; train it anew")
        if [vocabulary.get(token) for token in SPECIALS] != list(range(len(SPECIALS))):
            raise _NotSubwords(f"its first tokens are not {', '.join(SPECIALS)}; train it anew")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise _NotSubwords("its ids are not 0, 1, 2 and so on; train it anew")
        if missing := set(library.pre_tokenizers.ByteLevel.alphabet()) - set(vocabulary):
            raise _NotSubwords(f"it lacks {len(missing)} of the {BYTES} bytes; train it anew")
        tokenizer.encode_special_tokens = True  # so that a text cannot hold an end
        return tokenizer


_CHANGES = (
    *("normalizer", "post_processor", "truncation", "padding"),
    *("dropout", "continuing_subword_prefix", "end_of_word_suffix"),  # of the model
    "add_prefix_space",  # of the first division into words
)


class _NotSubwords(UserError):
    """What was read is another thing; told apart from a library that is missing."""


def _library():
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise UserError("subwords need the library tokenizers; pip install 'advdl[text]'") from None
    return tokenizers


def _known(ids: Sequence[int], size: int, until_eos: bool) -> list[int]:
    """The ids to decode."""
    ids = np.asarray(ids).tolist()
    if until_eos:
        ids = ids[: ids.index(END)] if END in ids else ids
        ids = [number for number in ids if number not in (PAD, BEGIN)]
    for number in ids:
        if not 0 <= number < size:
            raise ValueError(f"id {number} is none of a vocabulary of {size}")
    return ids


def _decoded(content: str, name: str):
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON ({error}); mend it") from error

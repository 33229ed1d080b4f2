"""Vocabularies of words, characters or subwords, and the spec of texts that are written in them.

Ids are int32, and the first four are the same in every vocabulary: padding, the unknown token, the
beginning and the end.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from advdl.captions import tokenize
from advdl.data.sequences import Padded, pad
from advdl.data.spec import Spec
from advdl.data.text import join, words
from advdl.errors import UserError

PAD, UNKNOWN, BEGIN, END = range(4)
SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
BYTES = 256


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, words or characters, and their ids: a token's id is its place. The first four are
    `SPECIALS`; a token of a text that is spelled like one of them is that one. Raises ValueError
    for tokens that are not so, that are no text, or that occur twice."""

    tokens: tuple[str, ...] = field(repr=False)

    def __post_init__(self):
        if not all(isinstance(token, str) and token for token in self.tokens):
            raise ValueError("it has a token that is not a text or is empty")
        if self.tokens[: len(SPECIALS)] != SPECIALS:
            raise ValueError(f"it begins with {self.tokens[: len(SPECIALS)]}; expected {SPECIALS}")
        if len(set(self.tokens)) < len(self.tokens):
            twice = Counter(self.tokens).most_common(1)[0][0]
            raise ValueError(f"it has the token {twice!r} more than once")
        try:
            "".join(self.tokens).encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a character, which no text holds") from None

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
    def of_characters(cls, text: Iterable[Iterable[str]]) -> "Vocabulary":
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

    def decode(self, ids: Sequence[int] | np.ndarray, until_eos: bool = True) -> list[str]:
        """Tokens of ids (T,): those before the first `END`, without `PAD` and `BEGIN`; or else all
        of them, as they are. Raises ValueError for an id that no token has."""
        return [self.tokens[number] for number in _known(ids, len(self), until_eos)]

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """Those of the tokens that are not known, each once."""
        return [token for token in dict.fromkeys(tokens) if token not in self._ids]


@dataclass(frozen=True)
class Subwords:
    """A vocabulary of parts of words that were found by byte pair encoding (Sennrich et al. 2016,
    https://arxiv.org/abs/1508.07909) over the bytes of UTF-8, by the library `tokenizers`. No text
    is unknown to it, and `decode(encode(text)) == text`.

    content: JSON, as the library writes it. Ids 0 … 3 are `SPECIALS`, which no text holds, however
    it is spelled. Raises ValueError for what is not such a vocabulary, and UserError where the
    library is missing.
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

    def decode(self, ids: Sequence[int] | np.ndarray, until_eos: bool = True) -> str:
        """The text of ids (T,): of those before the first `END`, without `PAD` and `BEGIN`; or else
        of all, specials spelled out. Bytes that make no character become U+FFFD. Raises ValueError
        for an id that no subword has."""
        return self._tokenizer.decode(_known(ids, len(self), until_eos), skip_special_tokens=False)

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """None: as `Vocabulary.unknown`, for whom either will do."""
        return []

    @functools.cached_property
    def _tokenizer(self):
        library = _library()
        try:
            tokenizer = library.Tokenizer.from_str(self.content)
        except Exception as error:  # the library raises nothing more particular
            raise ValueError(f"tokenizers does not read it ({error})") from None
        parts, vocabulary = json.loads(self.content), tokenizer.get_vocab()
        for part, kind in (
            ("model", "BPE"),
            ("pre_tokenizer", "ByteLevel"),
            ("decoder", "ByteLevel"),
        ):
            if (found := (parts.get(part) or {}).get("type")) != kind:
                raise ValueError(f"its {part} is {found}; expected {kind}")
        given = parts | parts["model"] | parts["pre_tokenizer"]
        if changed := [part for part in _CHANGES if given.get(part)]:
            raise ValueError(f"it has {changed[0]}, which would change texts")
        if [vocabulary.get(token) for token in SPECIALS] != list(range(len(SPECIALS))):
            raise ValueError(f"its first tokens are not {', '.join(SPECIALS)}")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("its ids are not 0, 1, 2 and so on")
        if missing := set(library.pre_tokenizers.ByteLevel.alphabet()) - set(vocabulary):
            raise ValueError(f"it lacks {len(missing)} of the {BYTES} bytes")
        tokenizer.encode_special_tokens = True  # so that a text cannot hold an end
        return tokenizer


_CHANGES = (
    *("normalizer", "post_processor", "truncation", "padding"),
    *("dropout", "continuing_subword_prefix", "end_of_word_suffix"),  # of the model
    "add_prefix_space",  # of the first division into words
)


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


def _known(ids: Sequence[int] | np.ndarray, size: int, until_eos: bool) -> list[int]:
    """The ids to decode."""
    found: list[int] = np.asarray(ids).tolist()
    if until_eos:
        found = found[: found.index(END)] if END in found else found
        found = [number for number in found if number not in (PAD, BEGIN)]
    for number in found:
        if not 0 <= number < size:
            raise ValueError(f"id {number} is none of a vocabulary of {size}")
    return found


UNITS = ("words", "captions", "spaces", "characters", "subwords")
"""What texts are written in: words and punctuation; the words of captions, as the COCO caption
server has them; what stands between spaces, as in Penn Treebank; characters; or subwords."""
LONGEST = 2**16


@dataclass(frozen=True)
class TextSpec(Spec):
    """Texts, as a network gets them.

    unit: what they are written in, one of UNITS. tokens: the vocabulary, the place of a token
      being its id; none for subwords. subwords: the subwords, as `Subwords.content`.
    longest: number of tokens of the longest text; 0 where texts have no common length.
    lower: whether texts are read in lower case.

    Raises ValueError for what is no vocabulary of this unit, and UserError where the library of
    subwords is missing.
    """

    unit: str
    tokens: tuple[str, ...] = field(default=(), repr=False)
    subwords: str = field(default="", repr=False)
    longest: int = 0
    lower: bool = False

    def __post_init__(self):
        if self.unit not in UNITS:
            raise ValueError(f"its unit is {self.unit!r}; expected one of {', '.join(UNITS)}")
        if not 0 <= self.longest <= LONGEST:
            raise ValueError(
                f"its longest text has {self.longest} tokens; at most {LONGEST} can be"
            )
        if bool(self.tokens) == (self.unit == "subwords"):
            raise ValueError(f"its tokens are none of {self.unit}")
        _ = self.vocabulary

    @classmethod
    def of(
        cls,
        unit: str,
        texts: Iterable[str],
        least: int = 1,
        size: int = 2000,
        longest: int = 0,
        lower: bool = False,
    ) -> Self:
        """The spec of these texts. least: number of times that a word must occur to be known. size:
        number of subwords, where they are the unit. Raises UserError for texts of which no
        vocabulary can be made."""
        parts = (_split(unit, text, lower) for text in texts)
        try:
            if unit == "subwords":
                subwords = Subwords.train((text for (text,) in parts), size).content
                return cls(unit, (), subwords, longest, lower)
            if unit == "characters":
                return cls(unit, Vocabulary.of_characters(parts).tokens, "", longest, lower)
            return cls(unit, Vocabulary.of_words(parts, least).tokens, "", longest, lower)
        except ValueError as error:
            raise UserError(
                f"no vocabulary of {unit} can be made of these texts: {error}"
            ) from None

    @functools.cached_property
    def vocabulary(self) -> Vocabulary | Subwords:
        """The tokens and their ids."""
        return Subwords(self.subwords) if self.unit == "subwords" else Vocabulary(self.tokens)

    @property
    def lossless(self) -> bool:
        """Whether a text can be had back from its tokens."""
        return self.unit in ("characters", "subwords") and not self.lower

    def __len__(self) -> int:
        return len(self.vocabulary)

    def split(self, text: str) -> list[str]:
        """The tokens of a text, known or not; of subwords, the text itself."""
        return _split(self.unit, text, self.lower)

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int32 of a text, however long it is."""
        parts, vocabulary = self.split(text), self.vocabulary
        if isinstance(vocabulary, Subwords):
            return vocabulary.encode(parts[0])
        return vocabulary.encode(parts)

    def framed(self, text: str) -> np.ndarray:
        """Ids (T + 2,) int32 of a text, cut to `longest`, between the beginning and the end."""
        return np.r_[BEGIN, self.encode(text)[: self.longest or None], END].astype(np.int32)

    def padded(self, texts: Sequence[str]) -> Padded:
        """Ids (N, longest) of texts; longer ones are cut."""
        return pad([self.encode(text) for text in texts], self.longest)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids (T,), to the end, to be read."""
        found = self.vocabulary.decode(ids)
        return found if isinstance(found, str) else self._joined(found)

    def spelled(self, text: str) -> list[str]:
        """The tokens of a text, known or not, one by one, to be shown."""
        return self.pieces(self.encode(text)) if self.unit == "subwords" else self.split(text)

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The tokens of ids (T,), to the end, one by one, to be shown; of a subword that is a part
        of a character, U+FFFD."""
        known = _known(ids, len(self), until_eos=True)
        return ["".join(self.vocabulary.decode([number], until_eos=False)) for number in known]

    def normalized(self, text: str) -> str:
        """The text as `decode` gives it where all of its tokens are known."""
        return self._joined(self.split(text))

    def encode_lines(self, text: str) -> np.ndarray:
        """Ids (N,) int32 of a long text. Where a text cannot be had back from its tokens, each line
        that has some closes with `END`."""
        if self.lossless:
            return self.encode(text)
        lines = filter(len, map(self.encode, text.split("\n")))
        return np.array([number for line in lines for number in (*line, END)], np.int32)

    def decode_lines(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of what `encode_lines` gave, specials spelled out."""
        found = self.vocabulary.decode(ids, until_eos=False)
        if isinstance(found, str) or self.lossless:
            return "".join(found)
        text, line = "", []
        for token, number in zip(found, np.asarray(ids).tolist(), strict=True):
            if number == END:
                text, line = text + self._joined(line) + "\n", []
            else:
                line.append(token)
        return text + self._joined(line)

    def unknown(self, text: str) -> list[str]:
        """Those tokens of a text that are not known, each once."""
        return self.vocabulary.unknown(self.split(text))

    def notes(self, texts: Iterable[str]) -> list[str]:
        """What a network does not read of texts, a line for each reason and text."""
        found = []
        for text in texts:
            if unknown := self.unknown(text):
                found.append(f"not known, and read as {SPECIALS[UNKNOWN]}: {', '.join(unknown)}")
            if 0 < self.longest < (length := len(self.encode(text))):
                found.append(f"{text[:40]!r} has {length} tokens; only {self.longest} are read")
        return found

    def _joined(self, tokens: Sequence[str]) -> str:
        if self.unit == "words":
            return join(tokens)
        return ("" if self.unit == "characters" else " ").join(tokens)


def _split(unit: str, text: str, lower: bool) -> list[str]:
    if unit == "words":
        return words(text, lower)
    text = text.lower() if lower else text
    match unit:
        case "captions":
            return tokenize(text)
        case "spaces":
            return text.split()
        case "characters":
            return list(text)
    return [text]

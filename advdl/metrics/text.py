"""How near generated text is to what people wrote: captions with several references each,
translations, transcriptions.

BLEU, ROUGE-L and CIDEr-D are those of the COCO caption server (Chen et al. 2015, arXiv:1504.00325),
computed on the host in Python: the figures of captioning papers, given tokens of that server. They
are of a whole corpus; no mean over batches is one. A translation's BLEU is another (`corpus_bleu`,
0 to 100, with a signature), and the two are not to be compared.

A caption is a sequence of tokens here; candidates are one caption for each image, references one or
more.
"""

import bz2
import importlib
import lzma
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from advdl.captions import tokenize
from advdl.errors import UserError

Tokens = Sequence[str]

_LONGEST = 4  # n-grams of BLEU and CIDEr-D


def bleu(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of a corpus, 0 to 1 (Papineni et al. 2002, sections 2.1 to 2.3).

    BLEU-n is the geometric mean of the precisions of 1- to n-grams, each count clipped at its
    largest in one reference, times the brevity penalty exp(1 - r / c) where c < r. All counts are
    sums over the corpus; r sums, for each candidate, the length of the reference nearest to its own
    (of two as near, the shorter). As on the COCO caption server 1e-15 is added to each numerator
    and 1e-9 to each denominator, so that nothing is divided by 0: a perfect match is 1 to eight
    digits, and BLEU-4 of a corpus without four words in a row is next to 0.

    Raises ValueError for different numbers of candidates and references, for none, and for an image
    without references.
    """
    _check(candidates, references)
    matched, possible = [0] * _LONGEST, [0] * _LONGEST
    c = r = 0
    for candidate, own in zip(candidates, references, strict=True):
        c += len(candidate)
        r += min(
            (len(reference) for reference in own),
            key=lambda length: (abs(length - len(candidate)), length),
        )
        for n in range(1, _LONGEST + 1):
            counts, most = _ngrams(candidate, n), Counter()
            for reference in own:
                most |= _ngrams(reference, n)  # the larger count of each
            matched[n - 1] += (counts & most).total()
            possible[n - 1] += counts.total()
    ratio = (c + 1e-15) / (r + 1e-9)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    found, product = [], 1.0
    for n in range(1, _LONGEST + 1):
        product *= (matched[n - 1] + 1e-15) / (possible[n - 1] + 1e-9)
        found.append(penalty * product ** (1 / n))
    return tuple(found)


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """ROUGE-L, 0 to 1: the mean over images of (1 + β²) P R / (R + β² P) with β = 1.2 (Lin 2004,
    section 3.1).

    P and R are the length of the longest common subsequence of a candidate and a reference over the
    length of the one and of the other. As on the COCO caption server, P and R are each the largest
    over references, not of one reference; 0 where nothing is common. Raises ValueError as `bleu`.
    """
    _check(candidates, references)
    total, square = 0.0, 1.2**2
    for candidate, own in zip(candidates, references, strict=True):
        common = [_common_subsequence(candidate, reference) for reference in own]
        if any(common):
            precision = max(common) / len(candidate)
            recall = max(
                length / len(reference)
                for length, reference in zip(common, own, strict=True)
                if length
            )
            total += (1 + square) * precision * recall / (recall + square * precision)
    return total / len(candidates)


def cider_d(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], sigma: float = 6.0
) -> float:
    """CIDEr-D, 0 to 10, the mean over images (Vedantam et al. 2015, arXiv:1411.5726: CIDEr made
    safe against gaming).

    An n-gram weighs its count times log(images / images in whose references it is). A candidate and
    a reference have, for each n from 1 to 4, the cosine of their weights, the candidate's clipped
    at the reference's in the product; its mean over n and over the image's references, times 10
    exp(-Δ² / 2 sigma²) for captions whose lengths differ by Δ. The weight takes the count itself,
    as the COCO caption server does, where the paper divides it by the caption's length; that
    matters to clipping.

    The document frequency is of the references given: a figure depends on which images are in the
    corpus, n-grams of every image count for nothing, and **with one image it is 0**. It is 10 only
    where all references of an image are alike, and have four words. Raises ValueError as `bleu`,
    and where sigma is not positive.
    """
    _check(candidates, references)
    if not sigma > 0:
        raise ValueError(f"sigma of {sigma}; expected a positive number")
    images = len(references)
    seen = Counter()
    for own in references:
        seen.update(
            {
                gram
                for reference in own
                for n in range(1, _LONGEST + 1)
                for gram in _ngrams(reference, n)
            }
        )
    rarity = {gram: math.log(images / count) for gram, count in seen.items()}

    def weigh(tokens: Tokens) -> tuple[list[dict[Tokens, float]], list[float]]:
        """Weight of each n-gram, by n, and their norms; n-grams of no reference are as rare as
        those of one image."""
        weights = [
            {
                gram: count * rarity.get(gram, math.log(images))
                for gram, count in _ngrams(tokens, n).items()
            }
            for n in range(1, _LONGEST + 1)
        ]
        return weights, [math.hypot(*weight.values()) for weight in weights]

    total = 0.0
    for candidate, own in zip(candidates, references, strict=True):
        mine, norms = weigh(candidate)
        for reference in own:
            theirs, their_norms = weigh(reference)
            near = 0.0
            for a, b, norm, their_norm in zip(mine, theirs, norms, their_norms, strict=True):
                if norm and their_norm:
                    product = sum(
                        min(weight, b[gram]) * b[gram] for gram, weight in a.items() if gram in b
                    )
                    near += product / (norm * their_norm)
            apart = len(candidate) - len(reference)
            total += near / _LONGEST * math.exp(-(apart**2) / (2 * sigma**2)) / len(own)
    return 10 * total / images


def caption_figures(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and the share that equals a reference, of captions as
    text, one for each image, with its references, by `tokenize`. Of a single image there is no
    CIDEr-D, which would be 0 whatever the caption.

    Raises ValueError for different numbers of candidates and references, for none, and for an image
    without references.
    """
    _check(candidates, references)
    mine = [tokenize(caption) for caption in candidates]
    theirs = [[tokenize(caption) for caption in own] for own in references]
    found = {f"bleu_{n}": value for n, value in enumerate(bleu(mine, theirs), 1)}
    found["rouge_l"] = rouge_l(mine, theirs)
    if len(mine) > 1:
        found["cider_d"] = cider_d(mine, theirs)
    right = sum(own in several for own, several in zip(mine, theirs, strict=True))
    return found | {"exact_match": right / len(mine)}


def corpus_bleu(candidates: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """BLEU of translations as text, 0 to 100, with one reference each, and the signature to print
    with it (Post 2018, arXiv:1804.08771); sacrebleu's default: its tokenizer 13a, cased, precisions
    of 0 smoothed.

    The text is to be plain, not tokenized. Raises UserError where sacrebleu is missing, ValueError
    for different numbers of candidates and references, and for none.
    """
    return _sacrebleu("BLEU", candidates, references)


def corpus_chrf(candidates: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """chrF of translations as text, 0 to 100, with one reference each, and its signature: the
    F-score, β = 2, of the mean precision and recall of n-grams of 1 to 6 characters without spaces,
    counted over the whole corpus (Popović 2015); sacrebleu's default.

    Of the inflected words of a language it sees the common stem, where BLEU sees two words. Raises
    as `corpus_bleu`.
    """
    return _sacrebleu("chrF", candidates, references)


def _sacrebleu(
    name: str, candidates: Sequence[str], references: Sequence[str]
) -> tuple[float, str]:
    """A corpus score by sacrebleu, with its defaults, and its signature."""
    _check(candidates, references, several=False)
    try:
        module = importlib.import_module(f"sacrebleu.metrics.{name.lower()}")
    except ImportError:
        raise UserError(
            f"{name} of translations needs sacrebleu: pip install 'advdl[text]'"
        ) from None
    metric = getattr(module, name.upper())()
    score = metric.corpus_score(list(candidates), [list(references)]).score
    return float(score), str(metric.get_signature())


def constant_answer(known: Iterable[str], score: Callable[[str], float], most: int = 50) -> str:
    """The commonest of these texts, a trivial answer to everything. Of those that are equally
    common, `most` at even distances are tried, and the one of the highest score is taken: where no
    text occurs twice, the first one is merely the first."""
    counts = Counter(known)
    largest = max(counts.values())
    often = [text for text, count in counts.items() if count == largest]
    tried = [often[number] for number in sorted({n * len(often) // most for n in range(most)})]
    return max(tried, key=score) if len(tried) > 1 else tried[0]


def exact_match(candidates: Sequence[str], references: Sequence[str]) -> float:
    """Share of candidates that equal their reference. Raises ValueError as `corpus_bleu`."""
    _check(candidates, references, several=False)
    return sum(map(str.__eq__, candidates, references)) / len(candidates)


def word_error_rate(references: Sequence[str], candidates: Sequence[str]) -> float:
    """Substitutions, deletions and insertions over the words of the references, of a whole corpus
    (jiwer); 1 for candidates without words, more than 1 where there are many insertions. Words are
    what white space parts, as they are: change case and punctuation before.

    An empty reference is allowed, and each word of its candidate is an insertion. Raises UserError
    where jiwer is missing, ValueError for different numbers of references and candidates, for none,
    and where no reference has a word.
    """
    _check(candidates, references, several=False)
    pairs = [
        (" ".join(a.split()), " ".join(b.split()))
        for a, b in zip(references, candidates, strict=True)
    ]
    words = sum(len(reference.split()) for reference, _ in pairs)
    if not words:
        raise ValueError("no reference has a word")
    try:
        import jiwer
    except ImportError:
        raise UserError("the word error rate needs jiwer: pip install 'advdl[text]'") from None
    inserted = sum(len(candidate.split()) for reference, candidate in pairs if not reference)
    spoken = [pair for pair in pairs if pair[0]]
    found = jiwer.process_words(
        [reference for reference, _ in spoken], [candidate for _, candidate in spoken]
    )
    return (found.substitutions + found.deletions + found.insertions + inserted) / words


def counted_nats(known: np.ndarray, wanted: np.ndarray, size: int) -> dict[str, float]:
    """Nats per token of a text (N,) by how often each of `size` tokens occurs in a known text, and
    by how often it does after the token before it (Witten & Bell 1991)."""
    single = (np.bincount(known, minlength=size) + 1.0) / (len(known) + size)
    pairs = np.zeros((size, size), np.float32)
    np.add.at(pairs, (known[:-1], known[1:]), 1)
    kinds, seen = (pairs > 0).sum(1), pairs.sum(1)
    before, after = wanted[:-1], wanted[1:]
    weight = kinds[before] / np.maximum(kinds[before] + seen[before], 1)  # of the single one
    of_pair = pairs[before, after] / np.maximum(seen[before], 1)
    p = np.where(seen[before] > 0, (1 - weight) * of_pair + weight * single[after], single[after])
    return {
        "counts of single tokens": float(-np.log(single[after]).mean()),
        "counts of pairs": float(-np.log(p).mean()),
    }


def compressed_bits(known: str, wanted: str) -> dict[str, float]:
    """Bits per character of a text by compressors that have seen another."""
    found = {}
    for name, pack in (("bz2", bz2.compress), ("lzma", lzma.compress)):
        extra = len(pack((known + wanted).encode())) - len(pack(known.encode()))
        found[name] = 8 * extra / len(wanted)
    return found


def place_features(text: str) -> dict[str, np.ndarray]:
    """(N,) each, of every place of a text, up to and with its character: the column, whether a
    quotation is open, whether the line is indented."""
    column, quoted, indented = np.zeros(len(text)), np.zeros(len(text)), np.zeros(len(text))
    at = opened = inside = 0
    for place, character in enumerate(text):
        at = 0 if character == "\n" else at + 1
        inside = 0 if character == "\n" else (character == " " if at == 1 else inside)
        opened = 0 if character == "\n" else opened ^ (character == '"')
        column[place], quoted[place], indented[place] = at, opened, inside
    return {
        "the place in the line": column,
        "an open quotation": quoted,
        "an indented line": indented,
    }


def _ngrams(tokens: Tokens, n: int) -> Counter:
    """How often each n-gram, a tuple, is among the tokens."""
    return Counter(tuple(tokens[first : first + n]) for first in range(len(tokens) - n + 1))


def _common_subsequence(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence, row by row of its table."""
    above = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for column, y in enumerate(b):
            row.append(above[column] + 1 if x == y else max(above[column + 1], row[column]))
        above = row
    return above[-1]


def _check(candidates: Sequence, references: Sequence, several: bool = True) -> None:
    for name, texts in (("candidates", candidates), ("references", references)):
        if isinstance(texts, str):
            raise ValueError(f"{name} are one string; expected a sequence")
    if len(candidates) != len(references):
        raise ValueError(
            f"{len(candidates)} candidates and {len(references)} references; expected one for each"
        )
    if not len(candidates):
        raise ValueError("no candidates")
    if several:
        for index, own in enumerate(references):
            if isinstance(own, str):
                raise ValueError(
                    f"the references of image {index} are one string; expected a sequence"
                )
            if not len(own):
                raise ValueError(f"image {index} has no references")

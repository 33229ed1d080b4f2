"""Texts of classes: from files, from folders, from tensorflow-datasets, and opinions made to
order."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from advdl.data.sequences import BucketBatches, BucketEvalBatches, boundaries
from advdl.data.spec import Spec
from advdl.data.text import read_lines
from advdl.data.tfds import Records, features_of, labels, prepared
from advdl.data.vocabulary import TextSpec
from advdl.errors import UserError, nearest
from advdl.reading import expand, files, folders, is_folder

PARTS = {"train": "train", "val": "validation", "test": "test"}
"""What the parts are called in folders and prepared sets."""


class LabeledTexts(NamedTuple):
    """texts: N of them. label: (N,) int32."""

    texts: tuple[str, ...]
    label: np.ndarray


@dataclass(frozen=True)
class SentenceSpec(Spec):
    """Texts of classes, as a network gets them; longer ones than `text.longest` are cut.

    label_names: one for each class. Raises ValueError for fewer than two.
    """

    text: TextSpec
    label_names: tuple[str, ...]

    def __post_init__(self):
        if len(self.label_names) < 2:
            raise ValueError("it names no two classes")

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int32 of the words that are read of a text."""
        return self.text.encode(text)[: self.text.longest]


class EncodedTexts(dict[str, Any]):
    """Ids of texts and their labels by column, as `BucketBatches` takes them: `token` and `label`.
    texts: as they were written."""

    def __init__(self, spec: SentenceSpec, part: LabeledTexts):
        self.texts = part
        super().__init__(token=list(map(spec.encode, part.texts)), label=part.label)


class TextSplits(NamedTuple):
    """Three sets of texts that have none in common but where the data's own splits do; label_names:
    one a class; blank: how many lines without text were passed over."""

    label_names: tuple[str, ...]
    train: LabeledTexts
    val: LabeledTexts
    test: LabeledTexts
    blank: int = 0

    def fewer(self, count: int, seed: int = 0) -> Self:
        """The same with `count` training texts, drawn by the seed: those for a smaller count are
        among them. Raises UserError for more than there are, and where a class would have none."""
        texts, label = self.train
        if count > len(texts):
            raise UserError(f"there are {len(texts)} texts to train on, fewer than {count}")
        order = np.random.default_rng([seed, 0x66657772]).permutation(len(texts))
        rows = np.sort(order[:count])
        if len(np.unique(label[rows])) < len(self.label_names):
            raise UserError(f"{count} texts to train on leave a class without any; take more")
        return self._replace(train=LabeledTexts(tuple(texts[row] for row in rows), label[rows]))

    def spec(self, least: int, longest: int) -> SentenceSpec:
        """What a network must know of them, in words in lower case. least: number of times that a
        word must occur in the training part to be known. longest: number of words that are read of
        a text."""
        text = TextSpec.of("words", self.train.texts, least, longest=longest, lower=True)
        return SentenceSpec(text, self.label_names)

    def batches(
        self, part: str, spec: SentenceSpec, buckets: int, batch: int, seed: int = 0
    ) -> BucketBatches | BucketEvalBatches:
        """Batches of a part, in so many buckets of lengths: endless ones of `train`. Raises
        UserError where the spec is of other classes."""
        if spec.label_names != self.label_names:
            names = ", ".join(self.label_names[:5])
            raise UserError(f"the run's classes are {', '.join(spec.label_names[:5])}, not {names}")
        columns = {name: EncodedTexts(spec, getattr(self, name)) for name in {"train", part}}
        lengths = [len(ids) for ids in columns["train"]["token"]]
        ends = {"token": boundaries(lengths, buckets, spec.text.longest)}
        if part == "train":
            return BucketBatches(columns[part], ends, batch, seed)
        return BucketEvalBatches(columns[part], ends, batch)

    def summary(self, spec: SentenceSpec) -> str:
        """How many texts there are, how long they are, and what is not read of them."""
        parts = {name: getattr(self, name).texts for name in PARTS}
        lengths = [len(spec.text.split(text)) for texts in parts.values() for text in texts]
        cut = sum(length > spec.text.longest for length in lengths)
        counts = ", ".join(f"{name} {len(texts)}" for name, texts in parts.items())
        blank = f"; {self.blank} blank lines passed over" if self.blank else ""
        return (
            f"{len(lengths)} texts ({counts}) of up to {max(lengths)} words, {cut} cut to"
            f" {spec.text.longest}; {len(spec.text)} words are known{blank}"
        )


def open_sentences(spec: str, data_dir: str | None = None, seed: int = 0) -> TextSplits:
    """The texts that a person named.

    spec: `opinions`; `folder:PATH` with files PATH/CLASS.txt of one text a line, or with
    PATH/train/CLASS/*.txt of one text a file and, if it likes, PATH/validation and PATH/test;
    `tfds:NAME` with `text` (or `sentence`) and `label`. What has no test or validation part of its
    own gets a tenth of the distinct texts each, chosen by the seed.

    Raises UserError for what is not there or cannot be read, for fewer than two classes, and for
    classes without texts.
    """
    kind, _, rest = spec.partition(":")
    blank = 0
    if spec == "opinions":
        names, parts = ("negative", "positive"), {"train": opinions(6000)}
    elif kind == "folder" and rest:
        names, parts, blank = _folder(expand(rest))
    elif kind == "tfds" and rest:
        names, parts = _tfds(rest, data_dir)
    else:
        known = ["opinions", "folder:PATH", "tfds:NAME"]
        raise UserError(
            f"no sentences {spec!r}; there are {', '.join(known)}{nearest(spec, known)}"
        )
    if len(names) < 2:
        raise UserError(
            f"{spec} has the class {', '.join(names) or 'of nothing'} alone; expected two or more"
        )
    texts, ways = parts.pop("train"), 10
    for number, part in enumerate(("test", "val")):
        if part not in parts:
            texts, parts[part] = _tenth(texts, [seed, number], ways)
            ways -= 1  # the rest is nine tenths
    found = TextSplits(names, texts, parts["val"], parts["test"], blank)
    for part in PARTS:
        counts = np.bincount(getattr(found, part).label, minlength=len(names))
        if not counts.sum() or (part == "train" and not counts.all()):
            missing = names[int(counts.argmin())] if counts.sum() else "any class"
            raise UserError(
                f"{spec} has too few texts: none of {missing} in the part for {part}; expected some"
                " tens of each"
            )
    return found


def _tenth(
    texts: LabeledTexts, seed: Sequence[int], ways: int
) -> tuple[LabeledTexts, LabeledTexts]:
    """(the rest, a part of so many): equal texts stay together."""
    distinct = list(dict.fromkeys(texts.texts))
    chosen = np.random.default_rng([*seed, 0x73656E74]).permutation(len(distinct))[
        : round(len(distinct) / ways)
    ]
    taken = {distinct[number] for number in chosen}
    inside = np.array([text in taken for text in texts.texts], bool)

    def those(side):
        kept = tuple(text for text, keep in zip(texts.texts, side, strict=True) if keep)
        return LabeledTexts(kept, texts.label[side])

    return those(~inside), those(inside)


def _folder(root: pathlib.Path) -> tuple[tuple[str, ...], dict[str, LabeledTexts], int]:
    if not is_folder(root):
        raise UserError(
            f"no folder {root}; expected {root}/CLASS.txt of one sentence a line, or"
            f" {root}/train/CLASS/*.txt"
        )
    if is_folder(root / "train"):
        return _splits(root)
    if not (found := files(root, [".txt"])):
        raise UserError(
            f"{root} has no .txt files; expected {root}/CLASS.txt of one sentence a line, or"
            f" {root}/train/CLASS/*.txt"
        )
    lines = [read_lines(file) for file in found]
    kept = [[line.strip() for line in inside if line.strip()] for inside in lines]
    blank = sum(map(len, lines)) - sum(map(len, kept))
    return tuple(pathlib.Path(file).stem for file in found), {"train": _texts(kept)}, blank


def _splits(root: pathlib.Path) -> tuple[tuple[str, ...], dict[str, LabeledTexts], int]:
    names, parts = None, {}
    for part, folder in ((part, root / name) for part, name in PARTS.items()):
        if not is_folder(folder):
            continue
        places = folders(folder)
        own = tuple(p.name for p in places)
        if names is not None and own != names:
            only = sorted(set(own) ^ set(names))
            raise UserError(
                f"{folder} has other classes than {root / 'train'}: {', '.join(only[:5])}; move"
                " them away"
            )
        names = own
        inside = [files(place, [".txt"]) for place in places]
        for place, found in zip(places, inside, strict=True):
            if not found:
                raise UserError(f"class folder {place} has no .txt files; fill or remove it")
        parts[part] = _texts(
            [[" ".join(" ".join(read_lines(file)).split()) for file in found] for found in inside]
        )
    return names or (), parts, 0


def _texts(of_classes: Sequence[Sequence[str]]) -> LabeledTexts:
    label = np.repeat(
        np.arange(len(of_classes), dtype=np.int32), [len(inside) for inside in of_classes]
    )
    return LabeledTexts(tuple(text for inside in of_classes for text in inside), label)


def _tfds(name: str, data_dir: str | None) -> tuple[tuple[str, ...], dict[str, LabeledTexts]]:
    builder = prepared(name, "train", data_dir)
    features = features_of(builder, name)
    key = next((key for key in ("text", "sentence") if key in features), None)
    if key is None or not getattr(features.get("label"), "names", None):
        raise UserError(f"tfds:{name} has {', '.join(features)}; text and label are needed")
    parts = {}
    for part, own in PARTS.items():
        if own not in builder.info.splits:
            continue
        records = Records(builder, name, own)
        rows = records.read(range(len(records)))
        label = labels(rows, len(features["label"].names), f"tfds:{name} {own}")
        if (label >= 0).all():  # a hidden test part has -1
            texts = (
                row[key].decode() if isinstance(row[key], bytes) else str(row[key]) for row in rows
            )
            parts[part] = LabeledTexts(tuple(texts), label)
    return tuple(features["label"].names), parts


GOOD = [
    "good",
    "great",
    "funny",
    "clever",
    "moving",
    "charming",
    "fresh",
    "lively",
    "witty",
    "honest",
    "gripping",
    "brilliant",
    "warm",
    "subtle",
    "elegant",
    "tender",
]
BAD = [
    "bad",
    "awful",
    "dull",
    "clumsy",
    "boring",
    "lifeless",
    "stale",
    "tedious",
    "silly",
    "false",
    "shallow",
    "dreadful",
    "cold",
    "crude",
    "ugly",
    "tiresome",
]
NEGATIONS = ("not", "never", "hardly", "by no means", "far from")
NOUNS = [
    "film",
    "plot",
    "story",
    "acting",
    "script",
    "music",
    "ending",
    "dialogue",
    "cast",
    "direction",
    "comedy",
    "thriller",
]
DEGREES = ("", "", "very", "really", "entirely")


def opinions(count: int, seed: int = 0) -> LabeledTexts:
    """Sentences on films by a known rule, label 1 for those in favor.

    An opinion is an adjective, half of the time behind a negation that turns it over ("not a very
    good film", "the plot is hardly boring"). A sentence is an opinion, or two that contradict each
    other: the one after "but", or that which "although" does not stand before, decides. Whatever is
    said by one sentence is said with the same words, in another order, by one of the other label
    that is as probable; but for single opinions, of which half are negated, whatever the adjective.
    So no sum of words' weights does better than chance.
    """
    rng = np.random.default_rng([seed, 0x6F70696E])

    def pick(options):
        return options[rng.integers(len(options))]

    def opinion(favor: bool) -> str:
        negated = bool(rng.integers(2))
        adjective, noun = pick(GOOD if favor != negated else BAD), pick(NOUNS)
        described = f"{pick(DEGREES)} {adjective}"
        negation = pick(NEGATIONS) if negated else ""
        said = (
            f"the {noun} is {negation} {described}"
            if rng.integers(2)
            else f"{negation} a {described} {noun}"
        )
        return " ".join(said.split())

    texts, label = [], rng.integers(0, 2, count).astype(np.int32)
    for favor in label:
        decides, other = opinion(bool(favor)), opinion(not favor)
        forms = (
            decides,
            f"{other} , but {decides}",
            f"although {other} , {decides}",
            f"{decides} , although {other}",
        )
        texts.append(pick(forms))
    return LabeledTexts(tuple(texts), label)

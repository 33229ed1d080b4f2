"""What networks write: translations, captions and texts, scored beside trivial answers and drawn.

A learner that translates or captions has the functions of `models.decoding.Search`, `write` and
`attend`. Axes: N examples, T tokens that are written, S places that are looked at.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advdl import data, metrics, present, train
from advdl.errors import UserError
from advdl.reading import standard_input
from advdl.reports.trained import Trained, given_files, learning_section

LOOKS = """Test sentences, drawn at random. Each row is a word that was written, dark where it \
looked while it was."""
SOME = """Some of them, drawn at random. In parentheses, where it is another, a caption that the \
image has."""
BRIGHT = """Bright is where it looked for the word below, by the word's own largest weight."""


@dataclass(frozen=True)
class TranslationReport:
    """Translations of the part `test`, greedily and by a beam, beside the source as it is and the
    commonest training sentence (of equally common ones, the best on `val`); and where attention
    looked.

    attention: whether there is some. width: of the beam. paper: the published BLEU, and where it
    stands.
    """

    spec: data.TranslationSpec
    attention: bool = True
    width: int = 5
    paper: str = ""

    def __call__(self, trained: Trained) -> present.Page:
        learned, tested = trained.splits.train.examples, trained.splits.evaluations["test"].examples
        source, target = zip(*tested.pairs, strict=True)
        said = [self.spec.source.normalized(text) for text in source]
        normalized = self.spec.target.normalized
        wanted = [normalized(text) for text in target]
        held_out = [
            normalized(text) for _, text in trained.splits.evaluations["val"].examples.pairs
        ]
        often = metrics.constant_answer(
            (normalized(text) for _, text in learned.pairs),
            lambda text: metrics.corpus_bleu([text] * len(held_out), held_out)[0],
        )
        title, ids = f"beam of {self.width}", self.write(trained, source, self.width)
        answers = {
            "greedy": self.texts(self.write(trained, source, 1)),
            title: self.texts(ids),
            "the source as it is": said,
            "the commonest sentence": [often] * len(said),
        }
        found, signatures = {}, {}
        for name, texts in answers.items():
            bleu, signatures["BLEU"] = metrics.corpus_bleu(texts, wanted)
            chrf, signatures["chrF"] = metrics.corpus_chrf(texts, wanted)
            right = metrics.exact_match(texts, wanted)
            found[name] = {"bleu": bleu, "chrf": chrf, "exact_match": right}
        best, trivial = found[title], best_of(found, "bleu", list(found)[2:])
        sentence = (
            f"{best['exact_match']:.1%} of {len(said)} test sentences are translated to the last"
            f" word. BLEU is {best['bleu']:.1f}, and that of the best trivial answer,"
            f" {trivial}, {found[trivial]['bleu']:.1f}."
        )
        signature = ", ".join(f"{name}: {text}" for name, text in signatures.items())
        verdict = {"verdict": sentence, **found, "signature": signature}
        trained.run.write("verdict.json", verdict | {"left_out": learned.left_out})
        shown = "\n\n".join(
            f"{said[n]}\n→ {answers[title][n]}\n(wanted: {wanted[n]})"
            for n in data.selected(said, 8)
        )
        nats = {
            "training": "train/loss",
            "val, fed the given words": "val/nats_per_word_teacher_forced",
            "val, fed its own": "val/nats_per_word_free_running",
        }
        exact = {"fed its own words": "val/exact_match"}
        sections = [
            present.Section("Scores", f"On the part test. {signature}.", [], found),
            present.Section("Test sentences", shown),
            learning_section(
                trained,
                present.Panel("nats per word", nats),
                present.Panel("sentences of val that are right", exact),
            ),
        ]
        picture = present.Picture("curves.png")
        if self.attention:
            rows = data.selected(said, 6)
            self.draw(trained, [source[n] for n in rows], ids[rows], trained.folder)
            picture = present.Picture("attention.png", LOOKS)
        figures = [
            present.Figure(
                "BLEU of test sentences",
                best["bleu"],
                f"{found[trivial]['bleu']:.3g}, {trivial}",
                self.paper,
            ),
            present.Figure(
                "sentences translated to the last word",
                best["exact_match"],
                f"{found[trivial]['exact_match']:.3g}, {trivial}",
            ),
            present.Figure(
                "nats per word of val, fed the given words",
                trained.figures["val/nats_per_word_teacher_forced"],
            ),
        ]
        return present.Page(picture, figures, sentence, sections)

    def write(self, trained: Trained, sentences: Sequence[str], width: int) -> np.ndarray:
        """Ids (N, T) of translations, by a beam of this width."""
        return trained.apply("write", self.read(sentences), rows=50, width=width)

    def read(self, sentences: Sequence[str]) -> dict[str, np.ndarray]:
        """Sentences as the network reads them."""
        padded = self.spec.source.padded(sentences)
        return {"source": padded.ids, "source_length": padded.lengths}

    def texts(self, ids: np.ndarray) -> list[str]:
        """Translations of ids (N, T) as texts."""
        return [self.spec.target.decode(row) for row in ids]

    def draw(
        self, trained: Trained, sentences: Sequence[str], ids: np.ndarray, folder: pathlib.Path
    ) -> None:
        """Draws which words were looked at while each of ids (N, T) was written."""
        read = self.read(sentences)
        weights = trained.apply("attend", {**read, "token": ids}, rows=len(ids))
        pairs = []
        for text, length, row, weight in zip(
            sentences, read["source_length"], ids, weights, strict=True
        ):
            words = self.spec.source.spelled(text)[:length]
            written = [*self.spec.target.pieces(row), "."]
            pairs.append((words, written, weight[: len(written), :length]))
        present.draw_attention(pairs, folder / "attention.png")

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, str]:
        """Translations of `options.sentences`, or of lines from standard input, by a beam of
        `options.width`; and a picture of where it looked in the first few."""
        sentences = options.sentences or standard_input()
        if not sentences or not all(len(self.spec.source.encode(text)) for text in sentences):
            raise UserError("a sentence to translate is empty; give words")
        for note in self.spec.source.notes(sentences):
            train.log(note)
        ids = self.write(trained, sentences, options.width)
        if self.attention:
            self.draw(trained, sentences[:6], ids[:6], folder)
        return dict(zip(sentences, self.texts(ids), strict=True))


@dataclass(frozen=True)
class CaptionReport:
    """Captions of the part `test`, or of `val` where there is no other, greedily and by a beam,
    beside trivial captions; and where attention looked.

    The learner also has the function `features`, (N, D) of images. normalize: from uint8 images
    to what the network gets. maps: (h, w) of the maps that attention looks at, () without it.
    width: of the beam. paper: the published BLEU-4, and where it stands.
    """

    spec: data.CaptionSpec
    normalize: data.Transform
    maps: tuple[int, ...] = ()
    width: int = 3
    paper: str = ""

    def __call__(self, trained: Trained) -> present.Page:
        known, tests = trained.splits.train.source, trained.splits.evaluations
        part, beam = "test" if "test" in tests else "val", f"beam of {self.width}"
        test = tests[part].source
        images, captions = read_images(test), test.captions
        greedy, ids = (self.write(trained, images, width) for width in (1, self.width))
        written = self.texts(ids)
        found = {
            "greedy": metrics.caption_figures(self.texts(greedy), captions),
            beam: metrics.caption_figures(written, captions),
            **trivial_captions(trained.splits, part),
        }
        rows = neighbors(known)
        own, learned = (
            self.apply(trained, "features", x) for x in (images, read_images(known, rows))
        )
        near = [known.captions[row][0] for row in rows[metrics.nearest(own, learned)[0]]]
        found["the caption of the nearest training image, by features"] = metrics.caption_figures(
            near, captions
        )
        some = data.selected(known, 200)
        learned = read_images(known, some), [known.captions[row] for row in some]
        learned_ids = self.write(trained, learned[0], self.width)
        found[f"{len(some)} training images, {beam}"] = metrics.caption_figures(
            self.texts(learned_ids), learned[1]
        )
        trivial = best_of(found, "exact_match", list(found)[2:4])
        sentence = (
            f"{found[beam]['exact_match']:.1%} of {len(images)} images of {part} get one of their"
            f" captions word for word; of the best trivial captions, {trivial}, it is"
            f" {found[trivial]['exact_match']:.1%}."
        )
        trained.run.write("verdict.json", {"verdict": sentence, **found})
        right = np.array([is_among(*pair) for pair in zip(written, captions, strict=True)])
        sections = []
        for title, shown, file in (
            ("Equal to one of the image's captions", np.flatnonzero(right), "right.png"),
            ("Equal to none of the image's captions", np.flatnonzero(~right), "other.png"),
        ):
            if len(shown):
                own = [(written[n], captions[n]) for n in shown]
                draw_captioned(images[shown], own, trained.folder / file)
                title = f"{title}: {len(shown)} of {len(right)}"
                sections.append(present.Section(title, SOME, [file]))
        own = list(zip(self.texts(learned_ids), learned[1], strict=True))
        draw_captioned(learned[0], own, trained.folder / "learned.png")
        sections.append(present.Section("Training images", SOME, ["learned.png"]))
        picture = present.Picture(sections[0].pictures[0], sections[0].title)
        if self.maps:
            picture = present.Picture("looks.png", f"Images of {part}. {BRIGHT}")
            rows = data.selected(len(images), 6)
            self.draw(trained, images[rows], ids[rows], trained.folder / "looks.png")
            rows = data.selected(len(some), 6)
            file = trained.folder / "looks_learned.png"
            self.draw(trained, learned[0][rows], learned_ids[rows], file)
            sections.append(
                present.Section("Where it looks in training images", BRIGHT, ["looks_learned.png"])
            )
        counts = {
            name: {"images": len(source), "captions": sum(map(len, source.captions))}
            for name, source in {"train": known, **{k: v.source for k, v in tests.items()}}.items()
        }
        about = (
            f"{len(self.spec.text) - len(data.SPECIALS)} words are known. Of {known.cut} training"
            f" captions, which are longer, {self.spec.text.longest} words are read."
        )
        nats = {"training": "train/nats_per_word", "val": "val/nats_per_word"}
        exact = {"greedily": "val/exact_match"}
        sections += [
            present.Section("Scores", f"On {part}.", [], found),
            present.Section("Data", about, [], counts),
            learning_section(
                trained,
                present.Panel("nats per word", nats, log=True),
                present.Panel("captions of val that are right", exact),
            ),
        ]
        figures = [
            present.Figure(
                label, found[beam][name], f"{found[trivial][name]:.3g}, {trivial}", paper
            )
            for label, name, paper in (
                ("captions equal to one of the image's", "exact_match", ""),
                ("BLEU-4", "bleu_4", self.paper),
                ("ROUGE-L", "rouge_l", ""),
            )
        ]
        return present.Page(picture, figures, sentence, sections)

    def baselines(self, splits: data.Splits) -> dict[str, dict[str, float]]:
        """Scores of captions of `val` that need no network."""
        return trivial_captions(splits, "val")

    def apply(self, trained: Trained, name: str, images: np.ndarray, **settings: Any) -> np.ndarray:
        """A function of the learner, of images (N, H, W, C) uint8, a thousand at a time."""
        parts = [images[first : first + 1000] for first in range(0, len(images), 1000)]
        rows = min(50, len(images))
        return np.concatenate(
            [trained.apply(name, self.normalize({"image": x}), rows, **settings) for x in parts]
        )

    def write(self, trained: Trained, images: np.ndarray, width: int) -> np.ndarray:
        """Ids (N, T) of captions, by a beam of this width."""
        return self.apply(trained, "write", images, width=width)

    def texts(self, ids: np.ndarray) -> list[str]:
        """Captions of ids (N, T) as texts."""
        return [self.spec.text.decode(row) for row in ids]

    def draw(
        self, trained: Trained, images: np.ndarray, ids: np.ndarray, path: pathlib.Path
    ) -> None:
        """Draws where in each image it looked for each word."""
        inputs = self.normalize({"image": images}) | {"token": ids}
        weights = trained.apply("attend", inputs, len(ids))
        sentences = [self.spec.text.vocabulary.decode(row) for row in ids]
        maps = [
            own[: len(words)].reshape(-1, *self.maps)
            for own, words in zip(weights, sentences, strict=True)
        ]
        present.draw_looks(images, sentences, maps, path)

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, str]:
        """The caption of each of `options.files`, by a beam of `options.width`; with attention also
        a picture of where it looked for each word."""
        files = given_files(options.files, "images")
        images = np.stack([data.decode(path, self.spec.shape) for path in files])
        ids = self.write(trained, images, options.width)
        if self.maps:
            for path, image, row in zip(options.files, images, ids, strict=True):
                self.draw(trained, image[None], row[None], folder / f"{path.stem}_looks.png")
            train.log(f"where it looked: {folder}/*_looks.png")
        return dict(zip(map(str, options.files), self.texts(ids), strict=True))


def read_images(source: data.CaptionSource, rows: np.ndarray | None = None) -> np.ndarray:
    """These images of a source (all: None), uint8 (N, H, W, C)."""
    images = source.images
    return images.read(np.arange(len(images)) if rows is None else rows)["image"]


def neighbors(source: data.CaptionSource) -> np.ndarray:
    """Rows of training images among which the nearest one is sought; where there are many, some
    drawn at random, 128 MiB of them."""
    return data.selected(len(source), 2**27 // math.prod(source.image_shape))


def trivial_captions(splits: data.Splits, part: str) -> dict[str, dict[str, float]]:
    """Scores of captions of a part that need no network: the commonest one (of equally common ones,
    the best on `val`), that of the nearest image; and of a person's, where there are several."""
    source, test = splits.train.source, splits.evaluations[part].source
    known, captions = source.captions, test.captions
    said = [list(map(metrics.tokenize, own)) for own in splits.evaluations["val"].source.captions]
    often = metrics.constant_answer(
        (caption for own in known for caption in own),
        lambda text: metrics.rouge_l([metrics.tokenize(text)] * len(said), said),
    )
    rows = neighbors(source)
    near = rows[metrics.nearest(read_images(test), read_images(source, rows))[0]]
    found = {
        "the commonest caption": metrics.caption_figures([often] * len(captions), captions),
        "the caption of the nearest training image, by pixels": metrics.caption_figures(
            [known[row][0] for row in near], captions
        ),
    }
    if (people := min(map(len, captions))) > 1:  # each in turn is held against the others
        each = [
            metrics.caption_figures(
                [own[n] for own in captions], [[*own[:n], *own[n + 1 :]] for own in captions]
            )
            for n in range(people)
        ]
        found["a person against the others"] = {
            name: float(np.mean([one[name] for one in each])) for name in each[0]
        }
    return found


def is_among(written: str, captions: Sequence[str]) -> bool:
    """Whether a caption is one of these, word for word."""
    return metrics.tokenize(written) in map(metrics.tokenize, captions)


def draw_captioned(
    images: np.ndarray, captions: Sequence[tuple[str, Sequence[str]]], path: pathlib.Path
) -> None:
    """Draws 18 of these images, chosen at random, above what was written, and in parentheses, where
    it is none of an image's captions, one of these."""
    shown = data.selected(len(images), 18)
    below = [
        written if is_among(written, own) else f"{written} ({own[0]})"
        for written, own in (captions[n] for n in shown)
    ]
    scale = max(1, 192 // max(images.shape[1:3]))
    present.draw_grid(images[shown], path, columns=6, scale=scale, captions=below)


def best_of(found: Mapping[str, Mapping[str, float]], metric: str, names: Sequence[str]) -> str:
    """The one of these names with the largest value of a metric."""
    return max(names, key=lambda name: found[name][metric])

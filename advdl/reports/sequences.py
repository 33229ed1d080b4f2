"""What networks write: translations, captions and texts, scored beside trivial answers and drawn.

A learner that translates or captions has the functions of `models.decoding.Search`, `write` and
`attend`. Axes: N examples, T tokens that are written, S places that are looked at.
"""

import pathlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advdl import data, metrics, present, train
from advdl.errors import UserError
from advdl.reports.trained import Trained

LOOKS = """Test sentences, drawn at random. Each row is a word that was written, dark where it \
looked while it was."""


@dataclass(frozen=True)
class TranslationReport:
    """Translations of the part `test`, greedily and by a beam, beside the source as it is and the
    commonest sentence of the training part; and where attention looked.

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
        wanted = [self.spec.target.normalized(text) for text in target]
        often = Counter(self.spec.target.normalized(text) for _, text in learned.pairs)
        title, ids = f"beam of {self.width}", self.write(trained, source, self.width)
        answers = {
            "greedy": self.texts(self.write(trained, source, 1)),
            title: self.texts(ids),
            "the source as it is": said,
            "the commonest sentence": [often.most_common(1)[0][0]] * len(said),
        }
        found, signature = {}, ""
        for name, texts in answers.items():
            score, signature = metrics.corpus_bleu(texts, wanted)
            found[name] = {"bleu": score, "exact_match": metrics.exact_match(texts, wanted)}
        best, trivial = found[title], best_of(found, "bleu", 2)
        sentence = (
            f"{best['exact_match']:.1%} of {len(said)} test sentences are translated to the last"
            f" word. BLEU is {best['bleu']:.1f}, and that of the best trivial answer,"
            f" {trivial}, {found[trivial]['bleu']:.1f}."
        )
        verdict = {"verdict": sentence, **found, "signature": signature}
        trained.run.write("verdict.json", verdict | {"left_out": learned.left_out})
        shown = "\n\n".join(
            f"{said[n]}\n→ {answers[title][n]}\n(wanted: {wanted[n]})"
            for n in data.selected(said, 8)
        )
        sections = [
            present.Section("Scores", f"On the part test. {signature}", [], found),
            present.Section("Test sentences", shown),
            self.learning(trained),
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

    def learning(self, trained: Trained) -> present.Section:
        """Curves over training."""
        panels = [
            present.Panel(
                "nats per word",
                {
                    "training": "train/loss",
                    "val, fed the given words": "val/nats_per_word_teacher_forced",
                    "val, fed its own": "val/nats_per_word_free_running",
                },
            ),
            present.Panel(
                "sentences of val that are right", {"fed its own words": "val/exact_match"}
            ),
        ]
        present.draw_curves(trained.lines(), trained.folder / "curves.png", panels)
        return present.Section("Over training", "", ["curves.png"])

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
            words = self.spec.source.split(text)[:length]
            written = [*self.spec.target.vocabulary.decode(row), "."]
            pairs.append((words, written, weight[: len(written), :length]))
        present.draw_attention(pairs, folder / "attention.png")

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, str]:
        """Translations of `options.sentences`, or of lines from standard input, by a beam of
        `options.width`; and a picture of where it looked in the first few."""
        sentences = options.sentences or [line.rstrip("\n") for line in sys.stdin]
        if not sentences or not all(map(self.spec.source.split, sentences)):
            raise UserError("a sentence to translate is empty; give words")
        for note in self.spec.source.notes(sentences):
            train.say(note)
        ids = self.write(trained, sentences, options.width)
        if self.attention:
            self.draw(trained, sentences[:6], ids[:6], folder)
        return dict(zip(sentences, self.texts(ids), strict=True))


def best_of(found: Mapping[str, Mapping[str, float]], metric: str, first: int) -> str:
    """The name of the largest value of a metric, from the `first` name on."""
    return max(list(found)[first:], key=lambda name: found[name][metric])

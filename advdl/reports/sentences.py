"""Texts put into classes: which words count, for which class, and predictions.

The learner's function is `explain`, `{"token": (B, T), "token_length": (B,)}` -> `probability`
(B, K) and `weight` (B, T), what each word counts for the class of the largest probability. Axes: N
texts, T words, K classes.
"""

import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advdl import data, metrics, present, train
from advdl.errors import UserError
from advdl.reports.trained import Trained, course, learning_section

MOST = 20_000  # training texts that sums of words' weights are fitted on


@dataclass(frozen=True)
class SentencesReport:
    """The report of a classifier of texts, scored on the part `test`.

    paper: the published accuracy, empty where none belongs to the settings.
    """

    paper: str = ""

    def __call__(self, trained: Trained) -> present.Page:
        folder, names = trained.folder, trained.spec.label_names
        texts = trained.splits.evaluations["test"].examples.texts.texts
        found = self.explain(trained, texts)
        said, words = found["probability"].argmax(1), [self.known(trained.spec, t) for t in texts]
        weights = mean_weights(words, found["weight"], said, names)
        present.draw_weighed(weights, folder / "words.png")
        picture, *others = self.examples(trained, found)

        own, beside = trained.figures["test/accuracy"], self.classic(trained.splits)
        best = max(beside, key=lambda name: beside[name]["accuracy"])
        accuracy = beside[best]["accuracy"]
        sentence = (
            f"The network names the class of {own:.1%} of {len(texts)} test texts, and the best"
            f" method without one, {best}, that of {accuracy:.1%}."
        )
        verdict = {"verdict": sentence, "accuracy": own, "classic": beside}
        trained.run.write("verdict.json", verdict)
        table = {"the network": own} | {name: one["accuracy"] for name, one in beside.items()}
        counts_KK = trained.figures["test/confusion"]
        figures = [
            present.Figure("accuracy", f"{own:.2%}", f"{accuracy:.2%}, {best}", self.paper),
            present.Figure("cross-entropy", trained.figures["test/loss"]),
        ]
        sections = [
            present.Section("Accuracy", "On the test texts.", [], table),
            *(present.Section("Sure and wrong", "", [one]) for one in others),
            present.Section("Words that weigh most", WEIGHED, ["words.png"]),
            present.confusion_section(counts_KK, names, folder, "test texts")._replace(figures={}),
            learning_section(
                trained,
                present.Panel("cross-entropy", course(trained, "loss"), log=True),
                present.Panel("accuracy", course(trained, "accuracy")),
            ),
        ]
        return present.Page(picture, figures, sentence, sections)

    def examples(self, trained: Trained, found: Mapping[str, np.ndarray]) -> list[present.Picture]:
        """Draws the ten test texts of which the network is most sure, of those that are right and
        of those that are wrong, where there are any."""
        names, pictures = trained.spec.label_names, []
        texts, label = trained.splits.evaluations["test"].examples.texts
        said, sure = found["probability"].argmax(1), found["probability"].max(1)
        for kind in ("right", "wrong"):
            rows = np.flatnonzero((said == label) == (kind == "right"))
            rows = rows[np.argsort(-sure[rows], kind="stable")][:10]
            captions = [f"{names[said[n]]} {sure[n]:.1%}, in truth {names[label[n]]}" for n in rows]
            if len(rows):
                shown = [texts[n] for n in rows], captions, found["weight"][rows]
                self.draw(trained.spec, *shown, trained.folder / f"{kind}.png")
                about = f"Test texts of which the network is most sure, and {kind}."
                pictures.append(present.Picture(f"{kind}.png", about))
        return pictures

    def explain(self, trained: Trained, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Probabilities (N, K), and what each word counts (N, T)."""
        ids, lengths, _ = trained.spec.text.padded(texts)
        return trained.apply("explain", {"token": ids, "token_length": lengths}, rows=50)

    def classic(self, splits: data.Splits) -> Mapping[str, Mapping[str, float]]:
        """Methods without a network; of very many texts the most frequent class alone."""
        if len(splits.train.examples.texts.texts) <= MOST:
            return self.baselines(splits)
        often = np.bincount(splits.train.examples.texts.label).argmax()
        label = splits.evaluations["test"].examples.texts.label
        return {"most frequent class": {"accuracy": float(np.mean(label == often))}}

    def baselines(self, splits: data.Splits) -> Mapping[str, Mapping[str, float]]:
        """The most frequent class, and sums of words' weights."""
        batches = splits.train, splits.evaluations["val"], splits.evaluations["test"]
        parts = [own.examples.texts for own in batches]
        return metrics.classic_text_methods(*parts, split=splits.spec.text.split)

    def known(self, spec: data.SentenceSpec, text: str) -> list[str]:
        """The words that are read of a text, empty where they are not known."""
        tokens = spec.text.tokens
        return [tokens[n] if n != data.UNKNOWN else "" for n in spec.encode(text)]

    def draw(
        self,
        spec: data.SentenceSpec,
        texts: Sequence[str],
        captions: Sequence[str],
        weight_NT: np.ndarray,
        path: pathlib.Path,
    ) -> None:
        """Draws texts with their words colored; what was cut off has no color."""
        rows = []
        for text, caption, weight in zip(texts, captions, weight_NT, strict=True):
            words = spec.text.split(text)
            whole = np.zeros(max(len(words), len(weight)))
            whole[: len(weight)] = weight
            rows.append((caption, words, whole[: len(words)]))
        present.draw_words(rows, path, note=COLORS)

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Class, probability and the words that count of each of `options.sentences` and of the
        lines of `options.file`; and a picture of them."""
        texts, spec = list(options.sentences), trained.spec
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise UserError(f"sentence {number} is empty; give it some words")
        if options.file:
            texts += [line for line in data.read_lines(options.file) if line.strip()]
        if not texts:
            raise UserError(
                'give sentences, as in: predict "not a very good film", or a --file of lines'
            )
        found, answer, captions = self.explain(trained, texts), {}, []
        for text, p, weight in zip(texts, found["probability"], found["weight"], strict=True):
            words, best = spec.text.split(text), spec.label_names[int(p.argmax())]
            sums: dict[str, float] = defaultdict(float)
            for word, value in zip(words, weight, strict=False):
                sums[word] += float(value)
            first = sorted(sums.items(), key=lambda item: -abs(item[1]))[:5]
            answer[text] = {
                "class": best,
                "probability": float(p.max()),
                "word_weights": {word: round(value, 3) for word, value in first},
            }
            captions.append(f"{best} {p.max():.1%}")
            if unknown := spec.text.unknown(text):
                answer[text]["unknown_words"] = unknown
                captions[-1] += f"; unknown: {', '.join(unknown)}"
            if len(words) > spec.text.longest:
                answer[text]["words_not_read"] = len(words) - spec.text.longest
        with train.os_errors_as_user_errors(f"folder {folder}"):
            shown = texts[:40], captions[:40], found["weight"][:40]
            self.draw(spec, *shown, folder / "words.png")
        return answer


def mean_weights(
    texts: Sequence[Sequence[str]],
    weight_NT: np.ndarray,
    said_N: np.ndarray,
    names: Sequence[str],
    least: int = 3,
    most: int = 20,
) -> dict[str, dict[str, float]]:
    """By class, the `most` words whose mean weight for it is largest, of those that occur `least`
    times or more; a weight for one class is one against the others, shared by them."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for words, weights, label in zip(texts, weight_NT, said_N, strict=True):
        for word, value in zip(words, weights, strict=False):
            for number, name in enumerate(names if word else ()):
                own = value if number == label else -value / max(len(names) - 1, 1)
                found[name][word].append(own)
    shown = {}
    for name, words in found.items():
        means = {w: float(np.mean(values)) for w, values in words.items() if len(values) >= least}
        shown[name] = dict(sorted(means.items(), key=lambda item: -item[1])[:most])
    return shown


COLORS = (
    "Red words count for the class that is named, blue ones against it, by integrated gradients;"
    " each sentence by its own largest."
)
WEIGHED = (
    "Mean weight for each class, by integrated gradients, of the words that occur in three test"
    " texts or more. A word has another weight in every sentence; where negations turn half of the"
    " opinions over, the mean says little."
)

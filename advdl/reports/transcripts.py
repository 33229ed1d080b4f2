"""Transcripts of speech: how many words are wrong, and what a network hears at every moment."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from advdl import data, metrics, present, train
from advdl.data import speech
from advdl.models import ctc
from advdl.reports.trained import Trained, given_files, learning_section

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TranscriptsReport:
    """The report of a network that is trained by CTC; it is called with a `Trained` and returns the
    page.

    The learner has the function `logits`, (B, T, K) of `frames` and `frames_length`. The
    evaluations are of `speech.SpeechSource`: the strings of `test` are scored, and of each
    evaluation the recordings of a single word, of which the answer is the likeliest of all words.

    width: number of prefixes that the beam keeps.

    verdict.json has the verdict in words, and beside it the figures of the greedy path, of the
    beam, of the commonest string, and of single words by evaluation.
    """

    width: int = 10

    def __call__(self, trained: Trained) -> present.Page:
        parts = {name: batches.source for name, batches in trained.splits.evaluations.items()}
        found: dict[str, Any] = self.scores(trained, parts["test"])
        words = {name: self.single_words(trained, part.recordings) for name, part in parts.items()}
        beam, often = (
            found[name]["word_error_rate"] for name in ("prefix_beam", "commonest_string")
        )
        test = words["test"]
        sentence = (
            f"The word error rate on {len(parts['test'])} test strings is {beam:.2%}, where always"
            f" answering the commonest string has {often:.2%}; {test['accuracy']:.2%} of"
            f" {test['count']} single words are recognized."
        )
        verdict = {"verdict": sentence, **found, "single_words": words}
        trained.run.write("verdict.json", verdict)

        recordings = parts["test"].recordings
        shown = [recordings[row] for row in data.selected(recordings, 3)]
        samples = np.concatenate([recording.samples for recording in shown])
        heard = self.draw(trained, samples, trained.folder / "heard.png")
        said = trained.spec.decode([label for recording in shown for label in recording.labels])
        both = {"training": "train/loss", "val": "val/nats_per_string"}
        panels = [
            present.Panel("nats per string", both, log=True),
            present.Panel("strings right as a whole, greedily", {"val": "val/exact_match"}),
        ]
        return present.Page(
            present.Picture(
                "heard.png", f"{HEARD} Said: {said}. Recognized: {heard or 'nothing'}."
            ),
            [
                present.Figure("word error rate", beam, f"{often:.3g}, the commonest string"),
                present.Figure("strings right as a whole", found["prefix_beam"]["exact_match"]),
                present.Figure(
                    "single words right",
                    test["accuracy"],
                    f"{test['commonest_word']:.3g}, the commonest word",
                ),
            ],
            sentence,
            [
                present.Section("Test strings", "", [], found),
                present.Section("Single words", "", [], words),
                learning_section(trained, *panels),
            ],
        )

    def scores(self, trained: Trained, strings: speech.SpeechSource) -> dict[str, Any]:
        """Word error rates of strings, by the likeliest label of each frame and by the beam, beside
        that of the commonest string."""
        batch = strings.read(np.arange(len(strings)))
        wanted = [
            trained.spec.decode(labels[:count])
            for labels, count in zip(batch["label"], batch["label_length"], strict=True)
        ]
        inputs = {name: batch[name] for name in ("frames", "frames_length")}
        logits = trained.apply("logits", inputs)
        answers = {
            name: list(map(trained.spec.decode, ctc.transcribe(logits, inputs["frames_length"], k)))
            for name, k in (("greedy", 0), ("prefix_beam", self.width))
        }
        answers["commonest_string"] = [max(set(wanted), key=wanted.count)] * len(wanted)
        return {
            name: {
                "word_error_rate": metrics.word_error_rate(wanted, heard),
                "exact_match": metrics.exact_match(heard, wanted),
            }
            for name, heard in answers.items()
        }

    def single_words(
        self, trained: Trained, recordings: Sequence[speech.Recording]
    ) -> dict[str, float]:
        """How many recordings of a single word are recognized."""
        single = [recording for recording in recordings if len(recording.labels) == 1]
        batch = speech.padded_features([recording.samples for recording in single])
        label = np.array([recording.labels[0] for recording in single])
        logits, words = trained.apply("logits", batch), range(1, 1 + len(trained.spec.label_names))
        said = ctc.likeliest_label(logits, batch["frames_length"], words)
        return {
            "accuracy": float((np.asarray(said) == label).mean()),
            "count": len(label),
            "commonest_word": float(np.bincount(label).max() / len(label)),
        }

    def draw(self, trained: Trained, samples: np.ndarray, path: Path) -> str:
        """Draws a recording and the probability of every label at every frame; returns what the
        beam finds."""
        batch = speech.padded_features([samples])
        logits = trained.apply("logits", batch, rows=1)
        probability = np.asarray(jax.nn.softmax(logits))[0]
        rows = {
            "log mel bands, the high ones above": batch["frames"][0][:, ::-1],
            "probability of each label": probability,
        }
        names = {"probability of each label": ("blank", *trained.spec.label_names)}
        xlabel = f"frames of {speech.HOP * 1000:.0f} ms"
        present.draw_states(rows, path, xlabel=xlabel, names=names)
        (labels,) = ctc.transcribe(logits, batch["frames_length"], self.width)
        return trained.spec.decode(labels)

    def predict(self, trained: Trained, options: Any, folder: Path) -> dict[str, str]:
        """What is said in each of `options.files`, WAV files; a picture of each goes to the
        folder."""
        answer = {}
        for path in given_files(options.files, "WAV files"):
            samples, rate = data.read_wav(path, speech.RATE)
            if rate != speech.RATE:
                _LOG.warning(f"{path} has {rate} Hz and was resampled to {speech.RATE}")
            answer[str(path)] = self.draw(trained, samples, folder / f"{path.stem}.png")
        return answer


HEARD = (
    "Test recordings one behind the other: the sound, and below it the probability of the blank and"
    " of each label at every frame."
)


def _too_short(figures: Mapping[str, float]) -> str | None:
    share = figures["train/too_short"]
    return f"{share:.1%} of them, which training learns nothing from" if share else None


TOO_SHORT = train.Alarm("strings have fewer frames than CTC needs for their labels", _too_short, 0)
"""Alarm for recordings that are too short for their labels, by the metric `too_short`, their
share."""

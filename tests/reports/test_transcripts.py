"""Transcripts: what is counted as wrong, on logits that are made up."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from advdl import present, train
from advdl.data import speech
from advdl.reports import TOO_SHORT, TranscriptsReport

SPEC = speech.SpeechSpec(("one", "two", "three"))
RNG = np.random.default_rng(0)
RECORDINGS = [
    speech.Recording(RNG.standard_normal(2400).astype(np.float32), (label,), "ann")
    for label in (1, 1, 1, 2, 3, 3)
]


def batches(recordings, most=2, seed=1):
    return SimpleNamespace(source=speech.SpeechSource("made", "test", recordings, most, 30, seed))


@pytest.fixture
def trained(tmp_path):
    """Of a network that knows every string, but hears "three" as "two" and says it with a blank
    before."""
    known, parts = {}, {"val": batches(RECORDINGS[:4]), "test": batches(RECORDINGS)}

    def learn(frames, labels):
        path = np.zeros(len(frames), np.int32)
        for n, label in enumerate(labels):
            path[2 + n * len(frames) // len(labels)] = 2 if label == 3 else label
        known[frames.tobytes()] = path

    for part in parts.values():
        strings = part.source.read(np.arange(30))
        for x, length, label, count in zip(*strings.values(), strict=True):
            learn(x[:length], label[:count])
        for recording in part.source.recordings:
            learn(speech.features(recording.samples), recording.labels)

    def apply(name, inputs, rows=64):
        assert name == "logits" and set(inputs) == {"frames", "frames_length"}
        found = np.zeros((*inputs["frames"].shape[:2], 4), np.float32)
        for n, (x, length) in enumerate(
            zip(inputs["frames"], inputs["frames_length"], strict=True)
        ):
            path = known.get(x[:length].tobytes(), np.zeros(length, np.int32))
            found[n, :length] = 9 * np.asarray(jax.nn.one_hot(path, 4))
        return found

    run = train.Run(tmp_path)
    run.report.mkdir()
    lines = [{"step": 2, "train/loss": 2.0}, {"step": 2, "val/nats_per_string": 3.0}]
    lines[1]["val/exact_match"] = 0.5
    return SimpleNamespace(
        spec=SPEC,
        splits=SimpleNamespace(evaluations=parts),
        apply=apply,
        run=run,
        folder=run.report,
        lines=lambda: lines,
    )


@pytest.mark.slow
def test_words_that_are_wrong_are_counted_in_strings_and_alone(trained, tmp_path):
    page = TranscriptsReport()(trained)
    found = json.loads((tmp_path / "verdict.json").read_text())
    strings = trained.splits.evaluations["test"].source.read(np.arange(30))
    label = strings["label"]
    share = (label == 3).sum() / (label > 0).sum()
    for name in ("greedy", "prefix_beam"):
        assert found[name]["word_error_rate"] == pytest.approx(share)
        assert found[name]["exact_match"] == pytest.approx(1 - (label == 3).any(1).mean())
    words = found["single_words"]
    assert words["test"] == {"accuracy": 4 / 6, "count": 6, "commonest_word": 0.5}
    assert words["val"] == {"accuracy": 1.0, "count": 4, "commonest_word": 0.75}
    texts = [SPEC.decode(own[own > 0]) for own in label]
    often = max(set(texts), key=texts.count)
    wrong = sum(text != often for text in texts)
    assert wrong / 60 < found["commonest_string"]["word_error_rate"] <= 1
    assert found["commonest_string"]["exact_match"] == pytest.approx(1 - wrong / 30)
    assert page.sentence == found["verdict"] and f"{share:.2%}" in page.sentence
    assert [figure.value for figure in page.figures] == [
        pytest.approx(share),
        found["prefix_beam"]["exact_match"],
        4 / 6,
    ]
    with Image.open(tmp_path / "report" / page.picture.path) as image:
        assert image.width > 500
    present.write_report(tmp_path / "report", "a run", page)


def test_a_recording_is_transcribed_and_drawn(trained, tmp_path):
    said = TranscriptsReport().draw(trained, RECORDINGS[3].samples, tmp_path / "own.png")
    assert said == "two" and (tmp_path / "own.png").exists()
    unknown = RNG.standard_normal(900).astype(np.float32)
    assert TranscriptsReport().draw(trained, unknown, tmp_path / "other.png") == ""


def test_strings_that_are_too_short_raise_an_alarm():
    watch = train.Watch([TOO_SHORT])
    assert watch(10, {"train/too_short": 0.0}) == []
    (said,) = watch(20, {"train/too_short": 0.125})
    assert "fewer frames than CTC needs" in said and "12.5%" in said

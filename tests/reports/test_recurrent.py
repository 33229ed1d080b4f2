"""Reports on recurrent networks, with functions in place of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from advdl import data, train
from advdl.errors import UserError
from advdl.reports import MemoryReport, ParityReport

COMPARISON = train.Comparison({"good": None, "bad": None}, 2)


def trained(folder):
    """`good` knows the parity and has a state of it, `bad` answers the opposite."""
    asked = []

    def apply(function, inputs, rows):
        asked.append(function)
        parity = data.parity(inputs["sequence"].argmax(-1))
        states = np.stack([parity, 1 - parity, 0 * parity], -1).astype(np.float32)
        answer = parity if function == "good-s0/outputs" else 1 - parity
        return np.eye(2)[answer], {"states": states}

    keys = COMPARISON.keys("test/accuracy_by_length")
    figures = {key: np.linspace(0, 1, 30) for each in keys.values() for key in each}
    return SimpleNamespace(apply=apply, folder=folder, figures=figures, asked=asked)


def report():
    return ParityReport(COMPARISON, 10)


def test_predictions_are_the_first_seeds_answers_at_the_end_beside_the_right_one(tmp_path):
    given, options = trained(tmp_path), SimpleNamespace(sequences=("0110101", "1"))
    assert report().predict(given, options, tmp_path) == {
        "0110101": {"right": "even", "good": "even", "bad": "odd"},
        "1": {"right": "odd", "good": "odd", "bad": "even"},
    }
    assert given.asked == ["good-s0/outputs", "bad-s0/outputs"] * 2
    for name in ("states_0.png", "states_1.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 500


@pytest.mark.parametrize(
    ("sequences", "line"), [((), "give sequences of 0 and 1"), (("01x",), "('x'); expected 0")]
)
def test_what_is_no_sequence_is_refused(tmp_path, sequences, line):
    with pytest.raises(UserError) as refused:
        report().predict(trained(tmp_path), SimpleNamespace(sequences=sequences), tmp_path)
    assert line in str(refused.value)


def test_sections_show_what_was_read_and_answered_and_the_accuracy_by_length(tmp_path):
    given = trained(tmp_path)
    section = report().states(given)
    bits = data.parse_bits(section.figures["input"])
    assert section.figures["good"] == "".join(map(str, data.parity(bits))) and len(bits) == 60
    report().lengths(given)
    assert (tmp_path / "states.png").exists() and (tmp_path / "lengths.png").exists()


@pytest.mark.slow
def test_memory_is_drawn_at_every_snapshot_and_answers_stand_beside_the_truth(tmp_path):
    task, lags = data.TASKS["adding"], (10, 20)
    learners = {f"{name}-{lag}": None for name in ("rnn", "lstm") for lag in lags}
    report = MemoryReport(train.Comparison(learners, 1), task, ("rnn", "lstm"), lags)

    def apply(function, batch):
        member, _, kind = function.partition("/")
        assert member in ("rnn-20-s0", "lstm-20-s0") and set(batch) == {"sequence/20", "target/20"}
        count = len(batch["target/20"])
        if kind == "gradient_norms":
            return np.full((count, 20), 0.5 ** np.arange(20))
        return batch["target/20"][:, None] if member.startswith("lstm") else np.ones((count, 1))

    for step in (0, 5):
        given = SimpleNamespace(apply=apply, folder=tmp_path, step=step)
        report.snapshot(given)
    section = report(given)
    assert [picture.path for picture in section.pictures[:2]] == [
        tmp_path / "frames" / f"{step:07}.png" for step in (5, 0)
    ]
    assert (tmp_path / "gradients.gif").exists()
    whole = report.comparison_report("It is solved.", [])
    assert whole.shown == ["rnn-20", "lstm-20"] and whole.references.popitem()[1] == 1 / 6
    assert whole.groups["over 10 steps"] == {"rnn-10": "rnn", "lstm-10": "lstm"}
    found = report.predict(given, SimpleNamespace(count=3), tmp_path)
    assert found["truth"] == found["lstm"] and found["rnn"] == [1.0] * 3

"""Parity and long memory: runs that are whole, and what they conclude."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from advdl import metrics

EVERY = ["--steps", 4, "--evaluate-every", 2, "--log-every", 2, "--save-every", 2, "--batch", 8]
PARITY = [
    "--features",
    4,
    "--seeds",
    2,
    "--window",
    3,
    "--longest",
    6,
    "--scored",
    12,
    "--steps-per-call",
    2,
    *EVERY,
]
MEMORY = ["--features", 4, "--lags", "10,20", *EVERY]


def longer(flags):
    return [*flags[: flags.index("--steps")], "--steps", 6, *flags[flags.index("--steps") + 2 :]]


@pytest.mark.experiments
def test_parity_is_trained_compared_drawn_and_asked(verb, load, tmp_path, monkeypatch):
    run = tmp_path / "run"
    status, _, err = verb("parity", "train", "--run", run, *PARITY)
    assert status == 0, err
    verdict = json.loads((run / "verdict.json").read_text())
    unseen = verdict["test/accuracy_unseen"]
    assert {name: len(values) for name, values in unseen.items()} == dict.fromkeys(
        ("rnn", "lstm", "window"), 2
    )
    assert verdict["holds"] is False and "For rnn the best of 2 seeds" in verdict["verdict"]
    assert all(
        (run / "report" / name).exists() for name in ("lengths.png", "states.png", "curves.png")
    )
    status, _, err = verb("parity", "train", "--run", run, *longer(PARITY))
    assert status == 0 and "resuming" in err, err

    def closed(*_):
        raise AssertionError("predict opens no data")

    monkeypatch.setattr(load("parity").data, "bits", closed)
    status, out, err = verb(
        "parity", "predict", "0110101", "1", "--run", run, "--out", tmp_path / "out", "--json"
    )
    assert status == 0, err
    answer = json.loads(out)
    assert answer["0110101"]["right"] == "even" and answer["1"]["right"] == "odd"
    assert set(answer["1"]) == {"right", "rnn", "lstm", "window"}
    with Image.open(tmp_path / "out" / "states_0.png") as image:
        assert image.width > 500
    for wrong, line in ((["01x"], "('x'); expected 0 and 1"), ([], "give sequences of 0 and 1")):
        status, _, err = verb("parity", "predict", *wrong, "--run", run)
        assert status == 2 and line in err


def test_parity_needs_one_seed_of_one_network_with_a_state_and_every_window_at_chance(load):
    state, window = load("parity").RULES

    def holds(rule, **accuracy):
        return rule({"test/accuracy_unseen": accuracy}).holds

    assert holds(state, rnn=(0.5, 0.9995), lstm=(0.7, 0.8), window=(1.0, 1.0)) is True
    assert holds(state, rnn=(0.5, 0.9985), lstm=(0.7, 0.8), window=(1.0, 1.0)) is False
    assert holds(window, rnn=(0.5, 0.9), window=(0.501, 0.49)) is True
    assert holds(window, rnn=(0.5, 0.9), window=(0.501, 0.6)) is False
    assert holds(window, rnn=(0.5, 0.9), window=(0.47, 0.5)) is False


@pytest.mark.experiments
@pytest.mark.parametrize(
    "flags", [[], ["--preset", "order", "--networks", "lstm1997,gru"]], ids=["adding", "order"]
)
def test_long_memory_is_trained_compared_drawn_and_asked(verb, tmp_path, flags):
    run = tmp_path / "run"
    status, _, err = verb("long_memory", "train", "--run", run, *MEMORY, *flags)
    assert status == 0, err
    verdict = json.loads((run / "verdict.json").read_text())
    names = ("lstm1997", "gru") if flags else ("rnn", "lstm")
    assert verdict["holds"] is False and f"{names[1]}-20 the worst of 1" in verdict["verdict"]
    assert set(verdict["test/error"]) == {f"{name}-{lag}" for name in names for lag in (10, 20)}
    assert (
        len(list((run / "report" / "frames").glob("*.png"))) == 3
        and (run / "report" / "gradients.gif").exists()
    )
    status, _, err = verb("long_memory", "train", "--run", run, *longer(MEMORY), *flags)
    assert status == 0 and "resuming" in err, err
    status, out, err = verb("long_memory", "predict", "--run", run, "--count", 3, "--json")
    assert status == 0, err
    answers = json.loads(out)
    assert set(answers) == {"truth", *names} and {len(own) for own in answers.values()} == {3}


@pytest.mark.slow
def test_the_gradient_against_the_distance_is_that_of_the_error(load, opened):
    """By finite differences of one sequence's error."""
    config = load("long_memory").Config(features=3, lags="10", networks="rnn", batch=1)
    splits, experiment = opened("long_memory", config)
    batch, functions = splits.evaluations["test"][0], experiment.learner.functions
    state = experiment.learner.init(jax.random.key(0), batch)
    norms = functions["rnn-10-s0/gradient_norms"](state, batch)[0]

    def error(x):
        output = functions["rnn-10-s0/outputs"](state, {"sequence/10": x})
        return float(np.square(output[0, 0] - batch["target/10"][0]))

    for distance in (0, 4):
        slopes = []
        for feature in range(2):
            shift = np.zeros_like(batch["sequence/10"])
            shift[0, 9 - distance, feature] = 1e-2
            slopes.append(
                (error(batch["sequence/10"] + shift) - error(batch["sequence/10"] - shift)) / 2e-2
            )
        assert norms[distance] == pytest.approx(np.linalg.norm(slopes), rel=0.02)


def test_long_memory_needs_gated_networks_to_solve_the_longest_lag_and_basic_ones_not_to(
    load, opened
):
    config = load("long_memory").Config(lags="10,20", networks="rnn,lstm,gru")
    rules = opened("long_memory", config)[1].report.rules

    def holds(**errors):
        found = {f"{name}-20": values for name, values in errors.items()}
        found |= {"rnn-10": (0.5,), "lstm-10": (0.5,), "gru-10": (0.5,)}
        return metrics.all_hold([rule({"test/error": found}, {}) for rule in rules])

    assert holds(rnn=(0.1, 0.2), lstm=(0.01, 0.001), gru=(0.005, 0.002)) is True
    assert holds(rnn=(0.1, 0.2), lstm=(0.02, 0.001), gru=(0.005, 0.002)) is False
    assert holds(rnn=(0.1, 0.005), lstm=(0.01, 0.001), gru=(0.005, 0.002)) is False


@pytest.mark.parametrize(
    ("name", "flags", "line"),
    [
        ("parity", ["--networks", "rnn,transformer"], "no network 'transformer'"),
        ("parity", ["--networks", "rnn,rnn"], "each once"),
        ("parity", ["--scored", 40], "expected more than --longest 40"),
        ("parity", ["--data", "digits"], "invalid choice 'digits'"),
        ("long_memory", ["--lags", "5"], "at least 10"),
        ("long_memory", ["--lags", "x"], "--lags"),
        ("long_memory", ["--networks", "ltsm"], "nearest: lstm"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, name, flags, line):
    status, _, err = verb(name, "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err

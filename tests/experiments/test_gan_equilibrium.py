"""The game on points: a run is whole, and a setting learns the same beside others."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from advdl import data, reports, train

SMALL = ["--steps", 100, "--steps-per-call", 50, "--evaluate-every", 50, "--log-every", 50]
SMALL += ["--save-every", 50, "--batch", 32]


@pytest.mark.experiments
@pytest.mark.parametrize(
    "flags",
    [["--preset", "ring", "--hidden", "16"], ["--beside", "smoothed", "--hidden", "8"]],
)
def test_a_run_is_trained_judged_drawn_and_goes_on(verb, tmp_path, flags, monkeypatch):
    monkeypatch.setattr(reports.mixtures.LineReport, "theory", lambda self: [])
    monkeypatch.setattr(reports.mixtures, "LINE_ROWS", 2000)
    monkeypatch.setattr(reports.mixtures, "FRESH_STEPS", 20)
    folder = tmp_path / "run"
    status, _, err = verb("gan_equilibrium", "train", "--run", folder, *flags, *SMALL, "--seeds", 2)
    assert status == 0, err
    verdict = json.loads((folder / "verdict.json").read_text())
    said = verdict.pop("verdict")
    assert verdict.pop("holds") is False and "missed" in said
    assert all(len(values) == 2 for each in verdict.values() for values in each.values())
    other = "plain" if "ring" in flags else "smoothed"
    assert all(set(each) == {"recommended", other} for each in verdict.values())
    report = folder / "report"
    assert (report / "training.gif").exists() and len(list((report / "frames").glob("*.png"))) == 3
    more = [150 if flag == 100 else flag for flag in SMALL]
    status, _, err = verb("gan_equilibrium", "train", "--run", folder, *more)
    assert status == 0 and "resuming" in err, err

    def opened(*_):
        raise AssertionError("the data was opened")

    monkeypatch.setattr(data, "open_points", opened)
    flags = ["--run", folder, "--count", 7, "--out", tmp_path / "out", "--json"]
    status, out, err = verb("gan_equilibrium", "predict", *flags)
    assert status == 0 and set(json.loads(out)) == set(verdict), err
    with np.load(tmp_path / "out" / "samples.npz") as drawn:
        assert all(points.shape[0] == 7 and np.isfinite(points).all() for points in drawn.values())


@pytest.mark.experiments
def test_what_is_beside_changes_nothing(load, opened):
    """A setting learns the same numbers alone and beside others."""
    states = {}
    for beside in ("", "smoothed"):
        config = dataclasses.replace(
            load("gan_equilibrium").PRESETS["laptop"],
            beside=beside,
            steps=10,
            batch=16,
            steps_per_call=1,
            hidden="8",
        )
        splits, experiment = opened("gan_equilibrium", config)
        placed = train.place("jit")(experiment.learner)
        state = placed.init(jax.random.key(0), placed.put(splits.train(0)))
        for t in range(3):
            state, _ = placed.step(state, placed.put(splits.train(t)), jax.random.key(1))
        states[beside] = state["recommended-s0/generator"].params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *states.values())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "rnig"], "no points called 'rnig'"),
        (["--hidden", "a"], "--hidden is 'a'; expected numbers of at least 1"),
        (["--real-label", "0.2"], "more than 0.5"),
        (["--beside", "rign"], "no beside 'rign'; there are laptop"),
        (["--beside", "ring"], "is for ring"),
        (["--beside", "laptop"], "leave it out"),
        (["--steps", "99"], "is no multiple of --steps-per-call"),
        (["--label", "a/b"], "without /"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan_equilibrium", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1

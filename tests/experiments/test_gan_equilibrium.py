"""The game on points: what theory says of it holds, its verdict is not to be deceived, and a run is
whole."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import data, losses, train

SMALL = [
    "--steps",
    100,
    "--per-call",
    50,
    "--evaluate-every",
    50,
    "--log-every",
    50,
    "--save-every",
    50,
    "--batch",
    32,
]


@pytest.fixture(scope="module")
def equilibrium(load):
    return load("gan_equilibrium")


@pytest.fixture(scope="module")
def game(equilibrium):
    return equilibrium.Game(equilibrium.PRESETS["laptop"], data.points.MIXTURES["normal"])


@pytest.mark.experiments
def test_a_discriminator_at_its_optimum_is_what_proposition_1_says(equilibrium, game, optimized):
    found = equilibrium.optima(game, seeds=1)
    assert found["against N(4.5, 0.7²)"]["mean |D - best|"][0] <= 0.01
    assert found["against N(4.5, 0.7²)"]["V off equation 6"][0] <= 0.002
    assert found["against the data itself"]["mean D"][0] == pytest.approx(0.5, abs=0.01)
    assert found["data labeled 0.9"]["mean D"][0] == pytest.approx(0.45, abs=0.01)


@pytest.mark.experiments
def test_the_verdict_measures_a_generator_where_a_flat_discriminator_says_one_half(
    equilibrium, game, optimized
):
    """Samples are N(5, 0.5²): far off, whatever a discriminator without slope thinks of them."""
    fit, judge = equilibrium.fresh(
        game, lambda given, key, count: 5 + 0.5 * jax.random.normal(key, (count, 1))
    )
    variables, keys = fit(0.0, jax.random.key(0)), jax.random.split(jax.random.key(1))
    real = game.mixture.sample(keys[0], 20_000)
    made = 5 + 0.5 * jax.random.normal(keys[1], (20_000, 1))
    x = equilibrium.places(game.mixture, 12, 4001)
    from advdl import metrics

    exact = metrics.js_divergence(
        *(data.Mixture(np.array([[m]]), 0.5).density(x[:, None]) for m in (4.0, 5.0))
    )
    assert (
        float(losses.value(judge(variables, real), judge(variables, made)).mean()) + math.log(4)
    ) / 2 == pytest.approx(exact, abs=0.01)
    flat = losses.value(jnp.zeros(5), jnp.zeros(5)).mean()
    assert float(flat) == pytest.approx(-math.log(4))


@pytest.mark.experiments
def test_the_minimax_gradient_vanishes_as_the_discriminator_learns(equilibrium, game):
    lines = equilibrium.saturation(game, steps=200, count=256)
    assert lines[-1]["accuracy"] > 0.95 and lines[-1]["ratio"] < 0.1 < lines[0]["ratio"]


def test_a_verdict_is_of_the_worst_seed(equilibrium):
    rules = {"modes": [8, 8, 7], "high quality": [0.9, 0.8, 0.8], "reverse KL": [0.01, 0.02, 0.01]}
    assert "fails" in equilibrium.verdict(
        "Ring", rules, "ring"
    ) and "missed" in equilibrium.verdict("Ring", rules, "ring")
    assert "passes" in equilibrium.verdict("Ring", rules | {"modes": [8, 8, 8]}, "ring")


@pytest.mark.experiments
@pytest.mark.parametrize(
    "flags",
    [["--preset", "ring", "--hidden", "16"], ["--beside", "plain,smoothed", "--hidden", "8"]],
)
def test_a_run_is_trained_judged_drawn_and_goes_on(equilibrium, verb, tmp_path, flags, monkeypatch):
    monkeypatch.setattr(equilibrium.Line, "theory", lambda self, folder: [])
    monkeypatch.setattr(equilibrium.Line, "rows", 2000)
    monkeypatch.setattr(equilibrium, "FRESH_STEPS", 20)
    folder = tmp_path / "run"
    status, _, err = verb("gan_equilibrium", "train", "--run", folder, *flags, *SMALL, "--seeds", 2)
    assert status == 0, err
    judged = json.loads((folder / "verdict.json").read_text())
    assert all(
        "passes" in each["verdict"] or "fails" in each["verdict"] for each in judged.values()
    )
    assert all(
        len(values) == 2
        for each in judged.values()
        for name, values in each.items()
        if name != "verdict"
    )
    report = folder / "report"
    assert (report / "training.gif").exists() and len(list((report / "frames").glob("*.png"))) == 3
    assert all(
        line.split('"')[0] for line in (report / "report.html").read_text().split('src="')[1:]
    )
    more = [150 if flag == 100 else flag for flag in SMALL]
    status, _, err = verb("gan_equilibrium", "train", "--run", folder, *more)
    assert status == 0 and "resuming" in err, err
    status, out, err = verb(
        "gan_equilibrium",
        "predict",
        "--run",
        folder,
        "--count",
        7,
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert status == 0, err
    with np.load(tmp_path / "out" / "samples.npz") as drawn:
        assert all(points.shape[0] == 7 and np.isfinite(points).all() for points in drawn.values())


@pytest.mark.experiments
def test_what_is_beside_changes_nothing(equilibrium):
    """A setting learns the same numbers alone and beside others."""
    states = {}
    for beside in ("", "smoothed"):
        config = dataclasses.replace(
            equilibrium.PRESETS["laptop"], beside=beside, steps=10, batch=16, per_call=1, hidden="8"
        )
        experiment = equilibrium.build(config)
        placed = train.place("jit")(experiment.learner)
        state = placed.init(jax.random.key(0), placed.put(experiment.train(0)))
        for t in range(3):
            state, _ = placed.step(state, placed.put(experiment.train(t)), jax.random.key(1))
        states[beside] = state["recommended-s0/generator"].params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *states.values())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "rnig"], "no points called 'rnig'"),
        (["--hidden", "a"], "expected numbers of units"),
        (["--real-label", "0.2"], "more than 0.5"),
        (["--beside", "rign"], "is no preset"),
        (["--beside", "ring"], "is a setting for ring"),
        (["--beside", "laptop"], "leave it out"),
        (["--steps", "99"], "is no multiple of --per-call"),
        (["--label", "a/b"], "without /"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan_equilibrium", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1

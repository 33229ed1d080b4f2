"""Plain and residual nets in one run, in tiny: depth 8, two seeds."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from advdl.errors import UserError

TINY = [
    "--depths",
    "8",
    "--seeds",
    2,
    "--batch",
    8,
    "--schedule",
    "constant",
    "--log-every",
    1,
    "--save-every",
    2,
]
TINY += ["--evaluate-every", 2]
NETS = [f"{kind}8-s{seed}" for kind in ("plain", "residual") for seed in (0, 1)]


@pytest.fixture(scope="module")
def whole(load, tmp_path_factory):
    """The folder of a run of four updates."""
    from advdl import cli

    module, folder = load("depth"), tmp_path_factory.mktemp("depth") / "run"
    cli.main(
        module.build,
        module.PRESETS,
        arguments=["train", "--run", str(folder), "--steps", "4", *map(str, TINY)],
    )
    return folder


@pytest.mark.experiments
def test_every_net_is_trained_evaluated_and_drawn(whole):
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    summary, verdict = (
        json.loads((whole / f"{name}.json").read_text()) for name in ("summary", "verdict")
    )
    for name in NETS:
        assert sum(f"train/{name}/loss" in line for line in lines) == 4
        assert sum(f"test/{name}/test error" in line for line in lines) == 2
        assert 0 <= summary["test"][f"{name}/training error"] <= 1
    assert "not decided" in verdict["verdict"]["claim"]  # by two seeds
    last = next(line for line in lines if line["step"] == 4 and "train/seconds" in line)
    for seed, value in enumerate(verdict["nets"]["plain"]["8"]["training loss, last tenth"]):
        assert value == last[f"train/plain8-s{seed}/loss"]
    assert verdict["verdict"]["plain"] in (whole / "report" / "report.html").read_text()
    with Image.open(whole / "report" / "depth.png") as image:
        assert len(image.getcolors(1 << 24)) > 10


@pytest.mark.experiments
def test_no_two_nets_are_the_same(whole):
    figures = json.loads((whole / "summary.json").read_text())["test"]
    assert len({figures[f"{name}/training loss"] for name in NETS}) == len(NETS)


@pytest.mark.experiments
def test_a_resumed_run_is_the_same_run(whole, verb, tmp_path):
    for steps in (2, 4):
        status, _, err = verb("depth", "train", "--run", tmp_path / "run", "--steps", steps, *TINY)
        assert status == 0, err
    assert "resuming" in err
    again, summary = (
        json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", whole)
    )
    assert again["digest"] == summary["digest"] and again["test"] == summary["test"]
    assert json.loads((tmp_path / "run" / "verdict.json").read_text()) == json.loads(
        (whole / "verdict.json").read_text()
    )


@pytest.mark.experiments
def test_evaluate_covers_both_sets_whatever_the_batch(whole, verb):
    summary = json.loads((whole / "summary.json").read_text())
    status, out, err = verb("depth", "evaluate", "--run", whole, "--json", "--batch", 100)
    assert status == 0, err
    assert json.loads(out) == pytest.approx(
        {"checkpoint step": summary["steps"], **summary["test"]}, rel=2e-4
    )


@pytest.mark.experiments
def test_each_set_is_counted_by_itself(load):
    module = load("depth")
    experiment = module.build(
        dataclasses.replace(module.PRESETS["laptop"], depths="8", seeds=1, batch=100)
    )
    state = jax.jit(experiment.learner.init)(jax.random.key(0), experiment.train(0))
    evaluate, counts = jax.jit(experiment.learner.evaluate), {"training": 0.0, "test": 0.0}
    for number in range(len(experiment.test)):
        metrics = evaluate(state, experiment.test[number])
        for split in counts:
            counts[split] += float(metrics[f"plain8-s0/{split} loss"].count)
    assert counts == {"training": 1433, "test": 364}


@pytest.mark.experiments
def test_seeds_of_a_net_start_apart_and_a_further_seed_changes_none(load):
    module = load("depth")
    kernels = {}
    for seeds in (1, 2):
        config = dataclasses.replace(module.PRESETS["laptop"], depths="8", seeds=seeds, batch=8)
        experiment = module.build(config)
        state = jax.jit(experiment.learner.init)(jax.random.key(0), experiment.train(0))
        kernels[seeds] = {
            name: np.asarray(p.params["conv"]["kernel"]) for name, p in state.players.items()
        }
    np.testing.assert_array_equal(kernels[1]["plain8-s0/model"], kernels[2]["plain8-s0/model"])
    assert np.abs(kernels[2]["plain8-s0/model"] - kernels[2]["plain8-s1/model"]).min() > 0
    assert np.abs(kernels[2]["plain8-s0/model"] - kernels[2]["residual8-s0/model"]).min() > 0


def test_the_verdict_follows_from_the_figures(load):
    judge = load("depth").judge
    low, high, mixed = [0.1, 0.2, 0.15], [0.5, 0.3, 0.4], [0.18, 0.3, 0.4]

    def claim(plain, residual):
        return judge({"plain": plain, "residual": residual})["claim"]

    assert "holds" in claim({20: low, 32: low, 56: high}, {20: low, 56: low})
    assert "does not hold" in claim(
        {20: low, 56: mixed}, {20: low, 56: low}
    )  # the seeds are not apart
    assert "does not hold" in claim({20: low, 56: high}, {20: low, 56: mixed})
    assert "does not hold" in claim({20: high, 56: low}, {20: low, 56: low})
    assert "not decided" in claim({20: low[:2], 56: high[:2]}, {20: low[:2], 56: low[:2]})
    assert "not decided" in claim({20: low}, {20: low})


def test_the_last_tenth_is_that_of_the_updates_whatever_the_windows(load):
    last_tenth = load("depth").last_tenth
    lines = [{"step": step, "a": float(step)} for step in (50, 85, 90, 92, 100)] + [
        {"step": 95, "b": 1.0}
    ]
    assert last_tenth(lines, "a") == pytest.approx((2 * 92 + 8 * 100) / 10)
    assert last_tenth(lines[:2], "a") == 85.0


@pytest.mark.parametrize("depths", ["20,21", "2", "", "20,x", "20,20", "20;56"])
def test_depths_that_cannot_be_are_refused_in_one_line(depths, load, verb, tmp_path):
    status, _, err = verb("depth", "train", "--run", tmp_path / "run", "--depths", depths)
    assert status == 2 and "6n + 2" in err and len(err.strip().splitlines()) == 1
    with pytest.raises(UserError):
        load("depth").parse_depths(depths)


def test_presets_name_depths_of_the_paper(load):
    from advdl.models.resnet import VARIANTS

    module = load("depth")
    for preset in module.PRESETS.values():
        assert all(f"plain{depth}" in VARIANTS for depth in module.parse_depths(preset.depths))

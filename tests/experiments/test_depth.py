"""Plain and residual nets in one run, in tiny: depth 8, two seeds."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from advdl import metrics
from advdl.errors import UserError
from advdl.models import resnet

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
        module.load,
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
        assert sum(f"test/{name}/error" in line for line in lines) == 2
        assert 0 <= summary["training_set"][f"{name}/error"] <= 1
    assert verdict["holds"] is None and "does not decide" in verdict["verdict"]  # by two seeds
    last = next(line for line in lines if line["step"] == 4 and "train/seconds" in line)
    for seed, value in enumerate(verdict["train/loss"]["plain8"]):
        assert value == last[f"train/plain8-s{seed}/loss"]
    page = (whole / "report" / "report.html").read_text()
    assert "More layers raise the training loss of plain nets" in page
    with Image.open(whole / "report" / "curves.png") as image:
        assert len(image.getcolors(1 << 24)) > 10


@pytest.mark.experiments
def test_no_two_nets_are_the_same(whole):
    figures = json.loads((whole / "summary.json").read_text())["training_set"]
    assert len({figures[f"{name}/loss"] for name in NETS}) == len(NETS)


@pytest.mark.experiments
def test_a_resumed_run_is_the_same_run(whole, verb, tmp_path):
    for steps in (2, 4):
        status, _, err = verb("depth", "train", "--run", tmp_path / "run", "--steps", steps, *TINY)
        assert status == 0, err
    assert "resuming" in err
    again, summary = (
        json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", whole)
    )
    for part in ("digest", "training_set", "test"):
        assert again[part] == summary[part]
    assert json.loads((tmp_path / "run" / "verdict.json").read_text()) == json.loads(
        (whole / "verdict.json").read_text()
    )


@pytest.mark.experiments
def test_evaluate_covers_both_sets_whatever_the_batch(whole, verb):
    summary = json.loads((whole / "summary.json").read_text())
    status, out, err = verb("depth", "evaluate", "--run", whole, "--json", "--batch", 100)
    assert status == 0, err
    figures = {
        f"{part}/{name}": value
        for part in ("training_set", "test")
        for name, value in summary[part].items()
    }
    assert json.loads(out) == pytest.approx(
        {"checkpoint step": summary["steps"], **figures}, rel=2e-4
    )


@pytest.mark.experiments
@pytest.mark.usefixtures("all_examples")
def test_each_set_is_counted_by_itself(load, opened):
    config = dataclasses.replace(load("depth").PRESETS["laptop"], depths="8", seeds=1, batch=100)
    splits, experiment = opened("depth", config)
    state = jax.jit(experiment.learner.init)(jax.random.key(0), splits.train(0))
    evaluate = jax.jit(experiment.learner.evaluate)
    counts = {
        part: sum(
            float(evaluate(state, batches[number])["plain8-s0/loss"].count)
            for number in range(len(batches))
        )
        for part, batches in splits.evaluations.items()
    }
    assert counts == {"training_set": 1433, "test": 364}


@pytest.mark.experiments
def test_seeds_of_a_net_start_apart_and_a_further_seed_changes_none(load, opened):
    kernels = {}
    for seeds in (1, 2):
        laptop = load("depth").PRESETS["laptop"]
        config = dataclasses.replace(laptop, depths="8", seeds=seeds, batch=8)
        splits, experiment = opened("depth", config)
        state = jax.jit(experiment.learner.init)(jax.random.key(0), splits.train(0))
        kernels[seeds] = {
            name: np.asarray(p.params["conv"]["kernel"]) for name, p in state.players.items()
        }
    np.testing.assert_array_equal(kernels[1]["plain8-s0/model"], kernels[2]["plain8-s0/model"])
    assert np.abs(kernels[2]["plain8-s0/model"] - kernels[2]["plain8-s1/model"]).min() > 0
    assert np.abs(kernels[2]["plain8-s0/model"] - kernels[2]["residual8-s0/model"]).min() > 0


def test_the_claim_is_about_the_deepest_and_the_shallowest_net_of_each_kind(load, opened):
    low, high, mixed = [0.1, 0.2, 0.15], [0.5, 0.3, 0.4], [0.18, 0.3, 0.4]

    def claim(depths, **losses):
        config = load("depth").Config(depths=depths)
        rules = opened("depth", config)[1].report.rules
        return metrics.all_hold([rule({"train/loss": losses}, {}) for rule in rules])

    def three(plain, residual):
        middle = {"plain32": low, "residual32": high}
        ends = {"plain20": plain[0], "plain56": plain[1]}
        ends |= {"residual20": residual[0], "residual56": residual[1]}
        return claim("20,56,32", **ends, **middle)

    assert three((low, high), (low, low)) is True
    assert three((low, mixed), (low, low)) is False  # the seeds are not apart
    assert three((low, high), (low, mixed)) is False
    assert three((high, low), (low, low)) is False
    assert three((low[:2], high[:2]), (low[:2], low[:2])) is None
    assert claim("20", plain20=low, residual20=low) is None


@pytest.mark.parametrize("depths", ["20,21", "2", "", "20,x", "20,20", "20;56"])
def test_depths_that_cannot_be_are_refused_in_one_line(depths, load, verb, tmp_path):
    status, _, err = verb("depth", "train", "--run", tmp_path / "run", "--depths", depths)
    assert status == 2 and "6n + 2" in err and len(err.strip().splitlines()) == 1
    with pytest.raises(UserError):
        resnet.parse_depths(depths, "--depths")


def test_presets_name_depths_of_the_paper(load):
    for preset in load("depth").PRESETS.values():
        assert all(
            f"plain{depth}" in resnet.VARIANTS
            for depth in resnet.parse_depths(preset.depths, "--depths")
        )

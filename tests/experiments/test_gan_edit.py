"""Edits of generated images: an encoder onto the manifold of a trained generator, and its use."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from advdl import cli, reports, train

SMALL = ["--width", 4, "--batch", 16, "--steps", 4, "--log-every", 2]
SMALL += ["--evaluate-every", 2, "--save-every", 2]
COLOR = {"kind": "color", "color": [255, 255, 255], "points": [[2, 2], [2, 6]], "radius": 0.8}


@pytest.fixture(scope="module")
def runs(load, tmp_path_factory):
    """(folder of a small trained generator, folder of an encoder onto it)."""
    folder = tmp_path_factory.mktemp("edit")

    def run(name, *flags):
        module = load(name)
        own = module.load, module.build, module.PRESETS, module.Predict
        cli.main(*own, ["train", "--run", str(folder / name), *map(str, flags)])

    tiny = ["--width", "8", "--z", "8", "--steps", "200", "--batch", "32", "--ema", "0.9"]
    run("gan", "--preset", "digits", *tiny)
    with pytest.MonkeyPatch.context() as patch:
        report = functools.partial(reports.EditReport, (5, 3), edits=4)
        patch.setattr(reports, "EditReport", report)
        run("gan_edit", "--gan", folder / "gan", *SMALL)
    return folder / "gan", folder / "gan_edit"


def loaded(folder, experiment, player):
    return train.load_player(folder, experiment, player)[2]


@pytest.mark.experiments
def test_a_run_is_trained_judged_drawn_and_goes_on(verb, runs):
    gan, folder = runs
    judged = json.loads((folder / "verdict.json").read_text())
    names = {"best of 64 random", "encoder", "optimization", "hybrid"}
    assert names == set(judged["reconstruction"]["test"])
    assert "editing" in judged["verdict"] and "pasted" in judged["edits"]
    for name in ("projections.png", "edits.png", "trade_off.png", "between.png"):
        assert (folder / "report" / name).exists()
    status, out, err = verb("gan_edit", "evaluate", "--run", folder, "--json")
    assert status == 0 and json.loads(out)["test/reconstruction_error"] > 0, err
    used = loaded(folder, "gan_edit", "model")["frozen"]["generator"]
    assert train.digest(used) == train.digest(loaded(gan, "gan", "generator"))


@pytest.mark.experiments
def test_the_generator_is_that_of_the_checkpoint_that_is_asked_for(
    load, opened, verb, runs, tmp_path
):
    """The run has its last one alone, which is the best too."""
    wanted = train.digest(loaded(runs[0], "gan", "generator"))
    for which in ("best", "200"):
        config = load("gan_edit").PRESETS["laptop"]
        config = dataclasses.replace(config, gan=str(runs[0]), gan_checkpoint=which, width=4)
        _, experiment = opened("gan_edit", config)
        own = loaded(runs[1], "gan_edit", "model")
        own["frozen"]["generator"] = jax.tree.map(np.zeros_like, own["frozen"]["generator"])
        begun = experiment.warm_start["model"](own)(own)
        assert train.digest(begun["frozen"]["generator"]) == wanted
    for which, line in (
        ("100", "no checkpoint of step 100; there are checkpoints of the steps 200"),
        ("one", "--gan-checkpoint is 'one'"),
    ):
        flags = ["--gan", runs[0], "--gan-checkpoint", which, "--run", tmp_path / which, *SMALL]
        status, _, err = verb("gan_edit", "train", *flags)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_pictures_of_ones_own_are_edited_and_joined(verb, tmp_path, runs):
    """By the run alone: without the run of the generator and its data."""
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(runs[1], run)
    config = json.loads((run / "config.json").read_text())
    config["config"]["gan"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (24, 20), dtype=np.uint8)).save(tmp_path / name)
    strokes = tmp_path / "strokes.json"
    strokes.write_text(json.dumps({"strokes": [COLOR]}))
    common = ["gan_edit", "predict", "--run", run, "--out", out]
    flags = ["--strokes", strokes, "--to", tmp_path / "b.png", "--json"]
    status, said, err = verb(*common, tmp_path / "a.png", *flags)
    assert status == 0, err
    found = json.loads(said)["a"]
    assert found["error_after"] < found["error_before"] and found["candidates"] >= 1
    with Image.open(out / "a_edited.png") as image:
        assert image.size == (20, 24)  # the original's own
    for name in ("a_sheet.png", "a_candidates.png", "a_between.png", "a_between.gif"):
        assert (out / name).exists()
    status, said, err = verb(*common, "--strokes", strokes, "--sample-seed", 4, "--json")
    assert status == 0 and "seed_4" in json.loads(said), err
    strokes.write_text(json.dumps({"strokes": [{**COLOR, "points": [[2, 9]]}]}))
    for flags, line in (
        (["--strokes", strokes], "lies outside of the image of 8 by 8 pixels"),
        (["--smoothness", -1], "--smoothness is -1.0; expected at least 0"),
    ):
        status, _, err = verb(*common, *flags)
        assert status == 2 and line in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--gan", "nowhere"], "first: python experiments/gan.py train --run nowhere"),
        (["--width", 0], "--width is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan_edit", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
@pytest.mark.parametrize(
    ("settings", "flags", "line"),
    [
        ({}, ["--batch", 1], "--batch is 1; expected at least 2"),
        ({"conditional": True}, [], "gan.py train --preset digits"),
        ({"width": 6}, [], "is of another network"),
    ],
)
def test_a_generator_that_cannot_be_edited_is_told_in_one_line(
    verb, tmp_path, runs, settings, flags, line
):
    gan = tmp_path / "gan"
    shutil.copytree(runs[0], gan)
    config = json.loads((gan / "config.json").read_text())
    config["config"] |= settings
    (gan / "config.json").write_text(json.dumps(config))
    status, _, err = verb("gan_edit", "train", "--gan", gan, "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err

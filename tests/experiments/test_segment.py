"""segment.py: every verb, every network, and what a person can get wrong."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
from PIL import Image

from advdl import data, models

SMALL = ["--data", "digit_scenes:16", "--size", "20x20"]
TINY = ["--model", "segnet_basic", "--width", 0.125, *SMALL, "--batch", 8, "--evaluate-every", 2, "--log-every", 1]


@pytest.fixture(scope="module")
def finished(load, tmp_path_factory):
    from advdl import cli

    module, folder = load("segment"), tmp_path_factory.mktemp("segment") / "run"
    cli.main(module.build, module.PRESETS, module.Predict, ["train", "--run", str(folder), "--steps", "4", *map(str, TINY)])
    return folder


def test_a_run_writes_curves_overlays_confusion_and_receptive_field(finished):
    for picture in ("curves", "overlays", "confusion", "receptive_field"):
        with Image.open(finished / "report" / f"{picture}.png") as image:
            assert min(image.size) > 64
    figures = json.loads((finished / "summary.json").read_text())["test"]
    assert {"pixel accuracy", "class accuracy", "mean IoU", "frequency weighted IoU", "loss"} <= set(figures)


def test_worst_and_best_are_of_all_test_images(load, monkeypatch, tmp_path):
    """Of more than are looked at, from all of them and not from the first."""
    module, shown = load("segment"), {}
    masks = np.zeros((900, 4, 4), np.uint8)
    pixels = np.arange(900)[:, None, None, None] // 4 + np.zeros((1, 4, 4, 1), int)
    source = data.ArrayScenes("sorted", "test", pixels.astype(np.uint8), masks, ("one", "two"))
    monkeypatch.setattr(module.present, "draw_curves", lambda *_: None)
    monkeypatch.setattr(module.present, "read_metrics", lambda *_: None)
    monkeypatch.setattr(module.present, "draw_confusion", lambda *_: None)
    monkeypatch.setattr(module.present, "draw_overlays", lambda *given, **_: shown.update(images=given[0]))
    monkeypatch.setattr(module, "draw_seen", lambda network, variables, image, x, path: shown.update(seen=(image, x)) or 1)
    state = {"model": types.SimpleNamespace(average={})}
    run = types.SimpleNamespace(report=tmp_path, folder=tmp_path)
    test = data.EvalBatches(source, 50, data.to_float(-1.0, 1.0))
    network = types.SimpleNamespace(apply=lambda variables, x, train: (x,))
    sections = module.report(network, state, source, test, run, {"confusion": None})
    assert "Of 256 test images, drawn at random." in [section.text for section in sections]
    assert len(shown["images"]) == 256 and np.histogram(shown["images"][:, 0, 0, 0], 5, (0, 225))[0].min() > 20
    np.testing.assert_array_equal(module.pixels(shown["seen"][1])[0], shown["seen"][0])


def test_it_goes_on_where_it_was_and_ends_as_one_never_stopped(finished, verb, tmp_path):
    assert verb("segment", "train", "--run", tmp_path / "run", "--steps", 2, *TINY)[0] == 0
    status, out, err = verb("segment", "train", "--run", tmp_path / "run", "--steps", 4, *TINY, "--json")
    assert status == 0 and "resuming" in err
    assert json.loads(out)["digest"] == json.loads((finished / "summary.json").read_text())["digest"]


def test_an_encoder_starts_from_what_it_learned_on_single_digits(verb, tmp_path):
    small = ["--data", "digit_scenes:16", "--size", "24x24", "--width", 0.0625, "--batch", 2, "--steps", 1]
    flags = ["--preset", "segnet", "--pretrain", 2, "--encoder-rate", 0.1, *small]
    status, _, err = verb("segment", "train", "--run", tmp_path / "run", *flags)
    assert status == 0 and "pretrained on 2 batches of single digits" in err


def test_evaluation_by_scales_mirrors_and_windows_and_beside_trivial_methods(finished, verb):
    flags = ["--scales", "0.75,1", "--mirror", "--window", 12, "--baselines", "--json"]
    status, out, err = verb("segment", "evaluate", "--run", finished, *flags)
    assert status == 0, err
    figures = json.loads(out)
    assert 0 <= figures["mean IoU"] <= 1
    assert 0 < figures["most frequent class"]["pixel accuracy"] <= figures["mode of each pixel"]["pixel accuracy"] + 1e-9


def test_predict_takes_a_photograph_of_any_size(finished, verb, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 21, 3), np.uint8)).save(photo)
    status, out, err = verb("segment", "predict", "--run", finished, "--out", tmp_path / "out", photo, "--json")
    assert status == 0, err
    assert sum(json.loads(out)[str(photo)].values()) == pytest.approx(1)
    with Image.open(tmp_path / "out" / "photo_mask.png") as mask:
        assert mask.size == (21, 37) and np.asarray(mask).max() <= 10
    assert (tmp_path / "out" / "photo_overlay.png").exists()


@pytest.mark.parametrize("model", sorted(models.SEGMENTERS))
def test_every_network_has_a_preset_for_a_laptop_and_its_step_can_be_traced(load, model):
    module = load("segment")
    preset = next(config for config in module.PRESETS.values() if config.model == model)
    assert preset.width < 1 and preset.data.startswith("digit_scenes")
    config = dataclasses.replace(preset, data="digit_scenes:16", batch=2, size="32x32", balance=True)
    experiment = module.build(config)
    batch = experiment.train(0)
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0), batch)
    _, metrics = jax.eval_shape(experiment.learner.step, state, batch, jax.random.key(0))
    assert {"loss", "pixel accuracy", "gradient_norm"} <= set(metrics)
    jax.eval_shape(experiment.learner.evaluate, state, experiment.test[0])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", "segnot"], "no network 'segnot'"),
        (["--size", "16"], "--size"),
        (["--scales", "0"], "--scales"),
        (["--data", "digit_scene"], "digit_scenes"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--backbone", "weights.safetensors"], "no file weights.safetensors"),
        (["--pretrain", 1], "--pretrain is for"),
        (["--encoder-rate", 0.1], "--encoder-rate"),
        (["--width", 0], "--width"),
        (["--backbone", "weights.npy"], "expected .safetensors"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(verb, tmp_path, flags, told):
    status, _, err = verb("segment", "train", "--run", tmp_path / "run", "--steps", 1, "--batch", 2, *SMALL, *flags)
    assert status == 2 and told in err.strip().splitlines()[-1]

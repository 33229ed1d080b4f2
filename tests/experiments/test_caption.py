"""Captions: a run that is whole, resumed to the same bits, asked without its data, and what is told
of what cannot be."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import models, weights
from advdl.models import captioner

TINY = [
    "--encoder",
    "resnet8",
    "--width",
    2,
    "--embedding",
    4,
    "--features",
    5,
    "--batch",
    4,
    "--steps",
    4,
    "--evaluate-every",
    2,
    "--log-every",
    2,
    "--save-every",
    2,
    "--image-size",
    16,
    "--layer",
    "stage1",
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder as COCO's, of two parts."""
    root, rng = tmp_path_factory.mktemp("coco"), np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 6)):
        (root / part).mkdir()
        images, notes = [], []
        for n in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
                root / part / f"{n}.jpg"
            )
            images.append({"id": n, "file_name": f"{n}.jpg"})
            notes += [
                {"image_id": n, "caption": f"A {color} cat, number {n}."}
                for color in ("red", "blue")
            ]
        (root / f"captions_{part}.json").write_text(
            json.dumps({"images": images, "annotations": notes})
        )
    return root


@pytest.fixture(scope="module")
def flags(photographs):
    """Of every feature at once."""
    attention = ["--attention", "--stochastic", 0.5, "--sampling", 0.5, "--dropout", 0.2]
    return ["--data", f"folder:{photographs}", "--longest", 6, *TINY, *attention]


@pytest.fixture(scope="module")
def finished(load, flags, tmp_path_factory):
    """The folder of a finished run."""
    from advdl import cli

    module, folder = load("caption"), tmp_path_factory.mktemp("caption") / "run"
    cli.main(
        module.load,
        module.build,
        module.PRESETS,
        module.Predict,
        ["train", "--run", str(folder), *map(str, flags)],
    )
    return folder


@pytest.mark.experiments
def test_a_run_is_scored_and_drawn(finished):
    judged = json.loads((finished / "verdict.json").read_text())
    names = {"bleu_1", "bleu_4", "rouge_l", "cider_d", "exact_match"}
    assert names <= judged["greedy"].keys() and "of 6 images of val" in judged["verdict"]
    assert {"the commonest caption", "a person against the others"} <= judged.keys()
    assert judged["a person against the others"]["bleu_1"] == pytest.approx(
        4 / 5
    )  # red for blue, in five words
    for name in ("curves.png", "other.png", "learned.png", "looks.png", "report.html"):
        assert (finished / "report" / name).exists()
    assert json.loads((finished / "spec.json").read_text())["spec"]["shape"] == [16, 16, 3]


@pytest.mark.experiments
def test_a_run_that_is_resumed_is_the_unbroken_one(verb, finished, flags, tmp_path):
    """As if it had been killed after its first checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints" / "4")
    (run / "summary.json").unlink()
    status, _, err = verb("caption", "train", "--run", run, *flags)
    assert status == 0 and f"resuming {run} at step 2" in err, err
    digests = [
        json.loads((folder / "summary.json").read_text())["digest"] for folder in (run, finished)
    ]
    assert digests[0] == digests[1]


@pytest.mark.experiments
def test_evaluation_has_baselines_beside_it(verb, finished):
    status, out, err = verb("caption", "evaluate", "--run", finished, "--baselines", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["val/nats_per_word"] > 0 and 0 <= found["val/exact_match"] <= 1
    assert "cider_d" in found["the caption of the nearest training image, by pixels"]


@pytest.mark.experiments
def test_a_run_is_asked_where_its_data_is_gone(verb, finished, photographs, tmp_path):
    run = tmp_path / "moved"
    shutil.copytree(finished, run)
    stored = json.loads((run / "config.json").read_text())
    stored["config"]["data"] = "folder:/nowhere"
    (run / "config.json").write_text(json.dumps(stored))
    files = [photographs / "val" / "0.jpg", photographs / "val" / "1.jpg"]
    status, out, err = verb(
        "caption", "predict", *files, "--run", run, "--out", tmp_path / "out", "--json"
    )
    assert status == 0, err
    assert list(json.loads(out)) == list(map(str, files))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0_looks.png",
        "1_looks.png",
    ]
    (tmp_path / "no.jpg").write_bytes(b"no image")
    wrong = (
        ([], "predict needs images"),
        ([tmp_path / "no.jpg"], "does not decode"),
        (["gone.png"], "cannot read gone.png"),
    )
    for asked, line in wrong:
        status, _, err = verb("caption", "predict", *asked, "--run", run)
        assert status == 2 and line in err and err.count("\n") == 1, err
    stored = json.loads((run / "spec.json").read_text())
    for damage, line in (
        ({"shape": [16, 16]}, "shape is a list; expected"),
        ({"shape": [16, 16, -3]}, "have no size"),
        ({"text": stored["spec"]["text"] | {"longest": 0}}, "have no size"),
        ({"text": stored["spec"]["text"] | {"tokens": ["a"]}}, "begins with"),
        ({"kind": "TranslationSpec"}, "its kind is 'TranslationSpec'"),
    ):
        (run / "spec.json").write_text(json.dumps(stored | {"spec": stored["spec"] | damage}))
        status, _, err = verb("caption", "predict", *files, "--run", run)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_a_frozen_encoder_is_the_files_after_training(load, opened, photographs, tmp_path):
    """Parameters and statistics, bit for bit, while the decoder learns."""
    module = load("caption")
    whole = models.classifier("resnet8").build(num_classes=3).clone(width=2)
    rng = np.random.default_rng(0)
    given = jax.tree.map(
        lambda x: rng.uniform(0.5, 1, x.shape).astype(x.dtype), models.abstract(whole, (16, 16, 3))
    )
    weights.export(tmp_path / "eye.safetensors", whole, given)
    config = dataclasses.replace(
        module.PRESETS["laptop"],
        data=f"folder:{photographs}",
        image_size=16,
        encoder="resnet8",
        width=2,
        layer="stage1",
        embedding=4,
        features=5,
        batch=4,
        init=str(tmp_path / "eye.safetensors"),
        encoder_rate=0.0,
    )
    splits, experiment = opened("caption", config)
    batch = splits.train(0)
    shapes = jax.eval_shape(experiment.learner.init, jax.random.key(0), batch)
    state = jax.tree.map(lambda x: jnp.asarray(rng.uniform(0, 1, x.shape).astype(x.dtype)), shapes)
    drawn = jax.device_get(state["model"].variables)
    before = experiment.warm_start["model"](drawn)(drawn)
    state = state.replace(players={"model": state["model"].starting_from(before)})
    after = jax.device_get(
        jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))[0]["model"].variables
    )
    for part in ("params", "batch_stats"):
        own = {name: given[part][name] for name in after[part]["encoder"]}
        jax.tree.map(np.testing.assert_array_equal, after[part]["encoder"], own)
    assert (
        np.abs(after["params"]["answer"]["kernel"] - before["params"]["answer"]["kernel"]).max() > 0
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "digit_scene"], "nearest: digit_scenes"),
        (["--data", "folder:/nowhere"], "no folder /nowhere"),
        (["--encoder", "resnet19"], "no network 'resnet19'"),
        (["--sampling", 2], "--sampling is 2"),
        (["--stochastic", 1, "--no-attention"], "give --attention too"),
        (["--encoder-rate", 0], "give --init FILE"),
        (["--init", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--init", "nowhere.safetensors", "--pretrain", 1], "leave one of them out"),
        (["--dropout", 1], "--dropout is 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("caption", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_broken_part_is_told_before_the_training(verb, photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "coco")
    (tmp_path / "coco" / "captions_val.json").write_text("[]")
    run, folder = tmp_path / "run", f"folder:{tmp_path / 'coco'}"
    status, _, err = verb("caption", "train", "--run", run, "--data", folder, *TINY)
    assert status == 2 and "captions_val.json: it is a list" in err and err.count("\n") == 1, err
    assert not run.exists()


def test_what_does_not_fit_the_images_is_told_in_one_line(verb, photographs, tmp_path):
    given = ["--data", f"folder:{photographs}", *TINY]
    for flags, line in (
        (["--layer", "stage9"], "no layer 'stage9'"),
        (["--encoder", "vgg16"], "--width is for residual networks"),
        (["--encoder", "alexnet", "--width", 0], "alexnet does not take images of 16 by 16"),
    ):
        status, _, err = verb("caption", "train", "--run", tmp_path / "run", *given, *flags)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
@pytest.mark.parametrize(
    ("preset", "shape", "places"),
    [
        ("laptop", (64, 64, 1), (4, 4)),
        ("show_and_tell", (64, 64, 1), (2, 2)),
        ("coco_overfit", (64, 64, 3), (4, 4)),
        ("paper", (224, 224, 3), (7, 7)),
    ],
)
def test_presets_look_at_maps_that_their_networks_have(load, preset, shape, places):
    config = load("caption").PRESETS[preset]
    encoder = models.encoder(config.encoder, config.width)
    given = config.encoder, encoder, shape, config.layer, config.attention
    assert config.preset == preset and captioner.looked_at(*given)[1] == places

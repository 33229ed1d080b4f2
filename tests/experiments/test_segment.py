"""segment.py: every verb, every network, and what a person can get wrong."""

import dataclasses
import functools
import json
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from advdl import data, models, train
from advdl.cli.experiment import Session
from advdl.nn import BatchNorm, Conv, Dropout
from advdl.nn.pixels import BYTES, IMAGENET, UNIT

SMALL = ["--data", "digit_scenes:16", "--size", "20x20"]
NARROW = ["--model", "fcn32s", "--width", 1 / 64]
TINY = [
    "--model",
    "segnet_basic",
    "--width",
    0.125,
    *SMALL,
    "--batch",
    8,
    "--evaluate-every",
    2,
    "--log-every",
    1,
]


@pytest.fixture(scope="module")
def finished(load, tmp_path_factory):
    from advdl import cli

    module, folder = load("segment"), tmp_path_factory.mktemp("segment") / "run"
    cli.main(
        module.load,
        module.build,
        module.PRESETS,
        module.Predict,
        ["train", "--run", str(folder), "--steps", "4", *map(str, TINY)],
    )
    return folder


@pytest.mark.experiments
def test_a_run_writes_pictures_figures_and_a_verdict(finished):
    for picture in ("curves", "overlays", "confusion", "receptive_field"):
        with Image.open(finished / "report" / f"{picture}.png") as image:
            assert min(image.size) > 64
    figures = json.loads((finished / "summary.json").read_text())["test"]
    assert {
        "pixel_accuracy",
        "class_accuracy",
        "mean_iou",
        "frequency_weighted_iou",
        "loss",
    } <= set(figures)
    verdict = json.loads((finished / "verdict.json").read_text())
    assert verdict["network"]["mean_iou"] == figures["mean_iou"]
    assert verdict["verdict"] in (finished / "report" / "report.html").read_text()


@pytest.mark.experiments
def test_it_goes_on_where_it_was_and_ends_as_one_never_stopped(
    finished, verb, unreported, tmp_path
):
    assert verb("segment", "train", "--run", tmp_path / "run", "--steps", 2, *TINY)[0] == 0
    status, out, err = verb(
        "segment", "train", "--run", tmp_path / "run", "--steps", 4, *TINY, "--json"
    )
    assert status == 0 and "resuming" in err
    assert (
        json.loads(out)["digest"] == json.loads((finished / "summary.json").read_text())["digest"]
    )


@pytest.mark.experiments
def test_an_encoder_starts_from_what_it_learned_on_single_digits(verb, unreported, tmp_path):
    small = [
        "--data",
        "digit_scenes:16",
        "--size",
        "24x24",
        "--width",
        0.0625,
        "--batch",
        2,
        "--steps",
        1,
    ]
    flags = ["--preset", "segnet", "--pretrain", 2, "--encoder-rate", 0.1, *small]
    status, _, err = verb("segment", "train", "--run", tmp_path / "run", *flags)
    assert status == 0 and "pretrained on 2 batches of single digits" in err


@pytest.mark.experiments
def test_evaluation_by_scales_mirrors_and_windows_and_beside_trivial_methods(finished, verb):
    flags = ["--scales", "0.75,1", "--mirror", "--window", 12, "--baselines", "--batch", 64]
    status, out, err = verb("segment", "evaluate", "--run", finished, *flags, "--json")
    assert status == 0, err
    figures = json.loads(out)
    assert 0 <= figures["test/mean_iou"] <= 1
    assert (
        0
        < figures["most_frequent_class"]["pixel_accuracy"]
        <= figures["mode_of_each_pixel"]["pixel_accuracy"] + 1e-9
    )


def photograph(folder):
    """A file of 37 by 21 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (37, 21, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    return folder / "photo.jpg"


@pytest.mark.experiments
def test_predict_takes_a_photograph_of_any_size(finished, verb, tmp_path):
    photo = photograph(tmp_path)
    status, out, err = verb(
        "segment", "predict", "--run", finished, "--out", tmp_path / "out", photo, "--json"
    )
    assert status == 0, err
    assert sum(json.loads(out)[str(photo)].values()) == pytest.approx(1)
    with Image.open(tmp_path / "out" / "photo_mask.png") as mask:
        assert mask.size == (21, 37) and np.asarray(mask).max() <= 10
    assert (tmp_path / "out" / "photo_overlay.png").exists()


FAR = {"fcn32s", "front_end", "dilation", "dilation_large"}  # whose scores all come from fc6


@pytest.mark.parametrize("model", sorted(set(models.SEGMENTERS) - FAR))
def test_presets_for_a_laptop_have_one_task(load, model):
    presets = load("segment").PRESETS.values()
    made = [each for each in presets if each.data.startswith("digit_scenes")]
    own = [each for each in made if each.model == model]
    assert min(map(int, made[0].size.split("x"))) >= 96
    assert own and all((each.data, each.size) == (made[0].data, made[0].size) for each in own)


@pytest.mark.experiments
@pytest.mark.parametrize("model", sorted(models.SEGMENTERS))
def test_every_network_has_a_preset_for_a_laptop_and_its_step_can_be_traced(load, opened, model):
    module = load("segment")
    preset = next(config for config in module.PRESETS.values() if config.model == model)
    assert preset.width < 1 and preset.data.startswith("digit_scenes")
    config = dataclasses.replace(  # a second stage needs another run, or a rate
        preset, data="digit_scenes:16", batch=2, size="32x32", balance=True, encoder_rate=1.0
    )
    splits, experiment = opened("segment", config)
    batch = splits.train(0)
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0), batch)
    _, metrics = jax.eval_shape(experiment.learner.step, state, batch, jax.random.key(0))
    assert {"loss", "pixel_accuracy", "gradient_norm"} <= set(metrics)
    jax.eval_shape(experiment.learner.evaluate, state, splits.evaluations["test"][0])


@pytest.mark.slow
@pytest.mark.usefixtures("all_examples")
def test_checkpoints_are_chosen_by_scenes_that_are_neither_trained_nor_tested_on(load, opened):
    config = load("segment").Config(data="digit_scenes:16", size="20x20", batch=4)
    splits, experiment = opened("segment", config)
    train, val = splits.train.source, splits.evaluations["val"].source
    assert list(splits.evaluations) == ["val", "test"] and (len(train), len(val)) == (1800, 200)
    assert experiment.monitor == ("val/mean_iou", "max")
    both = np.concatenate([one.read(np.arange(len(one)))["image"] for one in (train, val)])
    whole = data.open_scenes("digit_scenes:16", "train", size=(20, 20)).read(np.arange(2000))
    assert {x.tobytes() for x in both} == {x.tobytes() for x in whole["image"]}
    splits, experiment = opened("segment", dataclasses.replace(config, validation=0.0))
    assert list(splits.evaluations) == ["test"] and experiment.monitor is None
    assert len(splits.train.source) == 2000


@pytest.mark.parametrize("validation", [0.0, 0.1])
def test_a_folder_with_a_part_to_choose_by_is_trained_on_whole(load, opened, tmp_path, validation):
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        for part, mode in (("images", "RGB"), ("masks", "L")):
            (tmp_path / split / part).mkdir(parents=True)
            for n in range(count):
                Image.new(mode, (8, 8), n % 2).save(tmp_path / split / part / f"{n}.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    settings = {"data": f"folder:{tmp_path}", "batch": 2, "validation": validation}
    splits, experiment = opened("segment", load("segment").Config(**settings))
    assert len(splits.train.source) == 6
    assert {k: len(one.source) for k, one in splits.evaluations.items()} == {"val": 3, "test": 2}
    assert experiment.monitor == ("val/mean_iou", "max")


class Mini(nn.Module):
    """A network that compiles in no time, with all that the experiment's flags are about: bias,
    normalization, dropout."""

    pixels: ClassVar = UNIT
    num_classes: int
    width: float = 1.0
    dtype: Any = None
    dropout: float = 0.0
    norm: Any = BatchNorm
    later: bool = False

    @nn.compact
    def __call__(self, x, train, sample=False):
        x = Conv(x.shape[-1], 1, name="later")(x) if self.later else x
        x = jax.nn.relu(self.norm(name="norm")(Conv(4, 3, padding=1, name="conv")(x), train))
        return Conv(self.num_classes, 1, name="score")(
            Dropout(self.dropout)(x, train or sample)
        ), {}


@pytest.fixture
def mini(load, opened, monkeypatch):
    """`mini(bias_rate=2.0)` -> data and experiment with `Mini` and these settings, plain SGD on
    made-up scenes."""

    def open_mini(**settings):
        dropout = settings.pop("dropout", 0.0)
        monkeypatch.setitem(models.SEGMENTERS, "mini", functools.partial(Mini, dropout=dropout))
        plain = {
            "data": "blank:20x20x3:5",
            "batch": 2,
            "model": "mini",
            "momentum": 0.0,
            "weight_decay": 0.0,
        }
        return opened("segment", load("segment").Config(**plain | settings))

    return open_mini


def updated(splits, experiment):
    """(Gradient norm, change of each parameter) of the first update."""
    batch, key = splits.train(0), jax.random.key(0)
    state = jax.jit(experiment.learner.init)(key, batch)
    new, metrics = jax.jit(experiment.learner.step)(state, batch, key)
    change = jax.tree.map(
        lambda a, b: np.asarray(b - a), state["model"].params, new["model"].params
    )
    return metrics["gradient_norm"].compute(), change


def test_a_loss_per_image_is_as_many_times_that_per_pixel_as_an_image_has_pixels(mini):
    """Here every pixel counts."""
    per_pixel, per_image = (updated(*mini(loss_per=what))[0] for what in ("pixel", "image"))
    assert per_image == pytest.approx(20 * 20 * per_pixel, rel=1e-4)


@pytest.mark.experiments
def test_pixels_between_objects_weigh_more_by_what_the_border_says(mini):
    """The loss with border weights is that without and their product with the cross-entropy."""
    batch, key, losses = None, jax.random.key(0), []
    for weight in (0.0, 10.0):
        splits, experiment = mini(
            data="digit_scenes:16", size="40x40", batch=4, border_weight=weight
        )
        batch = splits.train(0)
        state = jax.jit(experiment.learner.init)(key, batch)
        losses.append(jax.jit(experiment.learner.step)(state, batch, key)[1]["loss"].compute())
    network = Mini(num_classes=11)
    (logits, _), _ = network.apply(
        state["model"].variables, batch["image"], train=True, mutable=["batch_stats"]
    )
    p = np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits)), batch["mask"][..., None].astype(int), -1
    )[..., 0]
    assert batch["border"].max() > 1
    assert losses[0] == pytest.approx(-p.mean(), rel=1e-4)
    assert losses[1] == pytest.approx(-(p * (1 + batch["border"])).mean(), rel=1e-4)


def test_biases_learn_at_their_own_rate_and_nothing_else_does(mini):
    (_, once), (_, twice) = (
        updated(*mini(bias_rate=rate, learning_rate=0.1)) for rate in (1.0, 2.0)
    )
    for layer, leaves in once.items():
        for name, change in leaves.items():
            factor = 2 if name == "bias" and "kernel" in leaves else 1
            np.testing.assert_allclose(twice[layer][name], factor * change, rtol=1e-3, atol=1e-6)
    assert np.abs(once["score"]["bias"]).min() > 1e-4


@pytest.mark.experiments
def test_a_run_that_recomputes_statistics_is_evaluated_and_used_again_as_it_was(
    verb, unreported, tmp_path, monkeypatch
):
    """Without its training data: the statistics lie beside its checkpoint. The checkpoint itself
    has the moving ones."""
    flags = [*TINY, "--validation", 0, "--recompute-statistics", 2, "--flip", "--json"]
    status, out, err = verb("segment", "train", "--run", tmp_path / "run", "--steps", 2, *flags)
    assert status == 0, err
    trained = json.loads(out)["test"]
    held_out = data.open_scenes("digit_scenes:16", "test", size=(20, 20))

    def open_scenes(spec, split, *_):
        assert split == "test", "training data were opened"
        return held_out

    monkeypatch.setattr(data, "open_scenes", open_scenes)
    evaluate = "segment", "evaluate", "--run", tmp_path / "run", "--json"
    again = json.loads(verb(*evaluate)[1])
    assert {name: again[f"test/{name}"] for name in trained} == trained
    moving = json.loads(verb(*evaluate, "--recompute-statistics", 0)[1])
    assert moving["test/loss"] != pytest.approx(trained["loss"], rel=1e-3)


@pytest.mark.experiments
def test_predict_needs_no_data(finished, load, verb, tmp_path, monkeypatch):
    def open_scenes(*_):
        raise AssertionError("data were opened")

    monkeypatch.setattr(data, "open_scenes", open_scenes)
    status, out, err = verb(
        "segment", "predict", "--run", finished, "--out", tmp_path / "out", photograph(tmp_path)
    )
    assert status == 0, err


@pytest.mark.experiments
def test_a_network_begins_as_that_of_an_earlier_stage(verb, tmp_path, monkeypatch):
    """All that the earlier run has, its statistics too; what it has not is new."""
    monkeypatch.setitem(models.SEGMENTERS, "mini", Mini)
    monkeypatch.setitem(models.SEGMENTERS, "second", functools.partial(Mini, later=True))
    flags = ["--data", "blank:20x20x3:5", "--batch", 2, "--validation", 0, "--steps", 1]
    first, second = tmp_path / "first", tmp_path / "second"

    def trained(folder, model, *more):
        return verb("segment", "train", "--run", folder, "--model", model, *flags, *more)

    def variables(folder):
        return train.load_player(folder, "segment", "model")[2]

    assert trained(first, "mini", "--learning-rate", 0.1)[0] == 0
    status, _, err = trained(second, "second", "--start", first, "--learning-rate", 1e-30)
    assert status == 0 and "8 of 10 arrays are those of step 1" in err, err
    old, new = variables(first)["params"], variables(second)["params"]
    assert np.abs(new.pop("later")["kernel"]).max() > 0
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-20), new, old)
    for number, (more, told) in enumerate(
        (
            ([], "is of another network: ['params']['later']"),
            (["--backbone", "vgg.pth"], "no published backbone"),
            (["--pretrain", 1], "--pretrain is for"),
        )
    ):
        folder = tmp_path / f"third-{number}"
        status, _, err = trained(folder, "mini", "--start", second, *more)
        assert status == 2 and told in err.strip().splitlines()[-1], err


@pytest.mark.parametrize("placement", ["jit", "pmap", "mesh"])
def test_statistics_are_recomputed_for_evaluation_and_not_for_training(
    load, mini, tmp_path, placement
):
    """The average over batches of their own means and variances, in NumPy; the trained state keeps
    the moving ones."""
    settings = {
        "data": "digit_scenes:16",
        "size": "20x20",
        "batch": 8,
        "recompute_statistics": 3,
        "flip": True,
    }
    config = load("segment").Config(model="mini", placement=placement, **settings)
    splits, experiment = mini(**settings)
    session = Session(
        "segment", config, train.Run(tmp_path), lambda _: splits, lambda config, spec: experiment
    )
    before = session.new()
    after = session.evaluated(0, before)
    kernel = np.asarray(before["model"].params["conv"]["kernel"]).transpose(3, 2, 0, 1)
    images = (splits.train(n)["image"].transpose(0, 3, 1, 2) for n in range(3))
    maps = [np.asarray(jax.lax.conv(x, kernel, (1, 1), "SAME")) for x in images]
    found = after["model"].collections["batch_stats"]["norm"]
    np.testing.assert_allclose(
        found["mean"], np.mean([x.mean((0, 2, 3)) for x in maps], 0), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(
        found["var"], np.mean([x.var((0, 2, 3)) for x in maps], 0), rtol=1e-3
    )
    np.testing.assert_array_equal(before["model"].collections["batch_stats"]["norm"]["mean"], 0)
    jax.tree.map(np.testing.assert_array_equal, after["model"].params, before["model"].params)


@pytest.mark.experiments
def test_evaluation_by_sampling_is_of_the_mean_over_draws_of_dropout(load, opened, monkeypatch):
    """And without samples, of the network without dropout."""
    tiny = functools.partial(models.segnet.SegNetBasic, features=2, levels=2, dropout=0.5)
    monkeypatch.setitem(models.SEGMENTERS, "tiny", tiny)
    config = load("segment").Config(
        data="digit_scenes:16", size="20x20", batch=4, model="tiny", samples=3
    )
    (splits, sampling), (_, averaging) = (
        opened("segment", dataclasses.replace(config, samples=count)) for count in (3, 0)
    )
    batch = splits.evaluations["test"][0]
    batch["image"] /= 255  # of bytes an untrained network is too sure
    state = jax.jit(sampling.learner.init)(jax.random.key(0), batch)

    def loss(experiment):
        return jax.jit(experiment.learner.evaluate)(state, batch)["loss"].compute()

    def expected(key=None):
        network = tiny(num_classes=11)
        options = {} if key is None else {"sample": True, "rngs": {"dropout": key}}
        return jax.nn.softmax(
            network.apply(state["model"].variables, batch["image"], train=False, **options)[0]
        )

    def entropy(p):
        return -float(
            np.log(
                np.take_along_axis(np.asarray(p), batch["mask"][..., None].astype(int), -1)
            ).mean()
        )

    draws = [expected(key) for key in jax.random.split(jax.random.key(0), 3)]
    assert loss(sampling) == pytest.approx(entropy(sum(draws) / 3), rel=1e-4)
    assert loss(averaging) == pytest.approx(entropy(expected()), rel=1e-4)
    assert loss(sampling) != pytest.approx(loss(averaging), rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", "segnot"], "no network 'segnot'"),
        (["--size", "16"], "--size"),
        (["--scales", "0"], "--scales"),
        (["--data", "digit_scene"], "digit_scenes"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--backbone", "weights.safetensors"], "no published backbone fits UNet"),
        pytest.param(
            [*NARROW, "--backbone", "weights.safetensors"],
            "cannot read weights.safetensors: No such file",
            marks=pytest.mark.slow,
        ),
        (["--pretrain", 1], "--pretrain is for"),
        (["--encoder-rate", 0.1], "--encoder-rate"),
        ([*NARROW, "--start", "nowhere"], "nowhere holds no run of segment"),
        (["--start-checkpoint", "best"], "give that run as --start"),
        (["--width", 0], "--width is 0.0; expected more than 0 and at most 1"),
        (["--momentum", 1], "--momentum is 1.0; expected at least 0 and less than 1"),
        (["--elastic", -1], "--elastic is -1.0; expected at least 0"),
        (["--model", "unet_valid", "--window", 100], "tiles of a UNet need 204 pixels"),
        (["--balance-void"], "--balance-void is for --balance"),
        (["--model", "fcn8s", "--recompute-statistics", 1], "FCN has none"),
        (["--samples", 2], "--samples 2 is for SegNets with dropout"),
        (["--learned", "inner"], "--learned inner is for the FCNs"),
        pytest.param(
            [*NARROW, "--backbone", "weights.npy"],
            "expected .safetensors",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(verb, tmp_path, flags, told):
    status, _, err = verb(
        "segment", "train", "--run", tmp_path / "run", "--steps", 1, "--batch", 2, *SMALL, *flags
    )
    assert status == 2 and told in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("model", "backbone", "pixels"),
    [("fcn8s", "vgg16.safetensors", IMAGENET), ("fcn8s", "", UNIT), ("segnet_basic", "", BYTES)],
)
def test_a_network_gets_the_pixels_that_its_weights_were_trained_on(
    load, opened, tmp_path, model, backbone, pixels
):
    """torchvision's with its VGG-16, whatever the network's own are."""
    module = load("segment")
    file = tmp_path / backbone if backbone else ""
    if backbone:
        file.write_bytes(b"")  # it is read when training starts
    config = module.Config(model=model, data="blank:32x32x3:11", batch=2, backbone=str(file))
    splits, _ = opened("segment", config)
    gray = np.full((2, 32, 32, 3), 128, np.uint8)
    for batch in (splits.train(0), splits.evaluations["test"][0]):
        np.testing.assert_allclose(
            batch["image"], pixels.from_unit(gray / np.float32(127.5) - 1), atol=1e-4
        )

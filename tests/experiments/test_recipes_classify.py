"""The recipe of every preset of classify.py that is called after a paper: each value beside its
source."""

import numpy as np
import pytest

from advdl import data, models
from advdl.train import schedule

RECIPES = {
    # He et al. 2015, arXiv:1512.03385, section 4.2
    "paper": dict(
        model="resnet20",
        data="tfds:cifar10",
        batch=128,
        steps=64_000,
        learning_rate=0.1,
        momentum=0.9,
        optimizer="momentum",
        weight_decay=1e-4,
        decay="all",
        crop=4,
        flip=True,
        color=0.0,
        ema=0.0,
        bias_rate=1.0,
        clip=0.0,
        warmup=0,
    ),
    # Krizhevsky et al. 2012: section 5 (batch, momentum, decay, rate, 90 cycles of 1.2M images),
    # 4.1 (crops of 224 of 256, mirror images, ten crops, colors of deviation 0.1)
    "alexnet-2012": dict(
        model="alexnet",
        batch=128,
        learning_rate=0.01,
        momentum=0.9,
        optimizer="momentum",
        weight_decay=5e-4,
        decay="all",
        view="crop",
        crop=0,
        flip=True,
        color=0.1,
        colors="imagenet",
        ten_crop=True,
        ema=0.0,
        clip=0.0,
        warmup=0,
        bias_rate=1.0,
    ),
    # BVLC/caffe, models/bvlc_googlenet: quick_solver.prototxt (base_lr 0.01, poly 0.5, momentum
    # 0.9, weight_decay 0.0002, max_iter 2400000), train_val.prototxt (batch 32, crop 224 of 256,
    # mirror, lr_mult 2 and decay_mult 0 of biases)
    "googlenet-2014": dict(
        model="googlenet",
        batch=32,
        steps=2_400_000,
        learning_rate=0.01,
        schedule="poly",
        power=0.5,
        momentum=0.9,
        optimizer="momentum",
        weight_decay=2e-4,
        decay="kernels",
        bias_rate=2.0,
        view="crop",
        crop=0,
        flip=True,
        color=0.0,
        ema=0.0,
    ),
    # He et al. 2015, section 3.4
    "resnet-2015": dict(
        model="resnet50",
        batch=256,
        steps=600_000,
        learning_rate=0.1,
        momentum=0.9,
        optimizer="momentum",
        weight_decay=1e-4,
        decay="all",
        view="scale",
        crop=0,
        flip=True,
        color=0.1,
        ema=0.0,
        label_smoothing=0.0,
        warmup=0,
    ),
    # pytorch/vision, "How to train state-of-the-art models using TorchVision's latest primitives":
    # 8 GPUs of 128 images, 600 epochs, five of them warmup
    "resnet-modern": dict(
        model="resnet50_v1_5",
        batch=8 * 128,
        learning_rate=0.5,
        schedule="cosine",
        momentum=0.9,
        optimizer="momentum",
        weight_decay=2e-5,
        decay="kernels",
        image_size=176,
        test_size=224,
        test_resize=232,
        flip=True,
        policy="trivial",
        erasing=0.1,
        mixup=0.2,
        cutmix=1.0,
        label_smoothing=0.1,
    ),
}


@pytest.mark.parametrize("preset", RECIPES)
def test_every_value_is_the_sources(preset, load):
    config = load("classify").PRESETS[preset]
    assert {name: getattr(config, name) for name in RECIPES[preset]} == RECIPES[preset]
    assert config.preset == preset


def test_every_preset_but_the_laptops_is_pinned(load):
    assert set(load("classify").PRESETS) - {"laptop"} == set(RECIPES)


def test_epochs_are_the_papers(load):
    presets = load("classify").PRESETS
    assert presets["alexnet-2012"].steps * 128 / 1.28e6 == pytest.approx(
        90
    )  # 1.2 million "roughly", 1,281,167 exactly
    modern = presets["resnet-modern"]
    assert modern.steps * 1024 / 1_281_167 == pytest.approx(600, rel=2e-3)
    assert modern.warmup * 1024 / 1_281_167 == pytest.approx(5, rel=2e-3)


def test_rates_fall_as_often_as_in_the_papers(load):
    """Krizhevsky et al. 2012 divide by 10 three times; He et al. 2015 at 32k and 48k of 64k
    updates."""
    presets = load("classify").PRESETS
    for preset, falls in (("alexnet-2012", 3), ("paper", 2)):
        config = presets[preset]
        rate = schedule(config.schedule, config.learning_rate, config.steps)
        assert float(rate(config.steps - 1)) == pytest.approx(config.learning_rate / 10**falls)
    rate = schedule("step", 0.1, 64_000)
    assert [round(float(rate(t)), 6) for t in (31_999, 32_001, 47_999, 48_001)] == [
        0.1,
        0.01,
        0.01,
        0.001,
    ]


def test_the_average_decays_by_torchvisions_rule(load):
    """references/classification: each 32nd update, by 1 - (1 - decay) · world size · batch · 32 /
    epochs."""
    every_32nd = 1 - (1 - 0.99998) * (8 * 128 * 32 / 600)
    assert load("classify").PRESETS["resnet-modern"].ema == pytest.approx(
        every_32nd ** (1 / 32), abs=5e-7
    )


def test_alexnets_crops_are_of_images_whose_shorter_side_is_256(load):
    """Section 4.1; the look that the preset gives, on an image of 512 by 600."""
    module = load("classify")
    pixels = models.classifier("alexnet").build().pixels
    view = module.PRESETS["alexnet-2012"].preprocessing(True, pixels).train()
    assert view.size == (224, 224)
    assert {view.box(512, 600, u)[2] for u in np.random.default_rng(0).random((9, view.draws))} == {
        448
    }


def test_biases_of_caffes_recipe_learn_at_twice_the_rate_and_do_not_decay(load, monkeypatch):
    """train_val.prototxt: lr_mult 1, decay_mult 1 of kernels; lr_mult 2, decay_mult 0 of biases."""
    module = load("classify")
    recipe = {name: RECIPES["googlenet-2014"][name] for name in ("decay", "bias_rate", "optimizer")}
    config = module.Config(
        model="resnet8", learning_rate=0.01, weight_decay=0.5, momentum=0.0, **recipe
    )
    seen = []
    player = module.Config.player
    monkeypatch.setattr(
        module.Config,
        "player",
        lambda self, init, loss, rule: seen.append(rule) or player(self, init, loss, rule),
    )
    module.build(config, data.ImageSpec((8, 8, 1), ("a", "b")))
    params = {"layer": {"kernel": np.ones((1, 1)), "bias": np.ones(1)}}
    gradient = {"layer": {"kernel": np.zeros((1, 1)), "bias": np.ones(1)}}
    update, _ = seen[0].update(gradient, seen[0].init(params), params)
    assert float(update["layer"]["kernel"][0, 0]) == pytest.approx(-0.01 * 0.5)
    assert float(update["layer"]["bias"][0]) == pytest.approx(-2 * 0.01)

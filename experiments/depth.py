"""Deep plain nets train worse than shallow ones, and residual nets do not (He et al. 2015).

Figures 1 and 6 of arXiv:1512.03385: plain and residual nets of the same depths are trained side by
side on the same batches; seeds differ in the initialization alone.

    python experiments/depth.py train                                   # digits, depths 20 and 56
    python experiments/depth.py train --preset paper --data-dir TFDS    # CIFAR-10, depths 20 to 56
    python experiments/depth.py train --depths 20,32,44,56 --seeds 5    # other depths, 6n + 2 each

Training loss over the last tenth of the updates, three seeds: plain 0.00051 with 20 layers and 1.25
with 56, residual 0.00012 and 0.000061. All recorded results: README.md.
"""

from dataclasses import dataclass, replace
from functools import cache

import optax

from advdl import cli, data, losses, reports, train
from advdl.metrics import Mean, Order
from advdl.models import resnet


@dataclass(frozen=True)
class Config(cli.Config):
    depths: str = "20,56"
    """Numbers of weighted layers of the nets, 6n + 2 each."""
    seeds: cli.Few = 3
    """Number of initializations of each net; fewer than three decide nothing."""
    weight_decay: cli.NonNegative = 1e-4
    """Factor of the L2 penalty on all parameters."""
    momentum: cli.Rate = 0.9
    """Momentum of SGD."""
    crop: cli.Border = 0
    """Number of black pixels around an image, from which a random crop of its size is taken."""
    flip: bool = False
    """Mirror half of the training images."""


# He et al. 2015, section 4.2 and figure 6; not run here. Depth 110 begins there with a learning
# rate of 0.01 for about 400 updates: --depths 20,32,44,56,110 --warmup 400. Departures: pixels are
# brought to [-1, 1], where the paper subtracts the mean of each; the surroundings are black.
PAPER = Config(preset="paper", data="tfds:cifar10", depths="20,32,44,56", seeds=1, steps=64_000)
PAPER = replace(PAPER, learning_rate=0.1, schedule="step", crop=4, flip=True)
LAPTOP = Config(steps=450, learning_rate=0.1, warmup=100)
PRESETS = {
    "laptop": replace(LAPTOP, evaluate_every=75, save_every=150, log_every=5),
    "paper": replace(PAPER, evaluate_every=2000, save_every=2000, log_every=100),
}
SHORTCUTS = {"plain": None, "residual": "A"}
LOSS = "train/loss"


def load(config: Config) -> data.Splits:
    source = cache(lambda split: data.open_source(config.data, split, config.data_dir))
    as_float = data.to_float(-1.0, 1.0)
    crop = [data.random_crop(config.crop, fill=-1.0)] if config.crop else []
    augment = data.compose(as_float, *crop, *[data.random_flip()] * config.flip)

    def spec():
        data.same_classes(source("train"), source("test"))
        return data.ImageSpec.of(source("train"))

    def batches(part, spec):
        if part == "train":
            return data.TrainBatches(source("train"), config.batch, config.seed, augment)
        own = source("test" if part == "test" else "train")
        return data.EvalBatches(own, config.batch, as_float)

    return data.Splits.of(spec, batches, ("train", "training_set", "test"))


def learner(network: resnet.ResNet, config: Config) -> train.Learner:
    def figures(logits, batch, mask=None):
        loss = Mean.of(losses.cross_entropy(logits, batch["label"]), mask)
        return {"loss": loss, "error": Mean.of(logits.argmax(-1) != batch["label"], mask)}

    def loss(variables, batch, rng):
        (logits, _), collections = train.training(network, variables, batch["image"])
        found = figures(logits, batch)
        return train.Loss(found.pop("loss"), found, collections)

    def evaluate(variables, batch):
        logits, _ = network.apply(variables, batch["image"], train=False)
        return figures(logits, batch, batch["mask"])

    rule = optax.sgd(config.scheduled(), config.momentum)
    rule = train.chain(rule, config.clip, config.weight_decay)
    return train.minimize(config.player(train.initial(network, "image"), loss, rule), evaluate)


def build(config: Config, spec: data.ImageSpec) -> cli.Experiment:
    depths = resnet.parse_depths(config.depths, "--depths")
    learners, groups, ends = {}, {}, {}
    kinds = spec.classes("a classifier")
    for kind, shortcut in SHORTCUTS.items():
        names = groups[f"{kind} nets"] = {f"{kind}{depth}": f"{depth} layers" for depth in depths}
        for name, depth in zip(names, depths, strict=True):
            fields = {"shortcut": shortcut, "dtype": config.dtype}
            learners[name] = learner(resnet.cifar(depth, kinds, **fields), config)
        ends[kind] = f"{kind}{depths[0]}", f"{kind}{depths[-1]}"
    compared = train.Comparison(learners, config.seeds)
    report = reports.ComparisonReport(
        compared,
        "More layers raise the training loss of plain nets, and not that of residual nets.",
        [Order(LOSS, *ends["plain"]), Order(LOSS, *ends["residual"], higher=False)],
        {
            LOSS: "training loss over the last tenth of the updates",
            "training_set/loss": "loss on the whole training set",
            "training_set/error": "error on the whole training set",
            "test/error": "error on the test set",
        },
        shown=sorted({*ends["plain"], ends["residual"][1]}),
        curves=[
            reports.Curve("loss", {"training": LOSS}, log=True),
            reports.Curve("error", {"training": "train/error", "test": "test/error"}),
        ],
        groups=groups,
    )
    return cli.Experiment(compared.learner, report)


if __name__ == "__main__":
    cli.main(load, build, PRESETS)

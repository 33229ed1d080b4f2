"""Image classification: AlexNet, GoogLeNet, VGG, ResNet and plain nets, each trained as its paper
says.

    python experiments/classify.py train                                             # laptop: real handwritten digits
    python experiments/classify.py train --preset paper --data-dir TFDS              # CIFAR-10: 8.75 % error with ResNet-20
    python experiments/classify.py train --model googlenet --data folder:PATH        # your own PATH/train/CLASS/*.jpg
    python experiments/classify.py train --preset resnet-2015 --data-dir TFDS        # ImageNet: see PRESETS
    python experiments/classify.py train --model resnet50_v1_5 --init resnet50.pth --data folder:PATH   # fine-tune
    python experiments/classify.py evaluate --model resnet50_v1_5 --weights resnet50.pth --data folder:PATH   # no run needed
    python experiments/classify.py predict --model resnet50_v1_5 --weights resnet50.pth photo.jpg
    python experiments/classify.py evaluate --baselines                              # beside SVM and random forest

Recorded on two cores of an AMD EPYC, JAX 0.10.2. Digits, `train --seed S`, S = 0, 1, 2: 99.5, 99.5
and 98.9 % of 364 test images in 31, 33 and 29 s of training (always the most frequent class: 10.2
%; scikit-learn's SVC on the same split: 98.1 %). Fashion-MNIST, ResNet-20, eight epochs, other work
beside it on the same cores:

    python experiments/classify.py train --data tfds:fashion_mnist --data-dir TFDS --steps 3750 --crop 2 --flip

    92.85 % of 10,000 test images (one class: 10 %), cross-entropy 0.1995, top-5 99.97 %, 1896 s of training, seed 0
"""

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

from advdl import cli, data, losses, models, present, train, weights
from advdl.errors import UserError, nearest
from advdl.metrics import Confusion, Mean, classic_methods, top_k


@dataclass(frozen=True)
class Config(cli.Config):
    model: str = "resnet20"
    """A network of `python -m advdl.models`; resnetN and plainN of every depth 6n + 2 for small
    images."""
    shortcut: Literal["", "A", "B", "C"] = ""
    """Of a residual network, where the width grows: zeros appended (A), projections (B),
    projections everywhere (C)."""
    scan: bool = False
    """Run equal blocks of a residual network as a loop: deep ones compile faster, and run slower on
    CPU."""
    init: str = ""
    """File of weights to start from, .safetensors, .pth or .th; another number of classes gets a
    new last layer."""
    weights: str = ""
    """File of published weights that evaluate measures in place of a run's; the data's classes are
    theirs, in their order."""
    image_size: int = 0
    """Side of the images (0: 224 for the networks of ImageNet, else the size they have)."""
    test_size: int = 0
    """Side of test images, where another one is wanted."""
    test_resize: int = 0
    """Shorter side to which a test image is brought before its middle is cut out (default: 256 /
    224 of the test size)."""
    view: Literal["", "whole", "inception", "crop", "scale"] = ""
    """Part of a training image: all of it, a random area of it, or a random crop at one scale or at
    a random one (default: by network)."""
    skip_broken: bool = False
    """Leave out a folder's files that do not decode, and say how many."""
    crop: int = 1
    """Black pixels around a whole image from which a random crop of its size is taken (0: no
    crops)."""
    flip: bool = False
    """Mirror half of the training images."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """TrivialAugment or RandAugment."""
    color: float = 0.0
    """Standard deviation of PCA color augmentation, 0.1 in AlexNet's paper."""
    colors: Literal["imagenet", "data"] = "imagenet"
    """Whose principal colors: ImageNet's published ones, or those of the training images."""
    erasing: float = 0.0
    """Probability of erasing a random rectangle."""
    mixup: float = 0.0
    """Alpha of mixup (0: none)."""
    cutmix: float = 0.0
    """Alpha of cutmix (0: none); with mixup too, one of both."""
    label_smoothing: float = 0.0
    """Share of the label that is spread over all classes."""
    weight_decay: float = 1e-4
    """L2 penalty."""
    bias_rate: float = 1.0
    """Factor on the learning rate of biases."""
    decay: Literal["all", "kernels"] = "all"
    """Parameters it holds for: all of them, or not norms and biases."""
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    ten_crop: bool = False
    """Evaluate on the mean of ten crops: corners, middle, and their mirror images."""


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Sources of the recipes: the papers, KaimingHe/deep-residual-networks, fb.resnet.torch, BVLC/caffe,
# and torchvision's references. Beside each stands what departs from its source; in all of them
# photographs are brought to size with antialiased bilinear interpolation, and `evaluate_every`,
# `save_every` and `log_every` are ours. None but "laptop" was run here. Hardware and time are those
# that the sources name.
PRESETS = {
    "laptop": Config(
        steps=600,
        batch=128,
        learning_rate=0.1,
        schedule="cosine",
        warmup=50,
        evaluate_every=100,
        save_every=200,
        log_every=20,
    ),
    # He et al. 2015, section 4.2 and table 6: 8.75 % error on CIFAR-10 (91.25 % accuracy) with
    # ResNet-20, 64k updates on two GPUs. Departures: all 50k training images (the paper trains on
    # 45k and chooses by the other 5k), ImageNet's mean and deviation of each color (the paper
    # subtracts the mean of each pixel), black padding (there zeros after the subtraction).
    "paper": Config(
        preset="paper",
        data="tfds:cifar10",
        steps=64_000,
        batch=128,
        learning_rate=0.1,
        schedule="step",
        crop=4,
        flip=True,
        evaluate_every=2000,
        save_every=2000,
        log_every=100,
    ),
    # Krizhevsky et al. 2012, sections 2, 4 and 5: 90 epochs of 1.2M images, five to six days on two
    # GTX 580. One net: 40.7 % top-1 and 18.2 % top-5 error on the validation set, ten crops.
    # Departures: the rate is divided by 10 after each quarter (the paper's three times were chosen
    # by hand, as the validation error stood still); the mean of each color is subtracted, not that
    # of each pixel.
    "alexnet-2012": Config(
        preset="alexnet-2012",
        model="alexnet",
        data="tfds:imagenet2012",
        steps=900_000,
        batch=128,
        learning_rate=0.01,
        schedule="quarters",
        weight_decay=5e-4,
        view="crop",
        crop=0,
        flip=True,
        color=0.1,
        ten_crop=True,
        threads=16,
        evaluate_every=10_000,
        save_every=10_000,
        log_every=100,
    ),
    # Szegedy et al. 2014: 10.07 % top-5 error, one net and one crop. Their asynchronous SGD with
    # averaged weights and their sampling of crops are not public to the last value; this is Caffe's
    # bvlc_googlenet "quick" recipe (2.4M updates of 32 images): 68.7 % top-1, 88.9 % top-5.
    # Departure: images are scaled until the shorter side is 256, and a crop is taken of all of the
    # longer one, where Caffe's were squeezed to 256 by 256.
    "googlenet-2014": Config(
        preset="googlenet-2014",
        model="googlenet",
        data="tfds:imagenet2012",
        steps=2_400_000,
        batch=32,
        learning_rate=0.01,
        schedule="poly",
        power=0.5,
        weight_decay=2e-4,
        decay="kernels",
        bias_rate=2.0,
        view="crop",
        crop=0,
        flip=True,
        threads=16,
        evaluate_every=20_000,
        save_every=20_000,
        log_every=100,
    ),
    # He et al. 2015, section 3.4: 600k updates of 256 images on 8 GPUs. ResNet-50: 24.7 % top-1,
    # 7.8 % top-5 error, center crop (KaimingHe's release); ten crops 22.9 / 6.7. Departures: the
    # rate is divided by 10 after each third (the paper's: as the error stood still); ImageNet's
    # mean and deviation of each color (the paper subtracts the mean of each pixel); moving averages
    # of the batch statistics (the release has means over the training set).
    "resnet-2015": Config(
        preset="resnet-2015",
        model="resnet50",
        data="tfds:imagenet2012",
        steps=600_000,
        batch=256,
        learning_rate=0.1,
        schedule="thirds",
        weight_decay=1e-4,
        view="scale",
        crop=0,
        flip=True,
        color=0.1,
        threads=16,
        evaluate_every=5000,
        save_every=5000,
        log_every=100,
    ),
    # torchvision's second weights of ResNet-50: 600 epochs of 1.28M images on 8 GPUs, 80.858 %
    # top-1, 95.434 % top-5. The average's decay is theirs an update: 0.99998 for 32 updates stands
    # there for (1 - (1 - 0.99998) · 8 · 128 · 32 / 600) every 32nd update, the 32nd root of which
    # is 0.999966. Departures: no repeated augmentation (theirs: 4); the average takes in every
    # update; the last layer's bias does not decay either (theirs does, norms do not); the warmup
    # rises from 1 / 6250 of the rate (theirs from 1 / 100).
    "resnet-modern": Config(
        preset="resnet-modern",
        model="resnet50_v1_5",
        data="tfds:imagenet2012",
        steps=750_000,
        batch=1024,
        learning_rate=0.5,
        schedule="cosine",
        warmup=6250,
        weight_decay=2e-5,
        decay="kernels",
        image_size=176,
        test_size=224,
        test_resize=232,
        crop=0,
        flip=True,
        policy="trivial",
        erasing=0.1,
        mixup=0.2,
        cutmix=1.0,
        label_smoothing=0.1,
        ema=0.999966,
        threads=16,
        evaluate_every=6250,
        save_every=6250,
        log_every=100,
    ),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to classify."""
    top: int = 3
    """Classes to name for each."""
    model: str = ""
    """With --weights: the network they are of."""
    weights: str = ""
    """Published ImageNet weights to use instead of a run, .safetensors or .pth."""
    features: str = ""
    """Intermediate to write as OUT/features.npz, one array for each file."""
    export: str = ""
    """File to write the network's weights to, .safetensors with PyTorch's names."""

    def alone(self) -> Mapping[str, Any] | None:
        if not self.weights:
            return None
        config = Config(model=self.model or "resnet50_v1_5")
        names = data.imagenet_names() if photographs(config.model) else CIFAR10
        network, look = models.classifier(config.model).build(), preprocessing(config)
        shape = models.classifier(config.model).input
        shapes = models.abstract(network, shape)
        variables, report = weights.load(
            self.weights, network, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        )
        cli.say(f"{self.weights}: {report}")
        return predict(network, variables, names, look, shape, self, Path(self.out or "."))


def photographs(model: str) -> bool:
    """Whether a network is one of ImageNet's, for photographs in color."""
    return models.classifier(model).input[0] > 32


def preprocessing(config: Config) -> data.Preprocessing:
    """What the network is shown of an image."""
    large = photographs(config.model)
    size = config.image_size or 224 * large
    test = config.test_size or size
    view = config.view or ("inception" if large else "whole")
    resize = config.test_resize or round(test * 256 / 224)
    return data.Preprocessing(
        size, test, resize, view, models.classifier(config.model).build().pixels
    )


def build(config: Config) -> cli.Experiment:
    cli.at_least(
        0,
        config,
        "weight_decay",
        "momentum",
        "crop",
        "image_size",
        "test_size",
        "test_resize",
        "color",
    )
    cli.at_least(0, config, "erasing", "mixup", "cutmix", "label_smoothing")
    row, look = models.classifier(config.model), preprocessing(config)
    for file in filter(None, (config.init, config.weights)):
        weights.check(file)
    if config.weights and config.init:
        raise UserError(
            "--weights are measured as they are and --init is where training starts; give one"
        )
    training, held_out = sources(config, look)
    names, shape = training.label_names, training.image_shape
    network = build_network(config, row, len(names), shape)
    as_float, mixes = look.normalize(), bool(config.mixup or config.cutmix)

    def loss(variables, batch, rng):
        key_mix, key_dropout = jax.random.split(rng.key)
        batch = data.mix(batch, key_mix, config.mixup, config.cutmix) if mixes else batch
        (logits, seen), new = network.apply(
            variables,
            batch["image"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key_dropout},
        )

        def error(logits):
            own = losses.cross_entropy(logits, batch["label"], config.label_smoothing)
            if not mixes:
                return own
            return batch["weight"] * own + (1 - batch["weight"]) * losses.cross_entropy(
                logits, batch["other"], config.label_smoothing
            )

        auxiliary = sum(
            models.googlenet.AUXILIARY_WEIGHT * error(seen[name])
            for name in ("aux1", "aux2")
            if name in seen
        )
        return train.Loss(
            Mean.of(error(logits) + auxiliary), {"accuracy": top_k(logits, batch["label"], 1)}, new
        )

    def evaluate(variables, batch):
        logits = test_logits(
            network, variables, batch["image"], look.test_size if config.ten_crop else 0
        )
        label, mask = batch["label"], batch["mask"]
        return {
            "loss": Mean.of(losses.cross_entropy(logits, label), mask),
            "accuracy": top_k(logits, label, 1, mask),
            "top-5 accuracy": top_k(logits, label, min(5, len(names)), mask),
            "confusion": Confusion.of(logits, label, len(names), mask),
        }

    rule = optax.sgd(config.scheduled(), config.momentum, config.nesterov)
    rule = train.chain(rule, config.clip, config.weight_decay, config.decay)
    if config.bias_rate != 1:
        rule = optax.chain(rule, optax.masked(optax.scale(config.bias_rate), train.biases))

    def init(key, batch):
        return network.init(key, batch["image"], train=False)

    player = train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat)
    test = data.EvalBatches(held_out, config.batch, as_float)

    def warm_start(variables):
        file = config.weights or config.init
        new, report = weights.load(file, network, variables, new_head=not config.weights)
        cli.say(f"{file}: {report}")
        return new

    return cli.Experiment(
        learner=train.minimize(player, evaluate),
        train=data.TrainBatches(
            training, config.batch, config.seed, augmentation(config, look, training)
        ),
        test=test,
        report=lambda state, run, figures: report(
            network, state, names, look, held_out, test, run, figures
        ),
        predict=lambda state, options, folder: predict(
            network, state["model"].average, names, look, shape, options, folder
        ),
        best=("accuracy", "max"),
        rules=row.rules,
        warm_start={"model": warm_start} if config.init or config.weights else {},
        ready=bool(config.weights),
        baselines=lambda: baselines(training, held_out, config.seed),
        bench=decoding if photographs(config.model) else None,
    )


def sources(config: Config, look: data.Preprocessing) -> tuple[data.Source, data.Source]:
    """Training and test images, as the network looks at them; published weights need no training
    images."""
    if photographs(config.model) and config.data == "digits":
        raise UserError(
            f"{config.model} takes photographs and digits are 8 by 8 pixels; give --data"
            " folder:PATH or tfds:NAME"
        )
    if config.ten_crop and look.kind == "whole":
        raise UserError(
            "--ten-crop cuts its crops out of larger images, and --view whole shows no more than"
            " the network sees"
        )
    channels = 3 if photographs(config.model) else None
    found = []
    test = held_out_split(config.data), look.test(config.ten_crop)
    for split, view in (test if config.weights else ("train", look.train()), test):
        source = data.open_source(
            config.data,
            split,
            config.data_dir,
            channels=channels,
            view=view,
            skip_broken=config.skip_broken,
        )
        if source.broken:
            cli.say(
                f"{split}: {len(source.broken)} files left out that do not decode:"
                f" {', '.join(map(str, source.broken[:3]))}"
            )
        found.append(source)
    data.same_classes(*found, sizes=look.kind == "whole" and look.test_size == look.size)
    return tuple(found)


def held_out_split(spec: str) -> str:
    """`test`; of ImageNet, whose test labels were never published, `validation`; `val` of a folder
    that has no `test`."""
    kind, _, rest = spec.partition(":")
    if kind == "folder" and not (Path(rest) / "test").exists() and (Path(rest) / "val").is_dir():
        return "val"
    return "validation" if rest.startswith("imagenet2012") else "test"


def build_network(
    config: Config, row: models.Variant, classes: int, shape: tuple[int, ...]
) -> nn.Module:
    """The network for this many classes. Raises UserError for one that does not take such
    images."""
    network = row.build(num_classes=classes, dtype=config.dtype)
    for name in ("shortcut", "scan"):
        if value := getattr(config, name):
            if not isinstance(network, models.resnet.ResNet) or network.shortcut is None:
                raise UserError(f"--{name} is for residual networks, and {config.model} is none")
            network = network.clone(**{name: value})
    try:
        models.abstract(network, shape)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{config.model} does not take images of {shape[0]} by {shape[1]}: {error}"
        ) from error
    return network


def augmentation(config: Config, look: data.Preprocessing, training: data.Source) -> data.Transform:
    """Of a training batch, from uint8 to what the network sees."""
    steps = [data.random_crop(config.crop)] * (look.kind == "whole" and config.crop > 0) + [
        data.random_flip()
    ] * config.flip
    steps += {"none": [], "trivial": [data.trivial_augment()], "rand": [data.rand_augment()]}[
        config.policy
    ]
    if config.color:
        steps.append(
            data.pca_color(
                config.color, *(data.principal_colors(training) if config.colors == "data" else ())
            )
        )
    steps.append(look.normalize())
    return data.compose(*steps, *[data.random_erasing(config.erasing)] * (config.erasing > 0))


def test_logits(
    network: nn.Module, variables: train.Variables, image: jax.Array, crop: int
) -> jax.Array:
    """Logits (B, K); with `crop`, the logarithm of the mean probability of ten crops of that
    side."""
    if not crop:
        return network.apply(variables, image, train=False)[0]
    crops = data.ten_crop(image, crop)
    logits, _ = network.apply(variables, crops.reshape(-1, *crops.shape[2:]), train=False)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits).reshape(len(image), 10, -1), 1) - jnp.log(
        10.0
    )


def report(network, state, names, look, held_out, test, run, figures) -> list[present.Section]:
    """Learning curves, confusion, what was taken for something else, the first layer, and where the
    network looks."""
    folder, variables = run.report, state["model"].average
    run_network = jax.jit(lambda v, x: jax.nn.softmax(test_logits(network, v, x, 0)))
    wrong = {"image": [], "label": [], "p": []}
    for number in range(len(test)):
        batch = test[number]
        p_BK = np.asarray(run_network(variables, batch["image"]))
        for row in np.flatnonzero((p_BK.argmax(1) != batch["label"]) & (batch["mask"] > 0)):
            image = look.pixels.to_bytes(batch["image"][row])
            for key, value in (("image", image), ("label", batch["label"][row]), ("p", p_BK[row])):
                wrong[key].append(value)
    sections = [
        present.learning_section(run.folder / "metrics.jsonl", folder),
        present.confusion_section(figures["confusion"], names, folder),
    ]
    if wrong["image"]:
        arrays = (np.stack(wrong[key]) for key in ("image", "label", "p"))
        sections.append(
            present.mistaken_section(*arrays, names, int(figures["confusion"].sum()), folder)
        )
    shown = look.normalize()(held_out.read(data.selected(held_out, 16)))["image"]
    layer = models.last_maps(network, variables, shown.shape[1:])
    heat, logits = jax.jit(lambda v, x: models.grad_cam(network, v, x, layer))(variables, shown)
    captions = [names[k] for k in np.asarray(logits).argmax(1)]
    sections.append(
        present.heat_section(look.pixels.to_bytes(shown), np.asarray(heat), captions, layer, folder)
    )
    kernels = (leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 3)
    first = next(leaf for leaf in kernels if leaf.shape[-2] == shown.shape[-1])
    return sections + [section for section in [present.filters_section(first, folder)] if section]


def predict(network, variables, names, look, shape, options, folder) -> Mapping[str, Any]:
    """Class and probability of each file; with --features, an intermediate of each; with --export,
    the weights."""
    if options.export:
        weights.export(options.export, network, variables)
        cli.say(f"{options.export}: weights under {weights.styles(network)[0]}'s names")
    elif not options.files:
        raise UserError(
            "predict needs image files: python experiments/classify.py predict photo.png"
        )
    run, normalize = jax.jit(lambda v, x: network.apply(v, x, train=False)), look.normalize()
    answer, features = {}, {}
    for path in options.files:
        image = data.decode(path, shape, view=look.test() or data.cover(shape[:2]))
        logits, seen = run(variables, normalize({"image": image[None]})["image"])
        if options.features and options.features not in seen:
            raise UserError(
                f"no layer {options.features!r}; there are"
                f" {', '.join(seen)}{nearest(options.features, list(seen))}"
            )
        if options.features:
            features[str(path)] = np.asarray(seen[options.features][0])
        p_K = np.asarray(jax.nn.softmax(logits[0]))
        answer[str(path)] = {names[k]: float(p_K[k]) for k in np.argsort(-p_K)[: options.top]}
    if features:
        with train.told(f"folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(folder / "features.npz", **features)
        cli.say(f"{options.features} of {len(features)} images: {folder / 'features.npz'}")
    return answer


def baselines(training: data.Source, held_out: data.Source, seed: int) -> Mapping[str, Any]:
    """Classic methods on the same split."""
    if training.draws or len(training) * int(np.prod(training.image_shape)) > 2**28:
        raise UserError(
            "--baselines fits scikit-learn on whole images in memory; give --view whole, and fewer"
            " images"
        )
    parts = []
    for source in (training, held_out):
        read = source.read(np.arange(len(source)))
        parts += [read["image"], read["label"]]
    return classic_methods(*parts, seed=seed)


def decoding() -> Mapping[str, float]:
    """Images/s that one core decodes, as this pipeline does and as plain Pillow."""
    speed = data.decoding_speed()
    return {
        "JPEG to 224, images/s per core": speed["view"],
        "the same, plain Pillow": speed["pillow"],
    }


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

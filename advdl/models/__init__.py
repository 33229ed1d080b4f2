"""Whole networks, one family a file, each true to its paper.

`NETWORKS` are all of them by what they are for, `CLASSIFIERS` those from images to logits; `python
-m advdl.models` prints them with their counts. A new family's `VARIANTS` are added to these tables.

A classifier, called with (images, train), gives logits and the intermediates by name, one of which
at least are maps (B, H, W, C). It has the fields `num_classes` and `dtype`, and in `pixels` the
mean and deviation of its input.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from advdl.errors import UserError, nearest
from advdl.models import (
    airbench,
    alexnet,
    autoencoder,
    captioner,
    dcgan,
    dilation,
    discogan,
    fcn,
    forecaster,
    goodfellow,
    googlenet,
    inception_v3,
    language,
    listener,
    mlp,
    pg2,
    reader,
    resnet,
    segnet,
    sentence,
    seq2seq,
    sngan,
    unet,
    vgg,
)
from advdl.models.captioner import Captioner
from advdl.models.forecaster import Forecaster
from advdl.models.game import Game
from advdl.models.generators import LOWEST_PIXEL, Noise, discriminator, generator
from advdl.models.gradcam import grad_cam, last_maps
from advdl.models.inference import in_portions, interpolate, probabilities
from advdl.models.language import LanguageModel
from advdl.models.masks import mask_functions, mask_predictor, predict_classes, receptive_pixels
from advdl.models.reader import Reader, Window, at_end, gradient_norms
from advdl.models.sentence import POOLS, SentenceClassifier, contributions, explain
from advdl.models.variant import (
    Variant,
    abstract,
    check_shape,
    count_multiply_adds,
    count_parameters,
)

CLASSIFIERS: Mapping[str, Variant] = {
    **alexnet.VARIANTS,
    **googlenet.VARIANTS,
    **vgg.VARIANTS,
    **resnet.VARIANTS,
    **airbench.VARIANTS,
}

NETWORKS: Mapping[str, Mapping[str, Variant]] = {
    "Classification": CLASSIFIERS,
    "Features for the Fréchet Inception distance": inception_v3.VARIANTS,
    "Segmentation": {**fcn.VARIANTS, **segnet.VARIANTS, **unet.VARIANTS, **dilation.VARIANTS},
    "Auto-encoders": autoencoder.VARIANTS,
    "Adversarial networks": {
        **goodfellow.VARIANTS,
        **mlp.VARIANTS,
        **dcgan.VARIANTS,
        **sngan.VARIANTS,
        **discogan.VARIANTS,
        **pg2.VARIANTS,
    },
    "Sequences": {
        **reader.VARIANTS,
        **sentence.VARIANTS,
        **language.VARIANTS,
        **seq2seq.VARIANTS,
        **captioner.VARIANTS,
        **listener.VARIANTS,
        **forecaster.VARIANTS,
    },
}
"""All networks by what they are for, then by name."""

SEGMENTERS: Mapping[str, Callable[..., nn.Module]] = {
    name: row.build for name, row in NETWORKS["Segmentation"].items()
}
"""From images to logits of every pixel, by name; each takes num_classes, width and dtype."""


def segmenter(
    name: str, num_classes: int, learned: str = "none", frozen: bool = False, **fields: Any
) -> nn.Module:
    """The network of `SEGMENTERS` called so. learned: which transposed convolutions of an FCN
    learn. frozen: what a context module gets its scores from stays as it is. Raises UserError for
    another name, and for `learned` with a network that has no such choice."""
    if name not in SEGMENTERS:
        raise UserError(
            f"no network {name!r}; there are {', '.join(SEGMENTERS)}{nearest(name, SEGMENTERS)}"
        )
    network = SEGMENTERS[name](num_classes=num_classes, **fields)
    if frozen and isinstance(network, dilation.Dilation) and network.context is not None:
        network = network.clone(frozen=True)
    if learned == "none":
        return network
    if not isinstance(network, fcn.FCN):
        raise UserError(f"--learned {learned} is for the FCNs on VGG-16, and the network is {name}")
    return network.clone(learned=learned)


CIFAR = re.compile(r"(resnet|plain)(\d+)$")


def classifier(name: str) -> Variant:
    """The row called so; `resnetN` and `plainN` are CIFAR networks of every depth N = 6n + 2, with
    a row or not.

    Raises UserError for another name.
    """
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    if (found := CIFAR.match(name)) and int(found[2]) >= 8 and int(found[2]) % 6 == 2:
        shortcut = "A" if found[1] == "resnet" else None
        build = functools.partial(
            resnet.cifar, depth=int(found[2]), zeros="symmetric", shortcut=shortcut
        )
        return Variant(build, "He 2015", (32, 32, 3), 0, 0)
    raise UserError(
        f"no network {name!r}; there are {', '.join(CLASSIFIERS)} and CIFAR nets of depth 6n +"
        f" 2{nearest(name, CLASSIFIERS)}"
    )


def encoder(name: str, width: int = 0, dtype: Any = None) -> nn.Module:
    """The network of `classifier(name)` without its last layers, to see with. width: number of
    channels of a residual network's first stage (0: its own). Raises UserError for another name,
    and for the width of a network that is not residual."""
    network = classifier(name).build(num_classes=None, dtype=dtype)
    if width and not isinstance(network, resnet.ResNet):
        raise UserError(f"--width is for residual networks, and {name} is none")
    return network.clone(width=width) if width else network


def blank_images(name: str) -> str:
    """The stand-in data, `blank:224x224x3:1000`, of the images that a classifier was published
    for."""
    row = classifier(name)
    classes = 1000 if row.photographs else 10
    return f"blank:{'x'.join(map(str, row.input))}:{classes}"


def build_classifier(config: Any, classes: int, shape: tuple[int, ...]) -> nn.Module:
    """The classifier `config.model` for so many classes and images of this shape, with the
    configuration's `dtype`, `shortcut` and `scan`. Raises UserError where they do not fit it."""
    network = classifier(config.model).build(num_classes=classes, dtype=config.dtype)
    for name in ("shortcut", "scan"):
        if value := getattr(config, name):
            if not isinstance(network, resnet.ResNet) or network.shortcut is None:
                raise UserError(f"--{name} is for residual networks, and {config.model} is none")
            network = network.clone(**{name: value})
    check_shape(config.model, network, shape)
    return network


__all__ = [
    "CLASSIFIERS",
    "Captioner",
    "Forecaster",
    "Game",
    "LOWEST_PIXEL",
    "LanguageModel",
    "NETWORKS",
    "Noise",
    "POOLS",
    "Reader",
    "SEGMENTERS",
    "SentenceClassifier",
    "Variant",
    "Window",
    "abstract",
    "airbench",
    "alexnet",
    "at_end",
    "autoencoder",
    "blank_images",
    "build_classifier",
    "captioner",
    "check_shape",
    "classifier",
    "contributions",
    "count_multiply_adds",
    "count_parameters",
    "dcgan",
    "dilation",
    "discogan",
    "discriminator",
    "encoder",
    "explain",
    "fcn",
    "forecaster",
    "generator",
    "goodfellow",
    "googlenet",
    "grad_cam",
    "gradient_norms",
    "in_portions",
    "inception_v3",
    "interpolate",
    "language",
    "last_maps",
    "listener",
    "mask_functions",
    "mask_predictor",
    "mlp",
    "pg2",
    "predict_classes",
    "probabilities",
    "reader",
    "receptive_pixels",
    "resnet",
    "segmenter",
    "segnet",
    "sentence",
    "seq2seq",
    "sngan",
    "unet",
    "vgg",
]

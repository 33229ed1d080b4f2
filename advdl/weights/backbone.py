"""Weights of a classifier as the beginning of another network: one for dense prediction, or one
that tells what it sees."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from advdl.errors import UserError
from advdl.models import abstract
from advdl.models.backbone import Backbone
from advdl.train import WarmStart, log
from advdl.weights import files
from advdl.weights.load import Report, load


def load_backbone(
    path: str | pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    shape: tuple[int, int, int] = (224, 224, 3),
) -> tuple[dict[str, Any], Report]:
    """(variables with the backbone's numbers, the classifier's report): VGG-16's or a ResNet's
    published ImageNet weights.

    What is read, and where it goes, is what the network declares (`models.backbone.Backbone`).
    shape: (H, W, C) of the images that the classifier is for. Everything else stays as it is in
    `variables`. Raises UserError for a file that does not fit, a network without a published
    backbone, or one whose width is not the published one.
    """
    read, report = _read_backbone(path, model, variables, shape)
    return place_backbone(model, variables, read), report


def _read_backbone(
    path: str | pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    shape: tuple[int, int, int],
) -> tuple[dict[str, Any], Report]:
    """(variables of the classifier, report) for a network of such variables (arrays or shapes)."""
    network = backbone(model)
    if any(name.endswith("running_mean") for name in files.read(path)):
        network = _declared(model).normalized
    if network is None:
        raise UserError(
            f"{path} has normalizations, and {type(model).__name__} starts from weights without"
        )
    if (width := getattr(model, "width", 1)) != 1:
        raise UserError(f"published weights are of the full width; take --width 1, not {width}")
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(network, shape))
    read, report = load(path, network, zeros, new_head=True)
    placed = place_backbone(model, variables, read)
    if _shapes(placed) != _shapes(variables):
        raise UserError(
            f"{path} is of a network for other images than these: the first layer's channels differ"
        )
    return read, report


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def encoder_start(
    path: str, model: nn.Module, shape: tuple[int, int, int] = (224, 224, 3)
) -> dict[str, WarmStart]:
    """What `load_backbone` does to the variables of the player `model` before the first update, as
    `cli.Experiment` takes it; nothing without a path. The file is read when training starts. Raises
    UserError for a network without a published backbone."""
    if path:
        backbone(model)

    def start(shapes):
        read, report = _read_backbone(path, model, shapes, shape)
        log(f"{path}: {report}")
        return lambda variables: place_backbone(model, variables, read)

    return {"model": start} if path else {}


def backbone(model: nn.Module) -> nn.Module:
    """The classifier whose published weights are the beginning of this network. Images for them
    have its `pixels`.

    Raises UserError for a network without one.
    """
    if not hasattr(model, "published_backbone"):
        raise UserError(
            f"no published backbone fits {type(model).__name__}; it starts from scratch"
        )
    return _declared(model).classifier


def place_backbone(
    model: nn.Module, variables: Mapping[str, Any], backbone: Mapping[str, Any]
) -> dict[str, Any]:
    """`variables` of a network, with a classifier's in the place of its encoder.

    backbone: variables of the classifier that the network declares, or of anything with the same
    convolutions, such as `vgg.Probed`. Raises ValueError for a network that has no such place.
    """
    place = _declared(model).place
    placed = {name: place(variables[name], modules) for name, modules in backbone.items()}
    return {**variables, **placed}


def encoder_mask(model: nn.Module) -> Callable[[Any], Any]:
    """From the parameters of a network to a tree of their structure that is True at those that
    `place_backbone` puts in place, as `train.scaled` takes it."""

    def mask(params):
        return jax.tree.map_with_path(
            lambda path, _: in_encoder(model, [part.key for part in path]), params
        )

    return mask


def in_encoder(model: nn.Module, path: Sequence[str]) -> bool:
    """Whether the parameter at `path` (names from the top) is of the convolutions that
    `place_backbone` puts in place.

    Raises ValueError for a network that has no such place.
    """
    return _declared(model).holds(path)


def _declared(model: Any) -> Backbone:
    if not hasattr(model, "published_backbone"):
        raise ValueError(f"{type(model).__name__} has no place for a classifier's encoder")
    return model.published_backbone

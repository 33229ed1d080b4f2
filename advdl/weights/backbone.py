"""Weights of a classifier as the beginning of another network: one for dense prediction, or one
that tells what it sees."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from advdl.errors import UserError
from advdl.models import abstract, captioner, dilation, fcn, resnet, segnet, vgg
from advdl.nn import BatchNorm
from advdl.train import say
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

    FCN and the dilated front end take VGG-16's convolutions and its fc6 and fc7 as convolutions
    (Long et al. 2015, section 3.1); SegNet takes the convolutions, and the normalizations where the
    file has them; FCNResNet takes the ResNet; a captioner its encoder, which is a classifier
    without its last layers. shape: (H, W, C) of the images that the classifier is for. Everything
    else stays as it is in `variables`. Raises UserError for a file that does not fit, a network
    without a published backbone, or one whose width is not the published one.
    """
    network = backbone(model)
    if isinstance(network, vgg.VGG) and any(
        name.endswith("running_mean") for name in files.read(path)
    ):
        if not isinstance(model, segnet.SegNet):
            raise UserError(
                f"{path} has normalizations, and {type(model).__name__} starts from VGG-16 without"
            )
        network = network.clone(norm=BatchNorm)
    if getattr(model, "width", 1) != 1:
        raise UserError(
            f"published weights are of the full width; take --width 1, not {model.width}"
        )
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(network, shape))
    read, report = load(path, network, zeros, new_head=True)
    result = place_backbone(model, variables, read)
    shapes = jax.tree.map(np.shape, variables), jax.tree.map(np.shape, result)
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{path} is of a network for other images than these: the first layer's channels differ"
        )
    return result, report


def warm_start(
    path: str, model: nn.Module, shape: tuple[int, int, int]
) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """What `load_backbone` does to the variables of the player `model` before the first update, as
    `cli.Experiment` takes it; nothing where there is no path."""

    def start(variables):
        new, report = load_backbone(path, model, variables, shape)
        say(f"{path}: {report}")
        return new

    return {"model": start} if path else {}


def backbone(model: nn.Module) -> nn.Module:
    """The classifier whose published weights are the beginning of this network. Images for them
    have its `pixels`.

    Raises UserError for a network without one.
    """
    if isinstance(model, captioner.Captioner):
        return model.encoder.clone(num_classes=1000)
    if isinstance(model, fcn.FCNResNet):
        return resnet.ResNet(model.blocks, resnet.Bottleneck, stride_on="3x3")
    if isinstance(model, fcn.FCN | dilation.Dilation | segnet.SegNet):
        return vgg.VGG()
    raise UserError(f"no published backbone fits {type(model).__name__}; it starts from scratch")


def place_backbone(
    model: nn.Module, variables: Mapping[str, Any], backbone: Mapping[str, Any]
) -> dict[str, Any]:
    """`variables` of a network for dense prediction, or of a captioner, with a classifier's in the
    place of its encoder.

    backbone: variables of a ResNet for FCNResNet, of the encoder, with its classifier or without,
    for a captioner, else of `vgg.VGG` or anything with its `trunk`; fc6 and fc7 are taken where it
    has them. Raises ValueError for a network that has no such place.
    """
    if not isinstance(
        model, captioner.Captioner | fcn.FCNResNet | segnet.SegNet | fcn.FCN | dilation.Dilation
    ):
        raise ValueError(f"{type(model).__name__} has no place for a classifier's encoder")
    result = jax.tree.map(lambda leaf: leaf, dict(variables))
    for collection, modules in backbone.items():
        own = result[collection]
        if isinstance(model, captioner.Captioner):
            own["encoder"] = {name: modules[name] for name in own["encoder"]}
        elif isinstance(model, fcn.FCNResNet):
            own["backbone"] = {
                name: module for name, module in modules.items() if name != "classify"
            }
        elif isinstance(model, segnet.SegNet):
            own |= modules["trunk"]
        else:
            inner = own["front"] if isinstance(model, dilation.Dilation) else own
            place = inner if isinstance(model, dilation.Dilation) else inner.setdefault("trunk", {})
            place |= modules["trunk"]
            for name, side in (("fc6", 7), ("fc7", 1)):
                if name in modules:
                    kernel = modules[name]["kernel"]
                    inner[name] = {
                        "kernel": kernel.reshape(side, side, -1, kernel.shape[-1]),
                        "bias": modules[name]["bias"],
                    }
    return result


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
    first = path[0]
    if isinstance(model, captioner.Captioner):
        return first == "encoder"
    if isinstance(model, fcn.FCNResNet):
        return first == "backbone"
    if isinstance(model, segnet.SegNet):
        return first != "score" and not first.endswith("_up")
    if isinstance(model, fcn.FCN):
        return first == "trunk"
    if isinstance(model, dilation.Dilation):
        return first == "front" and path[1].startswith("conv")
    raise ValueError(f"{type(model).__name__} has no place for a classifier's encoder")

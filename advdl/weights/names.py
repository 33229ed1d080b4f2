"""What each variable of a network is called in PyTorch, and how its numbers lie there.

A convolution's kernel is (kh, kw, I, O) here and (O, I, kh, kw) there, a dense one (I, O) and (O,
I). Where a dense layer reads a flattened image, rows are in order (H, W, C) here and (C, H, W)
there. AlexNet's tower axis is groups there.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from advdl.models import alexnet, fcn, googlenet, inception_v3, resnet, vgg

Path = tuple[str, ...]


class Entry(NamedTuple):
    """One variable of a network: its path, its name in PyTorch, its shape here and there, and the
    ways between."""

    path: Path
    name: str
    shape: tuple[int, ...]
    torch_shape: tuple[int, ...]
    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray], np.ndarray]


def styles(model: nn.Module) -> Sequence[str]:
    """Who has names for this network, the first being what `export` writes. Raises ValueError for
    one that none has."""
    for family, names in _FAMILIES.items():
        if isinstance(model, family):
            return tuple(names(model))
    raise ValueError(f"no published names are known for {type(model).__name__}")


def entries(model: nn.Module, variables: Mapping[str, Any], style: str) -> list[Entry]:
    """An entry for each leaf of `variables` (arrays or shapes, unstacked)."""
    family = next(family for family in _FAMILIES if isinstance(model, family))
    module_name = _FAMILIES[family](model)[style]
    found = []
    for path, leaf in jax.tree.leaves_with_path(variables):
        names = tuple(part.key for part in path)
        *modules, last = names[1:]
        layout = _layout(model, modules, last, leaf.shape)
        name = f"{module_name('/'.join(modules))}.{_LEAVES[last]}"
        found.append(Entry(names, name, tuple(leaf.shape), *layout))
    return found


def heads(model: nn.Module) -> frozenset[str]:
    """Paths of the layers whose size is the number of classes."""
    if isinstance(model, googlenet.GoogLeNet):
        return frozenset({"classify", "aux1/fc2", "aux2/fc2"})
    if isinstance(model, fcn.FCNResNet):
        return frozenset({"classifier/score", "auxiliary/score"})
    if isinstance(model, inception_v3.InceptionV3):
        return frozenset({"fc"})
    return frozenset({"classify" if isinstance(model, resnet.ResNet) else "fc8"})


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def _layout(model, modules, last, shape):
    """(torch's shape, to torch, from torch) of one leaf."""
    towers = isinstance(model, alexnet.AlexNet)
    if last != "kernel":
        flat = (math.prod(shape),)
        return flat, lambda x: x.reshape(flat), lambda x: x.reshape(shape)
    if towers and len(shape) == 5:
        return _permuted(
            shape, (0, 4, 3, 1, 2), (shape[0] * shape[4], shape[3], shape[1], shape[2])
        )
    if towers and modules[-1] == "fc6":  # (T out, T in · H · W · C, units)
        count, rows, units = shape
        channels = 256 // count
        inner = (count, count, *_square(rows // count // channels), channels, units)
        return _permuted(shape, (0, 5, 1, 4, 2, 3), (count * units, rows), inner)
    if towers and modules[-1] == "fc7":
        return _permuted(shape, (0, 2, 1), (shape[0] * shape[2], shape[1]))
    if towers:  # fc8
        return _permuted(shape, (2, 0, 1), (shape[2], shape[0] * shape[1]))
    if len(shape) == 4:
        return _permuted(shape, (3, 2, 0, 1), (shape[3], shape[2], shape[0], shape[1]))
    rows, units = shape
    channels = _flattened(model, "/".join(modules))
    if channels is None:
        return _permuted(shape, (1, 0), (units, rows))
    return _permuted(
        shape, (3, 2, 0, 1), (units, rows), (*_square(rows // channels), channels, units)
    )


def _permuted(shape, order, torch_shape, inner=None):
    """The axes of `inner` (default: shape) in another order, merged into torch's shape."""
    inner = inner or shape
    back = tuple(np.argsort(order))
    there = tuple(inner[axis] for axis in order)
    return (
        torch_shape,
        lambda x: np.asarray(x).reshape(inner).transpose(order).reshape(torch_shape),
        lambda x: np.asarray(x).reshape(there).transpose(back).reshape(shape),
    )


def _square(pixels: int) -> tuple[int, int]:
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(
            f"a flattened image of {pixels} pixels is not square; its order in PyTorch is not known"
        )
    return side, side


def _flattened(model, module: str) -> int | None:
    """Channels of the image that a dense layer reads flattened; None where it reads a vector."""
    if module == "fc6":
        return 256 if isinstance(model, alexnet.AlexNetTorchvision) else round(512 * model.width)
    return 128 if isinstance(model, googlenet.GoogLeNet) and module.endswith("/fc1") else None


def _table(pairs: Mapping[str, str]) -> Callable[[str], str]:
    return lambda module: pairs[module]


def _rules(*rules: tuple[str, str | Callable]) -> Callable[[str], str]:
    def rename(module):
        for pattern, new in rules:
            module = re.sub(pattern, new, module)
        return module.replace("/", ".")

    return rename


def _resnet(model):
    def place(separator):
        return lambda m: f"{separator[0]}{int(m[1]) - separator[2]}{separator[1]}{int(m[2]) - 1}"

    if model.block.preactivation:
        return {
            "timm": _rules(
                (r"^conv$", "stem.conv"),
                (r"^classify$", "head.fc"),
                (r"^stage(\d+)_block(\d+)", place(("stages.", ".blocks.", 1))),
                (r"conv_shortcut$", "downsample.conv"),
            )
        }
    common = (
        (r"^conv$", "conv1"),
        (r"^norm$", "bn1"),
        (r"^stage(\d+)_block(\d+)", place(("layer", ".", 0))),
    )
    inner = (r"/norm(\d)$", r"/bn\1")
    torchvision = _rules(
        *common,
        (r"^classify$", "fc"),
        (r"conv_shortcut$", "downsample.0"),
        (r"norm_shortcut$", "downsample.1"),
        inner,
    )
    linear = _rules(
        *common,
        (r"^classify$", "linear"),
        (r"conv_shortcut$", "shortcut.0"),
        (r"norm_shortcut$", "shortcut.1"),
        inner,
    )
    named = {"torchvision": torchvision, "pytorch_resnet_cifar10": linear}
    return dict(reversed(named.items())) if model.stem == "cifar" else named


def _googlenet(model):
    return {
        "torchvision": _rules(
            (r"^conv2/", "conv3/"),
            (r"^conv2_reduce/", "conv2/"),
            (r"branch([23])_reduce/", r"branch\1/0/"),
            (r"branch([23])/(conv|norm)", r"branch\1/1/\2"),
            (r"branch4/", "branch4/1/"),
            (r"norm$", "bn"),
            (r"^classify$", "fc"),
        )
    }


def _alexnet_torchvision(model):
    convolutions = {
        f"conv{i}": f"features.{at}" for i, at in zip(range(1, 6), (0, 3, 6, 8, 10), strict=True)
    }
    return {
        "torchvision": _table(
            convolutions | {"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
        )
    }


def _fcn_resnet(model):
    backbone = _resnet(resnet.ResNet(model.blocks, resnet.Bottleneck))["torchvision"]
    head = _rules(
        (r"^auxiliary/", "aux_classifier/"),
        (r"/conv$", "/0"),
        (r"/norm$", "/1"),
        (r"/score$", "/4"),
    )

    def rename(module):
        first, _, rest = module.partition("/")
        return f"backbone.{backbone(rest)}" if first == "backbone" else head(module)

    return {"torchvision": rename}


def _vgg(model):
    trunk, at = {}, 0
    for stage, widths in enumerate(vgg.D, 1):
        for number in range(1, len(widths) + 1):
            trunk[f"trunk/conv{stage}_{number}"] = f"features.{at}"
            trunk[f"trunk/norm{stage}_{number}"] = f"features.{at + 1}"
            at += 2 if model.norm is None else 3
        at += 1
    torchvision = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    timm = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    return {"torchvision": _table(trunk | torchvision), "timm": _table(trunk | timm)}


_FAMILIES: Mapping[type, Callable[[Any], Mapping[str, Callable[[str], str]]]] = {
    alexnet.AlexNet: lambda model: {"caffe": lambda module: module},
    alexnet.AlexNetTorchvision: _alexnet_torchvision,
    googlenet.GoogLeNet: _googlenet,
    inception_v3.InceptionV3: lambda model: {
        "torchvision": lambda module: module.replace("/", ".")
    },
    vgg.VGG: _vgg,
    resnet.ResNet: _resnet,
    fcn.FCNResNet: _fcn_resnet,
}

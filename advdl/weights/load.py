"""A file of weights into a network's variables, and back."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from advdl.errors import UserError
from advdl.models import resnet
from advdl.train import WarmStart
from advdl.weights import files
from advdl.weights.files import check
from advdl.weights.names import Path, entries, heads, styles

IGNORED = "num_batches_tracked"
"""Torch counts batches beside each normalization; nothing here reads it."""


class Report(NamedTuple):
    """What became of every tensor of a file and every variable of a network, by PyTorch's names.

    read: taken over. new: heads left as they were, since the number of classes differs. unused: in
      the file alone.
    missing: in the network alone. misshapen: of another shape, with both shapes. style: whose names
      they are.
    """

    style: str
    read: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Every tensor has its variable and every variable its tensor."""
        return not (self.unused or self.missing or self.misshapen)

    def __str__(self) -> str:
        parts = [f"{len(self.read)} tensors read by {self.style}'s names"]
        for what in ("new", "unused", "missing", "misshapen"):
            names = getattr(self, what)
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                parts.append(f"{len(names)} {what}: {', '.join(names[:3])}{more}")
        return "; ".join(parts)


def load(
    path: str | pathlib.Path, model: nn.Module, variables: Mapping[str, Any], new_head: bool = False
) -> tuple[dict[str, Any], Report]:
    """(variables with the file's numbers, report), in the variables' own shapes and dtypes.

    variables: of `model`, as `init` gives them, stacked where the model scans. new_head: a
    classifier of another number of classes stays as it is in `variables`. Auxiliary classifiers
    that the file lacks stay so too, all or none of them.

    Raises UserError, with the first mismatches, for a file that does not fit.
    """
    found, report = _read(path, model, variables, new_head)
    return _place(model, variables, found), report


def _read(
    path: str | pathlib.Path, model: nn.Module, variables: Mapping[str, Any], new_head: bool
) -> tuple[dict[Path, np.ndarray], Report]:
    """(what the file has for variables (arrays or shapes) of a network, by path, not stacked;
    report)."""
    tensors = {k: v for k, v in files.read(path).items() if not k.endswith(IGNORED)}
    flat = jax.eval_shape(resnet.unstack, variables) if _scanned(model) else variables
    style = max(
        styles(model),
        key=lambda style: sum(entry.name in tensors for entry in entries(model, flat, style)),
    )
    wanted: dict[Any, Any] = flatten_dict(flat)
    found: dict[Path, np.ndarray] = {}
    lists: dict[str, list[str]] = {name: [] for name in Report._fields[1:]}
    without_auxiliary = not any(name.startswith("aux") for name in tensors)
    for entry in entries(model, flat, style):
        tensor, head = tensors.pop(entry.name, None), "/".join(entry.path[1:-1]) in heads(model)
        if tensor is None and without_auxiliary and entry.name.startswith("aux"):
            lists["new"].append(entry.name)
        elif tensor is None:
            lists["missing"].append(entry.name)
        elif _squeezed(tensor.shape) == _squeezed(entry.torch_shape) or tensor.size == _dense_size(
            entry, tensor
        ):
            with np.errstate(over="ignore"):
                own = np.asarray(tensor, wanted[entry.path].dtype)
            if not files.finite(own):
                raise UserError(f"{path}: {entry.name} has numbers too large for {own.dtype}")
            found[entry.path] = np.asarray(entry.from_torch(own))
            lists["read"].append(entry.name)
        elif new_head and head and tensor.shape[1:] == entry.torch_shape[1:]:
            lists["new"].append(entry.name)
        else:
            lists["misshapen"].append(f"{entry.name} {tensor.shape}, expected {entry.torch_shape}")
    lists["unused"] = sorted(tensors)
    report = Report(style, **{name: tuple(names) for name, names in lists.items()})
    if not report.fits:
        raise UserError(f"{path} does not fit {type(model).__name__}: {report}")
    return found, report


def _place(
    model: nn.Module, variables: Mapping[str, Any], found: Mapping[Path, np.ndarray]
) -> dict[str, Any]:
    """`variables` with what was found in their place."""
    flat = resnet.unstack(variables) if _scanned(model) else variables
    result = unflatten_dict({**flatten_dict(flat), **found})
    return resnet.stack(result) if _scanned(model) else result


def _scanned(model: nn.Module) -> bool:
    return isinstance(model, resnet.ResNet) and model.scan


def export(path: str | pathlib.Path, model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Writes the variables as `.safetensors` under the names and in the layout of the network's
    first style.

    Raises UserError where the file's name ends otherwise.
    """
    flat = resnet.unstack(variables) if _scanned(model) else variables
    leaves = flatten_dict(jax.device_get(flat))
    found = entries(model, flat, styles(model)[0])
    files.write(
        path, {entry.name: entry.to_torch(np.asarray(leaves[entry.path])) for entry in found}
    )


def _squeezed(shape) -> tuple[int, ...]:
    """Without trailing ones: a dense layer may be stored as a 1×1 convolution."""
    shape = tuple(shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _dense_size(entry, tensor) -> int | None:
    """The size of a dense kernel that the file has as a convolution over the whole image (timm's
    VGG)."""
    whole = (
        len(entry.torch_shape) == 2 and tensor.ndim == 4 and tensor.shape[0] == entry.torch_shape[0]
    )
    return int(np.prod(entry.torch_shape)) if whole else None


def start_from(
    init: str, published: str, model: nn.Module, log: Callable[[str], None]
) -> dict[str, WarmStart]:
    """For the player `model`, what puts a file's weights in the place of its variables: those of
    `published` as they are, or those of `init`, where another number of classes gets a new last
    layer. Empty without a file.

    Raises UserError where both are given, or a file is not there.
    """
    for file in filter(None, (init, published)):
        check(file)
    if init and published:
        raise UserError(
            "--weights are measured as they are and --init is where training starts; give one"
        )

    def start(shapes):
        found, report = _read(published or init, model, shapes, new_head=not published)
        log(f"{published or init}: {report}")
        return lambda variables: _place(model, variables, found)

    return {"model": start} if init or published else {}

"""Files of named tensors. Nothing in a file is executed.

`.safetensors` is a header and raw arrays. `.pth` and `.pt` are pickles, read by PyTorch's restricted reader, which knows
tensors and containers and refuses everything else.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from advdl.errors import UserError

ENDINGS = (".safetensors", ".pth", ".pt")
WRAPPERS = ("state_dict", "model_state_dict", "model")


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name. A name's leading `module.`, of torch's DataParallel, is taken off.

    A training checkpoint's tensors are looked for under `state_dict`, `model_state_dict` and `model`. Raises UserError,
    naming the file, for one that is missing, is damaged, holds anything but tensors, or that PyTorch is needed for.
    """
    path = check(path)
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def check(path: str | pathlib.Path) -> pathlib.Path:
    """The path, if a file of weights lies there by its name; else UserError."""
    path = pathlib.Path(path)
    if path.suffix not in ENDINGS:
        raise UserError(f"{path} is no file of weights; expected {', '.join(ENDINGS)}")
    if not path.is_file():
        raise UserError(f"no file {path}")
    return path


def write(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors by name; the name must end in `.safetensors`, or UserError is raised."""
    path = pathlib.Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"weights are written as .safetensors, not as {path.name}")
    safetensors.numpy.save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged, or no .safetensors file: {_line(error)}") from error


def _pickled(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: reading {path.suffix} needs PyTorch (pip install torch); .safetensors does not") from None
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a broken or hostile file raises whatever its bytes lead to
        reason = _line(error)
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = "it asks for more than tensors (such a file can run any code)"
        raise UserError(f"{path} is refused or damaged: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    if not isinstance(found, Mapping) or not all(isinstance(t, torch.Tensor) for t in found.values()) or not found:
        raise UserError(f"{path} holds no tensors by name")
    return {str(name): _array(tensor) for name, tensor in found.items()}


def _array(tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype.is_floating_point and tensor.element_size() < 4 else tensor).numpy()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__

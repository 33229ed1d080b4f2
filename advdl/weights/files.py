"""Files of named tensors. Nothing in a file is executed.

`.safetensors` is a header and raw arrays. `.pth`, `.pt` and `.th` are pickles as PyTorch writes
them; `advdl.weights.pickled` reads them without PyTorch, knows tensors and containers, and refuses
everything else.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from advdl.errors import UserError
from advdl.weights import pickled

ENDINGS = (".safetensors", ".pth", ".pt", ".th")
WRAPPERS = ("state_dict", "model_state_dict", "model")


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name. A name's leading `module.`, of torch's DataParallel, is taken
    off.

    A training checkpoint's tensors are looked for under `state_dict`, `model_state_dict` and
    `model`. Raises UserError, naming the file, for one that is missing, is damaged, or asks for
    anything but data.
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
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path
    )


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged, or no .safetensors file: {_line(error)}") from error


def _pickled(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with pickled.opened(path) as (found, array):
            if isinstance(found, dict):
                named = next(
                    (found[name] for name in WRAPPERS if isinstance(found.get(name), dict)), found
                )
                if named and all(isinstance(one, pickled.Tensor) for one in named.values()):
                    return {str(name): array(tensor) for name, tensor in named.items()}
    except Exception as error:
        raise UserError(f"{path} is refused or damaged: {_line(error)}") from error
    raise UserError(f"{path} holds no tensors by name")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__

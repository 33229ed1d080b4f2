"""Files of named tensors. Nothing in a file is executed.

`.safetensors` is a header and raw arrays. `.pth`, `.pt` and `.th` are pickles as PyTorch writes
them; `advdl.weights.pickled` reads them without PyTorch, knows tensors and containers, and refuses
everything else.
"""

import pathlib
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from advdl.errors import UserError
from advdl.reading import expand, open_file
from advdl.train import files as train_files
from advdl.weights import pickled

ENDINGS = (".safetensors", ".pth", ".pt", ".th")
WRAPPERS = ("state_dict", "model_state_dict", "model")
MOST_BYTES = 2**40


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name. A name's leading `module.`, of torch's DataParallel, is taken
    off.

    A training checkpoint's tensors are looked for under `state_dict`, `model_state_dict` and
    `model`. Raises UserError, naming the file, for one that is missing, is damaged, asks for
    anything but data, or has a number that is not finite.
    """
    path = check(path)
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not finite(tensor):
            raise UserError(
                f"{path}: {name} has values of {tensor.dtype} that are no finite numbers"
            )
    return tensors


def check(path: str | pathlib.Path) -> pathlib.Path:
    """The path, if a file of weights lies there by its name; else UserError."""
    path = expand(path)
    if path.suffix not in ENDINGS:
        raise UserError(f"{path} is no file of weights; expected {', '.join(ENDINGS)}")
    with open_file(path, MOST_BYTES):
        return path


def write(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors by name, all or nothing. Raises UserError where the path does not end in
    `.safetensors`, or cannot be written."""
    path = pathlib.Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"weights are written as .safetensors, not as {path.name}")
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with train_files.os_errors_as_user_errors(str(path)):
        train_files.make_folder(path.parent)
        train_files.write(path, safetensors.numpy.save(whole))


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except MemoryError:
        raise
    except Exception as error:  # types that NumPy lacks, such as F8_E4M3, are an AttributeError
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
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(f"{path} is refused or damaged: {_line(error)}") from error
    raise UserError(f"{path} holds no tensors by name")


def finite(tensor: np.ndarray) -> bool:
    """Whether these are numbers, and all of them finite."""
    whole = np.issubdtype(tensor.dtype, np.integer) or tensor.dtype == bool
    real = whole or jnp.issubdtype(tensor.dtype, jnp.floating)
    return whole or (real and bool(np.isfinite(tensor).all()))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__

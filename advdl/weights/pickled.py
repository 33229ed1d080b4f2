"""State dictionaries as `torch.save` writes them, read without PyTorch and without executing
anything.

A pickle is a program for a stack machine. The machine here has the instructions that data need, and
it stops at any other. Of the functions that a pickle may name it knows those that put a tensor
together, and a few containers. Nothing is imported and nothing is called by a name from the file,
and work and memory are bounded by the length of the file.

Two formats are known. The archive (PyTorch 1.6 and later) is an uncompressed zip file:
`ROOT/data.pkl`, the pickle; `ROOT/data/KEY`, the bytes of a storage; `ROOT/byteorder`, "little"
where it is absent. The older one is a sequence of pickles (a magic number, the protocol 1001, facts
about the machine, the object, the keys of its storages) and then, for each key, the number of
elements as a little-endian int64 and the elements, little-endian too. In both a tensor is a view of
a storage, by offset, size and stride in elements; a storage is a persistent id ("storage", type,
key, place, elements).
"""

import contextlib
import io
import os
import pathlib
import pickletools
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

ARCHIVE, MAGIC, PROTOCOL = b"PK\x03\x04", 0x1950A86A20F9469CFC6C, 1001
INSTRUCTIONS = 4_000_000
"""The longest pickle that is read. A tensor takes about forty, so that this is enough for a hundred
thousand tensors."""
ARGUMENTS, DIMENSIONS = 8, 64
"""The most that a function is given, and the most axes that an array of NumPy has."""


class Refused(ValueError):
    """The pickle asks for something that is not data."""

    def __init__(self, what: str):
        super().__init__(
            f"it asks for more than tensors (such a file can run any code): {what[:60]!r}"
        )


class Storage(NamedTuple):
    """So many elements of a type, under a key of the file."""

    key: str
    dtype: np.dtype
    elements: int


class Tensor(NamedTuple):
    """A view of a storage, within it; offset, size and stride are in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@contextlib.contextmanager
def opened(path: str | pathlib.Path) -> Iterator[tuple[Any, Callable[[Tensor], np.ndarray]]]:
    """(the object, `tensor -> array`), while the file is open. The object is made of dicts, lists,
    tuples, `Tensor`s and plain values.

    Arrays are read-only, and share memory where their tensors share a storage. Floats of less than
    four bytes become float32. Raises Refused, or whatever a damaged file leads to.
    """
    with open(path, "rb") as file:
        found, stored = (_archive if file.read(len(ARCHIVE)) == ARCHIVE else _sequence)(file)
        storages: dict[str, np.ndarray] = {}

        def array(tensor: Tensor) -> np.ndarray:
            key = tensor.storage.key
            if key not in storages:
                storages[key] = _values(stored(tensor.storage), tensor.storage.dtype)
            values = storages[key]
            strides = [step * values.itemsize for step in tensor.stride]
            return np.lib.stride_tricks.as_strided(
                values[tensor.offset :], tensor.size, strides, writeable=False
            )

        yield found, array


def _archive(file: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """(the object, `storage -> its elements as unsigned integers`)."""
    archive, left = zipfile.ZipFile(file), os.fstat(file.fileno()).st_size
    names = set(archive.namelist())
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"an archive with {len(roots)} members data.pkl, expected one")

    def member(name: str) -> bytes:
        nonlocal left
        info = archive.getinfo(roots[0] + name)
        left -= info.file_size
        if info.compress_type != zipfile.ZIP_STORED or left < 0:
            raise ValueError(f"member {name[:20]!r} is compressed, or longer than the file")
        return archive.read(info)

    order = member("byteorder").decode() if f"{roots[0]}byteorder" in names else "little"
    if order not in ("little", "big"):
        raise ValueError("its order of bytes is neither little nor big")

    def stored(storage: Storage) -> np.ndarray:
        content = member(f"data/{storage.key}")
        if len(content) != storage.elements * storage.dtype.itemsize:
            raise ValueError(f"storage {storage.key[:20]!r} is not as long as its tensors say")
        return np.frombuffer(
            content, f"{'<' if order == 'little' else '>'}u{storage.dtype.itemsize}"
        )

    return _unpickle(io.BytesIO(member("data.pkl")))[0], stored


def _sequence(file: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """As `_archive`."""
    file.seek(0)
    content = file.read()
    pickles = io.BytesIO(content)
    if _unpickle(pickles)[0] != MAGIC or _unpickle(pickles)[0] != PROTOCOL:
        raise ValueError("it does not begin as a file of torch.save does")
    _unpickle(pickles)
    found, storages = _unpickle(pickles)
    keys, _ = _unpickle(pickles)
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or sorted(keys) != sorted(storages)
    ):
        raise ValueError("the storages that it has are not those of its tensors")
    at, starts = pickles.tell(), {}
    for key in keys:
        starts[key] = at + 8
        if content[at : at + 8] != storages[key].elements.to_bytes(8, "little"):
            raise ValueError(f"storage {key[:20]!r} is not as long as its tensors say")
        at = starts[key] + storages[key].elements * storages[key].dtype.itemsize
    if at > len(content):
        raise ValueError("its end is missing")
    return found, lambda storage: np.frombuffer(
        content, f"<u{storage.dtype.itemsize}", storage.elements, starts[storage.key]
    )


def _values(stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Unsigned integers as what they stand for."""
    if dtype.kind == "b":
        return stored != 0
    values = stored.astype(stored.dtype.newbyteorder("="), copy=False).view(dtype)
    return (
        values.astype(np.float32)
        if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
        else values
    )


def _tensor(
    storage: Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _gradient: Any = False,
    _hooks: Any = None,
    bits: Any = None,
) -> Tensor:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2; bits: whether the numbers are meant
    negated or conjugated."""
    if bits:
        raise ValueError("a tensor that is stored negated or conjugated; save its clone")
    if not (isinstance(storage, Storage) and isinstance(size, tuple) and isinstance(stride, tuple)):
        raise ValueError("a tensor without storage, size or stride")
    if not len(size) == len(stride) <= DIMENSIONS or not all(
        _natural(number) for number in (offset, *size, *stride)
    ):
        raise ValueError("a tensor whose offset, size or stride cannot be")
    end = offset + (
        sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if 0 not in size
        else 0
    )
    if end > storage.elements:
        raise ValueError(f"a tensor that ends at element {end} of a storage of {storage.elements}")
    return Tensor(storage, offset, size, stride)


def _natural(number: Any) -> bool:
    return type(number) is int and 0 <= number <= sys.maxsize


def _mapping(pairs: list | None = None) -> dict:
    """collections.OrderedDict, from a list of pairs where Python 2 wrote it. The list is emptied: a
    short pickle that names it again and again could ask for any amount of work."""
    result: dict = {}
    for pair in pairs or ():
        _put(result, list(pair) if isinstance(pair, list | tuple) and len(pair) == 2 else [None])
    if pairs:
        pairs.clear()
    return result


def _plain(*given: Any) -> tuple:
    """A value that a training checkpoint may hold beside its weights, as what it is made of."""
    return given


STORAGES = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
PLAIN = (
    "torch device",
    "torch Size",
    "collections Counter",
    "builtins set",
    "__builtin__ set",
    "_codecs encode",
)
KNOWN = {
    "collections OrderedDict": _mapping,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    **{name: lambda tensor, *_: tensor for name in PARAMETERS},
    **{name: _plain for name in PLAIN},
    **{f"torch {name}Storage": np.dtype(dtype) for name, dtype in STORAGES.items()},
    **{f"torch {np.dtype(dtype).name}": np.dtype(dtype) for dtype in STORAGES.values()},
}
"""What a pickle may name, and what stands in its place."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
VALUES = frozenset(
    [
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINSTRING",
        "SHORT_BINSTRING",
    ]
)
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _unpickle(file: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """(the object of the pickle that begins here, the storages that it names). The file is left at
    the pickle's end."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    storages: dict[str, Storage] = {}

    def taken(count: int) -> list[Any]:
        """The topmost values, none from below the last mark."""
        if len(stack) - count < (marks[-1] if marks else 0):
            raise ValueError("an instruction without its values")
        values = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return values

    def marked() -> list[Any]:
        values = taken(len(stack) - marks[-1])
        marks.pop()
        return values

    given: Any
    for number, (opcode, given, _) in enumerate(pickletools.genops(file)):
        if number > INSTRUCTIONS:
            raise ValueError("its pickle is longer than that of any weights")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in VALUES:
                stack.append(given)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "BINPUT" | "LONG_BINPUT":
                memo[given] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[given])
            case "MARK":
                marks.append(len(stack))
            case name if name in TUPLES:
                stack.append(tuple(taken(TUPLES[name])))
            case "TUPLE":
                stack.append(tuple(marked()))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "APPEND" | "APPENDS" as name:
                values = taken(1) if name == "APPEND" else marked()
                _changed(stack[-1], list).extend(values)
            case "SETITEM" | "SETITEMS" as name:
                values = taken(2) if name == "SETITEM" else marked()
                _put(_changed(stack[-1], dict), values)
            case "BUILD":  # what modules note beside a state dictionary, such as their versions
                taken(1)
                _changed(stack[-1], dict)
            case "GLOBAL":
                stack.append(_known(given))
            case "STACK_GLOBAL":
                stack.append(_known(" ".join(taken(2))))
            case "REDUCE":
                function, arguments = taken(2)
                if (
                    not callable(function)
                    or not isinstance(arguments, tuple)
                    or len(arguments) > ARGUMENTS
                ):
                    raise Refused("a call")
                stack.append(function(*arguments))
            case "BINPERSID":
                storage = _storage(*taken(1))
                if storages.setdefault(storage.key, storage) != storage:
                    raise ValueError(f"storage {storage.key[:20]!r} has two types or two lengths")
                stack.append(storage)
            case "STOP":
                return taken(1)[0], storages
            case name:
                raise Refused(name)
    raise ValueError("a pickle without an end")


def _known(name: str) -> Any:
    if name not in KNOWN:
        raise Refused(name.replace(" ", "."))
    return KNOWN[name]


def _changed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Refused(f"a change of what is no {kind.__name__}")
    return value


def _put(target: dict, values: list[Any]) -> None:
    """Keys and values in turns. Integers beyond 64 bits are no keys: any number of them have the
    same hash."""
    keys = values[::2]
    for key in keys:
        if not isinstance(key, str | float | None) and not (
            isinstance(key, int) and abs(key) <= sys.maxsize
        ):
            raise ValueError("a key of a dictionary is neither a word nor a number")
    target.update(zip(keys, values[1::2], strict=True))


def _storage(persistent: Any) -> Storage:
    match persistent:
        case ("storage", np.dtype() as dtype, str(key), _, elements, *rest) if _natural(
            elements
        ) and rest in ([], [None]):
            return Storage(key, dtype, elements)
    raise ValueError("a persistent id that is no storage's")

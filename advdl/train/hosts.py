"""What processes that train one network together have to agree on, and what of a state another one
holds.

All of this is called by every process, in the same order; in a process of its own it does nothing
but what it says.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from advdl.errors import UserError

BLOCK = 1024


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether this process is one of several that train together."""
    return jax.process_count() > 1


def log(text: str) -> None:
    """One line for the person, on standard error; of several processes, by the first."""
    if not jax.distributed.is_initialized() or is_main_process():
        print(text, file=sys.stderr, flush=True)


def barrier(where: str) -> None:
    """Waits for the other processes to come here too. Between CPUs the first collective of a group
    of devices has to be begun by all within 30 s (Gloo's), while later ones wait; so processes meet
    before, when some may have taken longer."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def broadcast_from_main(decide: Callable[[], Any]) -> Any:
    """What `decide()` returns (JSON) on process 0, which alone calls it, on every process; so is
    the UserError it raises."""
    if jax.process_count() == 1:
        return decide()
    message: dict[str, Any] = {}
    if is_main_process():
        try:
            message = {"value": decide()}
        except UserError as error:
            message = {"error": str(error)}
    text = json.dumps(message).encode()
    rounded = np.int32(-(-len(text) // BLOCK) * BLOCK)  # few shapes to compile for
    size = int(multihost_utils.broadcast_one_to_all(rounded))
    padded = np.frombuffer(text.ljust(size)[:size], np.uint8)
    received = multihost_utils.broadcast_one_to_all(padded)
    message = json.loads(bytes(np.asarray(received, np.uint8)))
    if "error" in message:
        raise UserError(message["error"])
    return message["value"]


def all_processes(here: bool) -> bool:
    """Whether it holds on every process."""
    return bool(np.all(multihost_utils.process_allgather(np.bool_(here))))


def allgather(tree: Any) -> Any:
    """The tree with every array within reach of this process: one of which other processes hold
    parts is brought to the host of each, one after the other; what every device has is that of a
    device here; the others stay what they are."""
    return jax.tree.map(_whole, tree)


def _whole(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    return multihost_utils.process_allgather(leaf, tiled=True)

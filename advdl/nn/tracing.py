"""What steers tracing, in one place: which implementation a layer takes, for which platform, what
is kept for the gradient, and how a placement lays out variables.

All of it is one immutable object. Code that is traced asks it, so a compiled function keeps what it
was traced with; nothing else is hidden from a function's arguments.

Implementations. `xla` is how XLA or Flax says a layer. `fast` says the same with operations that
XLA's CPU compiler is good at; parameters and numbers are the same up to rounding, derivatives
included, and the tests hold them equal. On an NVIDIA GPU recurrent layers take cuDNN's kernels.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax


class Tracing(NamedTuple):
    """What functions are traced with.

    implementation: `fast` or `xla` everywhere; None lets the platform decide: `fast` on CPU.
    platform: what is compiled for, `cpu`, `gpu` or `tpu`; None is the machine's own backend.
    onednn: whether XLA calls oneDNN for convolutions on CPU, in place of Eigen.
    blocks: what is kept of a network's blocks for its gradient, see `advdl.nn.remat`.
    layout: `(path, leaf) -> (sharding to compute with, sharding to keep)` of a leaf of variables,
      where a placement spreads them, see `advdl.train.sharing`.
    """

    implementation: Literal["fast", "xla"] | None = None
    platform: str | None = None
    onednn: bool = False
    blocks: Any = None
    layout: Callable[[Any, Any], tuple[Any, Any]] | None = None


_DEFAULT = Tracing()
_current: contextvars.ContextVar[Tracing] = contextvars.ContextVar("tracing", default=_DEFAULT)


def current() -> Tracing:
    """What is traced with here."""
    return _current.get()


@contextlib.contextmanager
def use(**changes: Any) -> Iterator[None]:
    """Within it, whatever is traced is traced with these fields of `Tracing` changed. Raises
    ValueError for an implementation that is not known."""
    if (name := changes.get("implementation")) not in (None, "fast", "xla"):
        raise ValueError(f"implementation {name!r}; expected 'fast' or 'xla'")
    token = _current.set(current()._replace(**changes))
    try:
        yield
    finally:
        _current.reset(token)


def platform() -> str:
    """What is compiled for: `cpu`, `gpu` or `tpu`."""
    return current().platform or jax.default_backend()


def fast() -> bool:
    """True where layers take their fast implementation: on CPU, unless another one is asked for."""
    chosen = current().implementation
    return platform() == "cpu" if chosen is None else chosen == "fast"


def cudnn() -> bool:
    """True where layers take cuDNN's kernels: on an NVIDIA GPU, unless `xla` is asked for."""
    return (
        platform() == "gpu"
        and current().implementation != "xla"
        and "rocm" not in jax.devices()[0].client.platform_version
    )

"""Which of a layer's formulations runs: `fast` or `plain`. The one place where the backend decides.

`plain` is how XLA or Flax says it. `fast` says the same with operations that XLA's CPU compiler is good at; parameters
and numbers are the same up to rounding, derivatives included, and the tests hold them equal. Layers ask when traced, so
a compiled function keeps the formulation it was traced with.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

import jax

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("formulation", default=None)


def fast() -> bool:
    """True where layers take their fast formulation: on the CPU backend, unless `use` says otherwise."""
    chosen = _chosen.get()
    return jax.default_backend() == "cpu" if chosen is None else chosen == "fast"


def cudnn() -> bool:
    """True where layers take cuDNN's kernels: on an NVIDIA GPU, unless `use` says `plain`."""
    return jax.default_backend() == "gpu" and not plain() and "rocm" not in jax.devices()[0].client.platform_version


def plain() -> bool:
    """True where `use` says `plain`."""
    return _chosen.get() == "plain"


@contextlib.contextmanager
def use(name: Literal["fast", "plain"]) -> Iterator[None]:
    """Within it, whatever is traced takes this formulation, on every backend. Raises ValueError for another name."""
    if name not in ("fast", "plain"):
        raise ValueError(f"formulation {name!r}; expected 'fast' or 'plain'")
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)

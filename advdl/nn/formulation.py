"""Which of a layer's formulations runs: `fast` or `plain`. The one place where the platform
decides.

`plain` is how XLA or Flax says it. `fast` says the same with operations that XLA's CPU compiler is
good at; parameters and numbers are the same up to rounding, derivatives included, and the tests
hold them equal. Layers ask when traced, so a compiled function keeps the formulation it was traced
with.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

import jax

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("formulation", default=None)
_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def platform() -> str:
    """What is compiled for, `cpu`, `gpu` or `tpu`: the machine's own backend, unless `compiled_for`
    says otherwise."""
    return _platform.get() or jax.default_backend()


def fast() -> bool:
    """True where layers take their fast formulation: on CPU, unless `use` says otherwise."""
    chosen = _chosen.get()
    return platform() == "cpu" if chosen is None else chosen == "fast"


def cudnn() -> bool:
    """True where layers take cuDNN's kernels: on an NVIDIA GPU, unless `use` says `plain`."""
    return (
        platform() == "gpu"
        and not plain()
        and "rocm" not in jax.devices()[0].client.platform_version
    )


def plain() -> bool:
    """True where `use` says `plain`."""
    return _chosen.get() == "plain"


@contextlib.contextmanager
def compiled_for(name: str) -> Iterator[None]:
    """Within it, whatever is traced is meant for this platform, which need not be the machine's
    own."""
    token = _platform.set(name)
    try:
        yield
    finally:
        _platform.reset(token)


@contextlib.contextmanager
def use(name: Literal["fast", "plain"]) -> Iterator[None]:
    """Within it, whatever is traced takes this formulation, on every platform. Raises ValueError
    for another name."""
    if name not in ("fast", "plain"):
        raise ValueError(f"formulation {name!r}; expected 'fast' or 'plain'")
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)

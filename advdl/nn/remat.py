"""Keeping less for the gradient, and computing again what was not kept (Chen et al. 2016,
arXiv:1604.06174).

Of a whole network alone that would not do: nothing ties what is computed again to the moment when
the gradient comes by, so a compiler may have all of it there at once; and around a loop it must,
since a loop's gradient begins with what all of its steps made. So a network says which of its parts
are blocks (`block`), a loop's step among them, and each is computed again by itself, when its own
gradient is due.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from advdl.nn import tracing

_PRODUCTS = frozenset(("conv_general_dilated", "dot_general"))
_NAME = "product"


class NoBlocksError(ValueError):
    """A function was to be computed again by blocks and has none."""


class _Within:
    """What is kept of the blocks that are traced now, and how many there were."""

    def __init__(self, kept: Callable[..., bool]):
        self.kept, self.blocks = kept, 0


def _is_product(primitive, *_, **parameters) -> bool:
    return primitive.name in _PRODUCTS or (primitive.name == "name" and parameters["name"] == _NAME)


def product(x: jax.Array) -> jax.Array:
    """x, of any shape, known as the result of a product: of one with a gradient of its own, into
    which JAX does not look."""
    return checkpoint_name(x, _NAME)


def prevent_cse(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The same arrays, of any shapes, behind an optimization barrier, for a gradient that computes
    again what the forward pass made of them: tiles four times as large as their image, padded
    copies. Without it XLA computes equal expressions once and keeps their value from one pass to
    the other (common subexpression elimination; `jax.checkpoint` has an option of this name). JAX
    0.10 removes the barrier first, so that there it changes nothing."""
    return jax.lax.optimization_barrier(arrays)


@contextlib.contextmanager
def _keeping(kept: Callable[..., bool]) -> Iterator[_Within]:
    with tracing.use(blocks=(within := _Within(kept))):
        yield within


def dots(f: Callable) -> Callable:
    """`f`, of whose values only those of products and convolutions are kept for its gradient."""
    kept = jax.checkpoint(f, policy=_is_product)

    @functools.wraps(f)
    def less(*arguments):
        with _keeping(_is_product):
            return kept(*arguments)

    return less


def block_inputs(f: Callable) -> Callable:
    """`f`, of whose blocks only what they are given is kept for its gradient. Raises NoBlocksError
    where there are none."""

    @functools.wraps(f)
    def less(*arguments):
        with _keeping(jax.checkpoint_policies.nothing_saveable) as within:
            out = f(*arguments)
        if not within.blocks:
            raise NoBlocksError("no part of this network is a block that could be computed again")
        return out

    return less


WAYS: Mapping[str, Callable[[Callable], Callable]] = {
    "none": lambda f: f,
    "dots": dots,
    "block_inputs": block_inputs,
}
"""By name, how a function of any arrays keeps less for its gradient."""


def block(f: Callable, loop: bool = False) -> Callable:
    """A part `f(module, *arrays)` of a network, arrays of any shape; with `loop`, the step of a
    loop, for `nn.scan`. It is returned unchanged, but within `dots` or `block_inputs`, where it is
    computed again by itself when its gradient is due."""
    within = tracing.current().blocks
    if within is None:
        return f
    within.blocks += 1
    return nn.remat(f, policy=within.kept, prevent_cse=not loop)

"""Taps: places in a network where a value can be added from outside, so that derivatives by inner
values can be taken."""

from collections.abc import Callable

import flax.linen as nn
import jax

COLLECTION = "taps"


def tap(
    module: nn.Module, name: str, x: jax.Array, lay: Callable[[jax.Array], jax.Array] = lambda x: x
) -> jax.Array:
    """x, plus `lay` of the variable `name` of the collection "taps" where the caller of `apply`
    gave one: zeros, usually, whose gradient is the gradient by x. Without it, x itself."""
    return (
        x + lay(module.get_variable(COLLECTION, name))
        if module.has_variable(COLLECTION, name)
        else x
    )

"""Keeping the compiler from computing the same thing again for every reader.

XLA's CPU fusion takes elementwise arithmetic to be free and repeats it inside each loop that reads
its result. Along a residual network's stage every block's output is such a chain back to the start
of the stage, so the work grows with the square of the depth, and part of it runs inside transposing
loops. An optimization barrier is gone before fusion; a call that may not be inlined is not.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from advdl.nn import tracing


def materialize(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`f`, an elementwise function of arrays, whose result is computed once and kept; so are its
    derivatives.

    It must compute something (its result is not just an argument). In XLA's implementation it is
    `f` itself.
    """
    called = jax.jit(f)

    @functools.wraps(f)
    def once(*arguments):
        if not tracing.fast():
            return f(*arguments)
        with set_xla_metadata(inlineable="false"):
            return called(*arguments)

    return once


_rectified = materialize(lambda x: lax.max(x, jnp.zeros_like(x)))
_sum_rectified = materialize(lambda x, y: lax.max(x + y, jnp.zeros_like(x)))
_where_positive = materialize(lambda y, g: lax.select(y > 0, g, jnp.zeros_like(g)))


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), materialized; so is its derivative (0 at 0), which reads the output and keeps no
    mask beside it."""
    return _rectified(x)


@jax.custom_vjp
def add_relu(x: jax.Array, y: jax.Array) -> jax.Array:
    """max(x + y, 0) of two arrays of one shape, otherwise as `relu`."""
    return _sum_rectified(x, y)


@jax.custom_vjp
def tanh(x: jax.Array) -> jax.Array:
    """tanh(x), whose derivative reads the output and keeps no other array beside it."""
    return jnp.tanh(x)


relu.defvjp(lambda x: (y := relu(x), y), lambda y, g: (_where_positive(y, g),))
add_relu.defvjp(lambda x, y: (z := add_relu(x, y), z), lambda z, g: (_where_positive(z, g),) * 2)
tanh.defvjp(lambda x: (y := tanh(x), y), lambda y, g: (g * (1 - y) * (1 + y),))

"""Keeping the compiler from computing the same thing again for every reader.

XLA's CPU fusion takes elementwise arithmetic to be free and repeats it inside each loop that reads its result. Along a
residual network's stage every block's output is such a chain back to the start of the stage, so the work grows with the
square of the depth, and part of it runs inside transposing loops. An optimization barrier is gone before fusion; a call
that may not be inlined is not.
"""

import functools
from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from advdl.nn import formulation


def materialize(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`f`, an elementwise function of arrays, whose result is computed once and kept; so are its derivatives.

    It must compute something (its result is not just an argument). In the plain formulation it is `f` itself.
    """
    called = jax.jit(f)

    @functools.wraps(f)
    def once(*arguments):
        if not formulation.fast():
            return f(*arguments)
        with set_xla_metadata(inlineable="false"):
            return called(*arguments)

    return once

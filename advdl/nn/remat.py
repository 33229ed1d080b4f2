"""Keeping less for the gradient: only what products and convolutions gave; what lies between is computed again.

Around a loop that is not enough: when its gradient begins, everything that all its steps make is there at once. So a loop says
of its own step what is kept (`step`).
"""

import contextvars
import functools
from collections.abc import Callable

import flax.linen as nn
import jax

PRODUCTS = frozenset(("conv_general_dilated", "dot_general"))
_within: contextvars.ContextVar[bool] = contextvars.ContextVar("remat", default=False)


def _is_product(primitive, *_, **__) -> bool:
    return primitive.name in PRODUCTS


def products(f: Callable) -> Callable:
    """`f`, of whose values only those of products and convolutions are kept for its gradient."""
    kept = jax.checkpoint(f, policy=_is_product)

    @functools.wraps(f)
    def less(*arguments):
        token = _within.set(True)
        try:
            return kept(*arguments)
        finally:
            _within.reset(token)

    return less


def step(body: Callable) -> Callable:
    """A step `body(module, carry, item)` of a loop, for `nn.scan`: as `products` within a function that is itself of that kind,
    otherwise as it is."""
    return nn.remat(body, policy=_is_product, prevent_cse=False) if _within.get() else body

"""What a decoder is fed in training: the given tokens, or its own, for each token by itself.

Axes: B batch, T tokens, H features of what an answer is made of.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn import remat, replica


def forced(module: nn.Module, sampling: jax.Array | float) -> bool:
    """Whether nothing but the given tokens is fed (teacher forcing), so that all of them may be
    read at once."""
    return (isinstance(sampling, float) and not sampling) or module.is_initializing()


def feed(
    module: nn.Module,
    read: Callable[[nn.Module, jax.Array], jax.Array],
    step: Callable[..., tuple[Any, ...]],
    answer: Callable[[nn.Module, jax.Array], jax.Array],
    carry: Any,
    given_BT: jax.Array,
    sampling: jax.Array | float = 0.0,
) -> tuple[Any, tuple[jax.Array, ...]]:
    """A decoder over T tokens: (carry after the last, (hidden (B, T, H), …)), where each step is
    `step(module, carry, word (B, E)) -> (hidden (B, H), carry, …)`, and what it gives beside is
    stacked along T too. A word is `read(module, token)`; the given ones are read all at once,
    before the loop. The logits are `answer(module, hidden)`, left to who calls: one product over
    all steps, and one gradient of its kernel.

    sampling: the probability with which it is fed its own likeliest token in place of the given
    one, for each by itself but the first (Bengio et al. 2015, arXiv:1506.03099), needs a key called
    sampling; 0 is teacher forcing, 1 free running. No gradient flows through the choice.
    """
    batch, steps = given_BT.shape
    sampled, coin_BT = not forced(module, sampling), jnp.zeros((batch, steps), bool)
    if sampled:
        uniform = replica.sample(
            lambda key: jax.random.uniform(key, (steps,)), module.make_rng("sampling"), batch
        )
        coin_BT = (uniform < sampling) & (jnp.arange(steps)[None] > 0)

    def body(module, carry, item):
        (carry, said), (word, coin) = carry, item
        if sampled:
            word = jnp.where(coin[:, None], read(module, said), word)
        hidden, carry, *more = step(module, carry, word)
        if sampled:
            said = jax.lax.stop_gradient(answer(module, hidden)).argmax(-1).astype(given_BT.dtype)
        return (carry, said), (hidden, *more)

    keys: dict[Any, bool] = {"params": False, "dropout": True}
    scan = nn.scan(
        remat.block(body, loop=True),
        variable_broadcast="params",
        split_rngs=keys,
        in_axes=1,
        out_axes=1,
    )
    (carry, _), found = scan(module, (carry, given_BT[:, 0]), (read(module, given_BT), coin_BT))
    return carry, found

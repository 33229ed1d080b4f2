"""Measures by a discriminator that is trained for them, against samples that stand still.

Axes: T updates, N examples, B batch, D dimensions of a point.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import data, losses
from advdl.models import goodfellow

Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, Mapping[str, jax.Array]]]


def descend(
    init: Callable[[jax.Array, Any], Any],
    loss: Loss,
    rule: optax.GradientTransformation,
    draw: Callable[[jax.Array], Any],
    steps: int,
) -> Callable[[jax.Array], tuple[Any, Mapping[str, jax.Array]]]:
    """`run(key)`: the variables of a small network after so many updates, and figures of each.

    All updates are one loop, for compiling. The network has parameters alone.
    init: `(key, batch) -> variables`. loss: `(variables, batch, key) -> (values (B,), figures)`, of
    which the mean is descended, and figures are scalars by name, (T,) in the end. draw: a batch.
    """

    def run(key):
        key_init, key_draw, key = jax.random.split(key, 3)

        def batch(t):
            return draw(jax.random.fold_in(key_draw, t))

        def step(carry, t):
            variables, state = carry
            own = jax.random.fold_in(jax.random.fold_in(key, t), 0)

            def total(variables):
                values, figures = loss(variables, batch(t), own)
                return values.sum(), (values.size, figures)

            gradient, (count, figures) = jax.grad(total, has_aux=True)(variables)
            gradient = jax.tree.map(lambda g: g / count, gradient)
            updates, state = rule.update(gradient, state, variables)
            return (optax.apply_updates(variables, updates), state), figures

        variables = init(key_init, batch(0))
        start = variables, rule.init(variables)
        (variables, _), figures = jax.lax.scan(step, start, jnp.arange(steps))
        return variables, figures

    return run


def two_sample_accuracy(
    real: np.ndarray, fake: np.ndarray, steps: int = 200, seed: int = 0
) -> float:
    """How often a new discriminator, trained on half of as many real and generated images, tells
    the other half right: 1/2 where it cannot (Lopez-Paz and Oquab 2017, arXiv:1610.06545).

    real, fake: (N, H, W, C) and (M, H, W, C). Of the larger set the seed draws as many images as
    the smaller one has.
    """
    count = min(len(real), len(fake)) // 2 * 2
    images = np.concatenate([x[data.selected(len(x), count, seed)] for x in (real, fake)])
    label = np.repeat([1.0, 0.0], count).astype(np.float32)
    order = np.random.default_rng(seed).permutation(2 * count)
    x, y = jnp.asarray(images[order[:count]]), jnp.asarray(label[order[:count]])
    network = goodfellow.Discriminator(hidden=(128, 128), input_dropout=0.0)

    def draw(key):
        rows = jax.random.randint(key, (64,), 0, count)
        return x[rows], y[rows]

    def loss(variables, batch, key):
        logit, _ = network.apply(variables, batch[0], train=True, rngs={"dropout": key})
        return losses.binary_cross_entropy(logit, batch[1]), {}

    def init(key, batch):
        return network.init(key, batch[0], train=False)

    run = descend(init, loss, optax.adam(1e-3), draw, steps)
    variables, _ = jax.jit(run)(jax.random.key(seed))
    rest = order[count:]
    logit, _ = jax.jit(lambda x: network.apply(variables, x, train=False))(images[rest])
    return float(((np.asarray(logit) > 0) == (label[rest] > 0)).mean())

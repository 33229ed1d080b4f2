"""Learning-rate schedules, and what stands around an update rule: clipping, decay, bounds. Names
for what optax has."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from advdl.errors import UserError, nearest
from advdl.nn import tracing

LARGE = 4096  # numbers; of smaller leaves the global norm is taken together
SCHEDULES = ("constant", "cosine", "step", "thirds", "quarters", "poly")


def schedule(
    name: str, peak: float, steps: int, warmup: int = 0, power: float = 1.0
) -> optax.Schedule:
    """Learning rate at each of `steps` updates.

    `constant`; `cosine` to zero (Loshchilov & Hutter 2017, eq. 5, one cycle); `step` divides by ten
    after one half and after three quarters of the updates (He et al. 2015, section 4.2: 32k and 48k
    of 64k); `thirds` after one and two thirds (epochs 30 and 60 of 90, fb.resnet.torch); `quarters`
    after one, two and three quarters; `poly` is (1 - update / steps)^power. `warmup` updates rise
    linearly from peak/warmup before it.

    Raises UserError for another name.
    """
    rest = max(steps - warmup, 1)
    match name:
        case "constant":
            after = optax.constant_schedule(peak)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, rest)
        case "step":
            after = optax.piecewise_constant_schedule(peak, {rest // 2: 0.1, rest * 3 // 4: 0.1})
        case "thirds":
            after = optax.piecewise_constant_schedule(peak, {rest // 3: 0.1, rest * 2 // 3: 0.1})
        case "quarters":
            after = optax.piecewise_constant_schedule(peak, {rest * n // 4: 0.1 for n in (1, 2, 3)})
        case "poly":
            after = _poly(peak, rest, power)
        case _:
            raise UserError(
                f"no schedule named {name!r}; there are"
                f" {', '.join(SCHEDULES)}{nearest(name, SCHEDULES)}"
            )
    if not warmup:
        return after
    return optax.join_schedules(
        [optax.linear_schedule(peak / warmup, peak, warmup - 1), after], [warmup]
    )


def _poly(peak: float, steps: int, power: float) -> optax.Schedule:
    """Not `optax.polynomial_schedule`: compiled, its 1 - n / steps can round to less than zero at
    the end, whose power is NaN."""
    return lambda n: peak * (jnp.maximum(steps - n, 0) / steps) ** power


def decayed(rate: optax.Schedule, factor: float, every: int, after: int = 1) -> optax.Schedule:
    """A learning rate that is multiplied by `factor` after every `every` updates, again and again
    (0: never); for the first time after `after` times as many."""
    if not every:
        return rate
    return lambda n: rate(n) * factor ** jnp.maximum(jnp.asarray(n) // every + 1 - after, 0)


def scaled(
    rule: optax.GradientTransformation, factor: float, part: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """The update rule, whose updates of some parameters are multiplied by `factor`.

    part: from the parameters to a tree of their structure that is True at those. With a factor of 0
    they stay as they are, and the rule does not see them: the norm that it clips is that of the
    others.
    """
    if factor == 1:
        return rule
    if factor:
        return optax.chain(rule, optax.masked(optax.scale(factor), part))

    def others(params):
        return jax.tree.map(lambda inside: not inside, part(params))

    return optax.chain(optax.masked(rule, others), optax.masked(optax.set_to_zero(), part))


def divided(rate: optax.Schedule, divisor: float, lowest: float = 1e-6) -> optax.Schedule:
    """The rate divided by `divisor` after every step, down to `lowest`; itself for a divisor of 1.

    Pylearn2's exponential decay, by which Goodfellow et al. 2014 trained, with that lowest rate.
    """
    # Not powers of the divisor: the nearest float32 to their 1.000004 is 1.00000405.
    fall = math.log(divisor)
    if not fall:
        return rate
    return lambda step: jnp.maximum(rate(step) * jnp.exp(-fall * step), lowest)


def by_step(schedule: optax.Schedule, updates: int) -> optax.Schedule:
    """A schedule of steps for a player that is updated `updates` times a step."""
    return lambda update: schedule(jnp.asarray(update) // updates)


def momentum(rate: optax.Schedule, share: optax.Schedule) -> optax.GradientTransformation:
    """SGD whose velocity keeps a share of itself that changes: v = share·v - rate·gradient.

    The velocity gathers rate times gradient, so a change of the rate leaves what it has gathered as
    it is; `optax.sgd` multiplies by the rate behind it.
    """
    velocity = optax.inject_hyperparams(optax.trace)(decay=share)
    return optax.chain(optax.scale_by_learning_rate(rate), velocity)


def bounded(rule: optax.GradientTransformation, bound: float) -> optax.GradientTransformation:
    """The rule, after which the parameters are clipped to [-bound, bound]; itself for a bound of 0.

    Arjovsky et al. 2017 (arXiv:1701.07875), algorithm 1.
    """

    def clipped(updates, params):
        return jax.tree.map(
            lambda update, param: jnp.clip(param + update, -bound, bound) - param, updates, params
        )

    return optax.chain(rule, optax.stateless(clipped)) if bound else rule


def global_norm(tree: Any) -> jax.Array:
    """Square root of the sum of squares of all leaves, a scalar.

    Fast implementation (CPU): the trace of each large leaf's product with itself as four rows. That
    takes a sixth of the time of XLA's reduction, whose loops are compiled anew for every size.
    """
    if not tracing.fast() or tracing.current().layout:  # parts of a leaf may lie on many devices
        return optax.tree.norm(tree)
    squares, rest = [], [jnp.zeros(1)]
    for leaf in jax.tree.leaves(tree):
        if leaf.size < LARGE or leaf.size % 4:
            rest.append(leaf.ravel())
        else:
            rows = leaf.reshape(4, -1)
            product = jnp.matmul(rows, rows.T, preferred_element_type=jnp.float32)
            squares.append(jnp.trace(product))
    squares.append(jnp.sum(jnp.square(jnp.concatenate(rest))))
    return jnp.sqrt(sum(squares))


def chain(
    rule: optax.GradientTransformation,
    clip: float = 0.0,
    decay: float = 0.0,
    decayed: Literal["all", "kernels"] = "all",
) -> optax.GradientTransformation:
    """The update rule behind what every optimizer does first, in this order: the gradient's global
    norm is clipped to `clip` (Pascanu et al. 2013; 0 does not clip), then `decay` times the
    parameters is added to it, the gradient of an L2 penalty.

    The clip sees the gradient of the loss alone: a norm that is made small by the clip leaves the
    penalty as it is. decayed: the parameters that the penalty holds for, all of them or the kernels
    alone, without biases and normalizations.
    """

    def clipped(gradient, params=None):
        scale = clip / jnp.maximum(global_norm(gradient), clip)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)

    first = [optax.stateless(clipped)] if clip else []
    if decay:
        first.append(optax.add_decayed_weights(decay, kernels if decayed == "kernels" else None))
    return optax.chain(*first, rule) if first else rule


def kernels(params: Any) -> Any:
    """A tree of the parameters' structure that is True at kernels: what `optax.masked` and decay
    take as their mask."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def biases(params: Any) -> Any:
    """The same that is True at biases of layers with a kernel, not at those of normalizations: what
    Caffe's recipes give twice the learning rate."""
    return {
        name: biases(value) if isinstance(value, Mapping) else name == "bias" and "kernel" in params
        for name, value in params.items()
    }

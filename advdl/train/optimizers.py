"""Optimizers by name. Names for what optax has, each behind the same clipping and decay."""

from typing import Literal, get_args

import optax

from advdl.errors import UserError, nearest
from advdl.train.schedule import biases, chain, kernels, scaled

Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "lamb", "lars"]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


def optimizer(
    name: str,
    rate: optax.ScalarOrSchedule,
    momentum: float = 0.9,
    beta2: float = 0.999,
    clip: float = 0.0,
    decay: float = 0.0,
    decayed: Literal["all", "kernels"] = "all",
    bias_rate: float = 1.0,
) -> optax.GradientTransformation:
    """An update rule and what belongs to it, in this order.

    1. The gradient's global norm is clipped to `clip` (0 does not clip).
    2. `decay`, of all parameters or of the kernels alone. Of `sgd`, `momentum`, `nesterov` and
       `adam` it is an L2 penalty: `decay` times the parameters is added to the gradient. `adamw`
       (Loshchilov & Hutter 2017) and `lamb` (You et al. 2019) add it to their update, after the
       division by the second moments. `lars` (You et al. 2017) adds it to the gradient before the
       trust ratio is taken; parameters that do not decay have no trust ratio either, as is usual
       for biases and normalizations.
    3. The rule. `momentum` is that of `momentum`, `nesterov` and `lars`, and the decay of the first
       moment of `adam`, `adamw` and `lamb`; `sgd` has none. `beta2` is the decay of the second.
    4. The updates of biases beside a kernel are multiplied by `bias_rate`.

    Raises UserError for another name.
    """
    mask = kernels if decayed == "kernels" else None
    match name:
        case "sgd":
            rule = optax.sgd(rate)
        case "momentum" | "nesterov":
            rule = optax.sgd(rate, momentum, name == "nesterov")
        case "adam":
            rule = optax.adam(rate, momentum, beta2)
        case "adamw":
            rule = optax.adamw(rate, momentum, beta2, weight_decay=decay, mask=mask)
        case "lamb":
            rule = optax.lamb(rate, momentum, beta2, weight_decay=decay, mask=mask)
        case "lars":
            masks = True if mask is None else mask
            rule = optax.lars(rate, decay, masks, trust_ratio_mask=masks, momentum=momentum)
        case _:
            raise UserError(
                f"no optimizer named {name!r}; there are"
                f" {', '.join(OPTIMIZERS)}{nearest(name, OPTIMIZERS)}"
            )
    penalty = 0.0 if name in ("adamw", "lamb", "lars") else decay
    return scaled(chain(rule, clip, penalty, decayed), bias_rate, biases)

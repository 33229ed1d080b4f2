"""Statistics of normalizations, measured for parameters that no longer change.

So batch normalization was evaluated before moving averages (Ioffe and Szegedy 2015, algorithm 2),
and so SegNet's release does after training (SegNet-Tutorial, compute_bn_statistics.py). A state
keeps the statistics that moved along with training; the measured ones are written beside its
checkpoint, so that a restored state is evaluated with them without any data.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advdl.errors import UserError
from advdl.metrics import merge
from advdl.nn import replica
from advdl.train import sharing
from advdl.train.learner import Batch, Learner, State, Variables, training
from advdl.train.placement import CompiledLearner

Measure = Callable[[Variables, Batch], Variables]


def batch_statistics(module: Any) -> Measure:
    """What the normalizations of `module`, which its field `norm` makes, measure on one batch
    alone. Raises UserError for a module that has none."""
    if getattr(module, "norm", None) is None:
        raise UserError(
            f"--recompute-statistics is for networks with batch normalization, and"
            f" {type(module).__name__} has none"
        )
    alone = module.clone(norm=functools.partial(module.norm, momentum=0.0))

    def measure(variables, batch):
        rngs = {"dropout": jax.random.key(0)}
        return training(alone, variables, batch["image"], rngs=rngs)[1]

    return measure


def measuring(learner: Learner, measure: Measure, player: str = "model") -> Learner:
    """The same learner, whose `evaluate` gives what `measure_statistics` adds up.

    measure: `(variables, batch) -> collections`, the statistics of this batch alone, the same on
      every replica.
    """

    def evaluate(state, batch):
        found = measure(sharing.whole(state[player].average), batch)
        return replica.sum({"collections": found, "count": jnp.float32(1)})

    return learner._replace(evaluate=evaluate)


def measure_statistics(
    placed: CompiledLearner, state: State, batches: Callable[[int], Any], count: int
) -> Variables:
    """Collections, on the host, that are the plain average over batches 0 … count - 1 of what each
    gives alone. placed: a learner from `measuring`, in its place."""

    def measured(number):
        return jax.device_get(placed.evaluate(state, placed.put(batches(number))))

    total = functools.reduce(merge, map(measured, range(count)))
    return jax.tree.map(
        lambda value: (value / total["count"]).astype(np.float32), total["collections"]
    )


def with_statistics(state: State, collections: Mapping[str, Any], player: str = "model") -> State:
    """A state whose player is the one that is evaluated (its moving average where one is kept),
    with these collections. The state that is given stays as it is."""
    own = state[player]
    new = own.starting_from({**own.average, **collections})
    return dataclasses.replace(state, players={**state.players, player: new})

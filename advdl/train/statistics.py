"""Statistics of normalizations, measured anew for parameters that no longer change."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advdl.metrics import merge
from advdl.nn import replica
from advdl.train import sharing
from advdl.train.learner import Batch, Learner, State, Variables
from advdl.train.placement import Placed

Measure = Callable[[Variables, Batch], Variables]


def measuring(learner: Learner, measure: Measure, player: str = "model") -> Learner:
    """The same learner, whose `evaluate` gives what `recompute_statistics` adds up.

    measure: `(variables, batch) -> collections`, the statistics of this batch alone, the same on
      every replica.
    """

    def evaluate(state, batch):
        found = measure(sharing.whole(state[player].average), batch)
        return replica.sum({"collections": found, "count": jnp.float32(1)})

    return learner._replace(evaluate=evaluate)


def recompute_statistics(
    placed: Placed, state: State, batches: Callable[[int], Any], count: int, player: str = "model"
) -> State:
    """A state whose player is the one that is evaluated (its moving average where one is kept),
    with collections that are the plain average over batches 0 … count - 1 of what each gives alone.

    So batch normalization was evaluated before moving averages (Ioffe and Szegedy 2015, algorithm
    2), and so SegNet's release does after training (SegNet-Tutorial, compute_bn_statistics.py). The
    state that is given stays as it is. placed: a learner from `measuring`, in its place.
    """

    def measured(number):
        return jax.device_get(placed.evaluate(state, placed.put(batches(number))))

    total = functools.reduce(merge, map(measured, range(count)))
    new = jax.tree.map(
        lambda value: (value / total["count"]).astype(np.float32), total["collections"]
    )
    own = state[player]
    return dataclasses.replace(
        state, players={**state.players, player: own.starting_from({**own.average, **new})}
    )

"""A language model that looks up what it has read: what came next where its state was similar.

Grave et al. 2017 (arXiv:1612.04426) look in the states of the text so far, Khandelwal et al. 2020
(arXiv:1911.00172) in those of the training text, whose distances they take; here both are looked
in. Nothing is learned but two numbers, which are fitted on other text than is scored. Axes: M
places that are known, N places that are scored, k neighbors, H features of a state.
"""

import math
from typing import NamedTuple

import numpy as np

_ROWS = 256  # queries at a time


class Neighbors(NamedTuple):
    """distance: squared distances (N, k) of the nearest states, infinite where there are fewer.
    right: whether the token that came next there comes next here, (N, k)."""

    distance: np.ndarray
    right: np.ndarray


def similar_places(
    known_MH: np.ndarray,
    known_M: np.ndarray,
    state_NH: np.ndarray,
    next_N: np.ndarray,
    count: int = 1024,
) -> Neighbors:
    """The `count` places before each one of a text whose states are nearest to its own: known ones,
    and those of the text itself before it.

    known_MH, known_M: states of text that was read before, and the tokens that came after them.
    state_NH, next_N: the same of the text that is scored, in its order.
    """
    states = np.concatenate([known_MH, state_NH]).astype(np.float32)
    following, square = np.concatenate([known_M, next_N]), np.square(states).sum(1)
    count, distances, right = min(count, len(states)), [], []
    for first in range(0, len(state_NH), _ROWS):
        own = len(known_M) + np.arange(first, min(first + _ROWS, len(state_NH)))
        distance = square[own, None] + square - 2 * states[own] @ states.T
        distance[np.arange(len(states)) >= own[:, None]] = math.inf  # what has not been read yet
        near = np.argpartition(distance, count - 1, axis=1)[:, :count]
        distances.append(np.maximum(np.take_along_axis(distance, near, 1), 0))
        right.append(following[near] == following[own, None])
    return Neighbors(np.concatenate(distances), np.concatenate(right))


def looked_up_nats(nats_N: np.ndarray, found: Neighbors, scale: float, share: float) -> np.ndarray:
    """Nats (N,) of (1 - share) · p + share · q: p is the network's probability of the token, exp of
    minus its nats, and q the weight of the neighbors after which that token came, by softmax(-
    distance / scale)."""
    least = found.distance.min(1, keepdims=True)
    least = np.where(np.isfinite(least), least, 0)
    weight = np.exp(-(found.distance - least) / scale)
    q = (weight * found.right).sum(1) / np.maximum(weight.sum(1), 1e-30)
    return -np.log((1 - share) * np.exp(-nats_N.astype(np.float64)) + share * q)


def fitted_lookup(nats_N: np.ndarray, found: Neighbors) -> tuple[float, float]:
    """(scale, share) of those tried for which the mean of `looked_up_nats` is least. The scales are
    fractions of the mean distance of neighbors; a share of 0, which looks nothing up, is among
    those tried."""
    mean = float(found.distance[np.isfinite(found.distance)].mean())
    tried = [
        (float(looked_up_nats(nats_N, found, scale, share).mean()), scale, share)
        for scale in (mean * part for part in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
        for share in (0.0, *(n / 20 for n in range(1, 19)))
    ]
    return min(tried)[1:]

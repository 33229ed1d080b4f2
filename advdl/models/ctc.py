"""Connectionist temporal classification: Graves et al. 2006; from a path of labels, one a frame, to
what is said.

Axes: B batch, T frames, K labels with the blank, which is 0, L labels of a string.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from advdl import losses


def collapse(path_BT: jax.Array, frames_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(labels (B, T), counts (B,)): repetitions become one, then blanks are left out; behind the
    count there are zeros."""
    before = jnp.pad(path_BT[:, :-1], ((0, 0), (1, 0)))
    kept = (
        (path_BT != 0)
        & (path_BT != before)
        & (jnp.arange(path_BT.shape[1])[None] < frames_B[:, None])
    )
    place = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, path_BT.shape[1])
    rows = jnp.broadcast_to(jnp.arange(len(path_BT))[:, None], path_BT.shape)
    return jnp.zeros_like(path_BT).at[rows, place].set(path_BT, mode="drop"), kept.sum(1)


def prefix_beam(
    log_probability_TK: np.ndarray, width: int = 10
) -> list[tuple[tuple[int, ...], float]]:
    """Strings and the logarithms of their probabilities, the likeliest first, by keeping `width`
    beginnings at every frame; each adds up the paths that say it and end in a blank, and those that
    do not (Hannun et al. 2014, arXiv:1408.2873). A beam as wide as there are strings gives the
    probabilities of `losses.ctc`."""
    # Of paths that end in a blank, and in the beginning's last label.
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}
    for frame in np.asarray(log_probability_TK, np.float64):
        found: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(said, blank, label, found=found):
            old = found.get(said, (-np.inf, -np.inf))
            found[said] = np.logaddexp(old[0], blank), np.logaddexp(old[1], label)

        for said, (blank, label) in beams.items():
            whole = np.logaddexp(blank, label)
            add(said, whole + frame[0], -np.inf)
            if said:
                add(said, -np.inf, label + frame[said[-1]])
            for k in range(1, len(frame)):
                add((*said, k), -np.inf, (blank if said and k == said[-1] else whole) + frame[k])
        best = sorted(found.items(), key=lambda item: -np.logaddexp(*item[1]))[:width]
        beams = dict(best)
    return [(said, float(np.logaddexp(*ends))) for said, ends in beams.items()]


def matches(
    logits_BTK: jax.Array, frames_B: jax.Array, label_BL: jax.Array, label_length_B: jax.Array
) -> jax.Array:
    """(B,) bool: whether the likeliest label of every frame says the labels (B, L), behind whose
    length there are zeros."""
    said_BT, count_B = collapse(logits_BTK.argmax(-1), frames_B)
    size = label_BL.shape[1]
    said_BL = jnp.pad(said_BT, ((0, 0), (0, max(0, size - said_BT.shape[1]))))[:, :size]
    return (said_BL == label_BL).all(1) & (count_B == label_length_B)


def likeliest_label(
    logits_BTK: jax.Array, frames_B: jax.Array | np.ndarray, labels: Sequence[int]
) -> jax.Array:
    """(B,): which of these labels is the likeliest to be the whole string."""
    batch = len(logits_BTK)

    def loss_B(label):
        string_B1, length_B = jnp.full((batch, 1), label), jnp.ones(batch, jnp.int32)
        return losses.ctc(logits_BTK, jnp.asarray(frames_B), string_B1, length_B)

    candidates = jnp.asarray(labels, jnp.int32)
    return candidates[jax.lax.map(loss_B, candidates).argmin(0)]


def transcribe(
    logits_BTK: np.ndarray, frames_B: np.ndarray, width: int = 0
) -> list[tuple[int, ...]]:
    """The labels of each string, on the host: by a prefix beam of this width, or, with 0, what the
    path of the likeliest label of every frame says."""
    if width:
        log_probability = np.asarray(jax.nn.log_softmax(logits_BTK))
        return [
            prefix_beam(own[:frames], width)[0][0]
            for own, frames in zip(log_probability, frames_B, strict=True)
        ]
    path_BT = jnp.asarray(logits_BTK).argmax(-1)
    said_BT, count_B = map(np.asarray, collapse(path_BT, jnp.asarray(frames_B)))
    return [tuple(own[:count].tolist()) for own, count in zip(said_BT, count_B, strict=True)]

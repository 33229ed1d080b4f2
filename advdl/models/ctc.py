"""Connectionist temporal classification: Graves et al. 2006; from a path of labels, one a frame, to what is said.

Axes: B batch, T frames, K labels with the blank, which is 0, L labels of a string.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax


def ctc_loss(logits_BTK: jax.Array, frames_B: jax.Array, label_BL: jax.Array, label_length_B: jax.Array) -> jax.Array:
    """-log of the probability of the labels, over all paths that say them, (B,), in nats; at least 0. A string that needs more
    frames than there are has a large value."""
    behind = lambda length, size: (jnp.arange(size)[None] >= length[:, None]).astype(jnp.float32)  # noqa: E731
    paddings = behind(frames_B, logits_BTK.shape[1]), behind(label_length_B, label_BL.shape[1])
    logits = jnp.where(paddings[0][..., None] > 0, 0, logits_BTK.astype(jnp.float32))
    return jnp.maximum(optax.ctc_loss(logits, paddings[0], label_BL, paddings[1]), 0)


def collapse(path_BT: jax.Array, frames_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(labels (B, T), counts (B,)): repetitions become one, then blanks are left out; behind the count there are zeros."""
    before = jnp.pad(path_BT[:, :-1], ((0, 0), (1, 0)))
    kept = (path_BT != 0) & (path_BT != before) & (jnp.arange(path_BT.shape[1])[None] < frames_B[:, None])
    place = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, path_BT.shape[1])
    rows = jnp.broadcast_to(jnp.arange(len(path_BT))[:, None], path_BT.shape)
    return jnp.zeros_like(path_BT).at[rows, place].set(path_BT, mode="drop"), kept.sum(1)


def prefix_beam(log_probability_TK: np.ndarray, width: int = 10) -> list[tuple[tuple[int, ...], float]]:
    """Strings and the logarithms of their probabilities, the likeliest first, by keeping `width` beginnings at every frame;
    each adds up the paths that say it and end in a blank, and those that do not (Hannun et al. 2014, arXiv:1408.2873). A beam
    as wide as there are strings gives the probabilities of `ctc_loss`."""
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}  # ends in a blank, ends in its last label
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


def likeliest_word(logits_BTK: jax.Array, frames_B: jax.Array, words: Sequence[int]) -> jax.Array:
    """(B,): which of these labels is the likeliest to be all that is said."""
    one = lambda word: ctc_loss(  # noqa: E731
        logits_BTK, frames_B, jnp.full((len(logits_BTK), 1), word), jnp.ones(len(logits_BTK), jnp.int32)
    )
    losses = jax.lax.map(one, jnp.asarray(words, jnp.int32))
    return jnp.asarray(words, jnp.int32)[losses.argmin(0)]

"""Longer padding of other content changes neither the loss nor a gradient of any experiment whose
sequences are padded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

SMALL = {"features": 5, "batch": 6, "clip": 0.0}
CASES = {
    "parity": (
        {"networks": "rnn,lstm", "seeds": 1, "steps_per_call": 1},
        {"sequence": ("length", 1.0), "parity": ("length", 1)},
    ),
    "sentiment": ({"embedding": 4, "dropout": 0.0}, {"token": ("token_length", 7)}),
    "translate": (
        {"embedding": 4, "attention": "additive"},
        {"source": ("source_length", 6), "target": ("target_length", 5)},
    ),
    "translate-dot": (
        {"embedding": 4, "attention": "dot"},
        {"source": ("source_length", 6), "target": ("target_length", 5)},
    ),
    "speech": (
        {"strings": 4, "layers": 2},
        {"frames": ("frames_length", 3.0), "label": ("label_length", 2)},
    ),
}


def padded(batch, columns, more):
    """The batch with everything behind the lengths replaced, and more of it."""
    batch = dict(batch)
    for name, (length, content) in columns.items():
        value = np.asarray(batch[name])
        value = np.pad(value, ((0, 0), (0, more), *[(0, 0)] * (value.ndim - 2)))
        behind = np.arange(value.shape[1]) >= np.asarray(batch[length])[:, None]
        value[behind] = content
        batch[name] = value
    return batch


@pytest.mark.experiments
@pytest.mark.parametrize("name", CASES)
def test_padding_changes_neither_loss_nor_gradient(load, opened, name):
    kind, (changes, columns) = name.partition("-")[0], CASES[name]
    config = dataclasses.replace(load(kind).PRESETS["laptop"], **SMALL, **changes)
    splits, experiment = opened(kind, config)
    learner, batch = experiment.learner, splits.train(0)
    state = jax.jit(learner.init)(jax.random.key(0), batch)

    @jax.jit
    def step(batch):
        after, metrics = learner.step(state, batch, jax.random.key(1))
        first = [
            optax.tree.get(player.optimizer, "mu") for player in after.players.values()
        ]  # a tenth of the gradient
        return first, metrics

    gradient, metrics = step(batch)
    again, others = step(padded(batch, columns, 3))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(again), strict=True):
        assert np.isfinite(a).all() and np.abs(a).max() > 0
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6 * float(jnp.abs(a).max()) + 1e-8)
    figures = [{name: one.compute() for name, one in found.items()} for found in (metrics, others)]
    assert figures[1] == pytest.approx(figures[0], rel=2e-5)

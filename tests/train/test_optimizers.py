"""Optimizers by name, beside their equations in NumPy."""

import jax
import numpy as np
import optax
import pytest

from advdl import train
from advdl.errors import UserError

DECAY, MOMENTUM, BETA2 = 0.02, 0.8, 0.95
STEPS = 4
RATES = dict.fromkeys(train.OPTIMIZERS, 0.1) | {"lars": 50.0}  # its trust ratios are about 0.001
LAYERS = {"dense": {"kernel": (3, 2), "bias": (2,)}, "norm": {"scale": (2,), "bias": (2,)}}
L2 = ("sgd", "momentum", "nesterov", "adam")


def drawn(seed):
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: random.normal(size=shape).astype(np.float32),
        LAYERS,
        is_leaf=lambda x: isinstance(x, tuple),
    )


GRADIENTS = [drawn(1 + t) for t in range(STEPS)]


def found(name, gradients=GRADIENTS, **settings):
    """Parameters after an update by each of the gradients."""
    rule = train.optimizer(name, RATES[name], MOMENTUM, BETA2, **settings)
    params = drawn(0)
    state = rule.init(params)
    for gradient in gradients:
        updates, state = rule.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def expected(name, w, gradients, decays):
    """One array after the updates, in float64."""
    w, m, v = w.astype(np.float64), 0.0, 0.0
    decay, rate = DECAY * decays, RATES[name]
    for t, g in enumerate(gradients, 1):
        g = g.astype(np.float64) + decay * w * (name in (*L2, "lars"))
        if name == "sgd":
            w = w - rate * g
        elif name in ("momentum", "nesterov"):
            m = MOMENTUM * m + g
            w = w - rate * (g + MOMENTUM * m if name == "nesterov" else m)
        elif name == "lars":
            ratio = 1e-3 * np.linalg.norm(w) / np.linalg.norm(g) if decays else 1
            m = MOMENTUM * m + rate * ratio * g
            w = w - m
        else:
            m, v = MOMENTUM * m + (1 - MOMENTUM) * g, BETA2 * v + (1 - BETA2) * g**2
            epsilon = 1e-6 if name == "lamb" else 1e-8
            step = (m / (1 - MOMENTUM**t)) / (np.sqrt(v / (1 - BETA2**t)) + epsilon)
            step = step + decay * w * (name != "adam")
            ratio = np.linalg.norm(w) / np.linalg.norm(step) if name == "lamb" else 1
            w = w - rate * ratio * step
    return w


@pytest.mark.parametrize("decayed", ["all", "kernels"])
@pytest.mark.parametrize("name", train.OPTIMIZERS)
def test_every_rule_is_its_equation_and_decays_what_it_should(name, decayed):
    params = found(name, decay=DECAY, decayed=decayed)
    for layer, own in drawn(0).items():
        for leaf, w in own.items():
            gradients = [gradient[layer][leaf] for gradient in GRADIENTS]
            wanted = expected(name, w, gradients, decayed == "all" or leaf == "kernel")
            np.testing.assert_allclose(params[layer][leaf], wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", train.OPTIMIZERS)
def test_the_gradient_is_clipped_before_anything_is_added_to_it(name):
    """Clipped, a gradient is any other of its direction; the decay is not clipped with it."""
    settings = {"decay": DECAY, "clip": 0.5}
    larger = [jax.tree.map(lambda g: 1e3 * g, gradient) for gradient in GRADIENTS]
    norms = [np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(one))) for one in GRADIENTS]
    halves = [
        jax.tree.map(lambda g, norm=norm: 0.5 * g / norm, one)
        for one, norm in zip(GRADIENTS, norms, strict=True)
    ]
    wanted = found(name, halves, decay=DECAY)
    for gradients in (GRADIENTS, larger):
        clipped = found(name, gradients, **settings)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), clipped, wanted
        )


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_biases_beside_a_kernel_learn_at_their_own_rate(name):
    first, twice = (found(name, GRADIENTS[:1], bias_rate=factor) for factor in (1.0, 2.0))
    moved = jax.tree.map(lambda a, b, start: (b - start) / (a - start), first, twice, drawn(0))
    np.testing.assert_allclose(moved["dense"]["bias"], 2, rtol=1e-4)
    for own in (moved["dense"]["kernel"], *moved["norm"].values()):
        np.testing.assert_allclose(own, 1, rtol=1e-4)


def test_momentum_is_bit_for_bit_the_chain_that_runs_were_trained_by():
    """And its state has the same structure, so that a run can go on."""
    schedule = optax.cosine_decay_schedule(0.1, 10)
    rules = (
        train.chain(optax.sgd(schedule, 0.9), 1.0, 1e-4),
        train.optimizer("momentum", schedule, 0.9, clip=1.0, decay=1e-4),
    )
    ends = []
    for rule in rules:
        params = drawn(0)
        state = rule.init(params)
        for gradient in GRADIENTS:
            updates, state = rule.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        ends.append((params, state))
    assert jax.tree.all(jax.tree.map(np.array_equal, *ends))


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UserError, match="no optimizer named 'adamm'.*adam"):
        train.optimizer("adamm", 0.1)

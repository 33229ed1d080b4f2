"""Learning rates by their definitions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train
from advdl.errors import UserError
from advdl.nn import tracing
from advdl.train import SCHEDULES, schedule


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("constant", {0: 1, 899: 1}),
        ("cosine", {0: 1, 450: 0.5, 900: 0}),
        ("step", {449: 1, 451: 0.1, 676: 0.01}),
        ("thirds", {299: 1, 301: 0.1, 601: 0.01}),
        ("poly", {0: 1, 450: 0.5**0.5, 900: 0}),
    ],
)
def test_rate_by_update(name, at):
    rate = schedule(name, 2.0, 900, power=0.5)
    assert {t: pytest.approx(float(rate(t)) / 2, abs=1e-6) for t in at} == at


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_in_equal_steps_to_the_peak_and_the_rest_follows(name):
    rate = schedule(name, 2.0, 110, warmup=10)
    assert [float(rate(t)) for t in range(10)] == pytest.approx([0.2 * (t + 1) for t in range(10)])
    assert float(rate(10)) == pytest.approx(2.0)
    assert all(float(rate(t + 1)) <= float(rate(t)) + 1e-6 for t in range(9, 109))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [6, 11, 47])
def test_a_rate_beyond_the_last_update_is_that_at_the_end(name, steps):
    """Compiled, where a division by a constant is a product, whose rounding may pass 1."""
    found = jax.jit(jax.vmap(schedule(name, 2.0, steps, power=0.9)))(jnp.arange(steps, steps + 3))
    end = {"constant": 2.0, "cosine": 0.0, "poly": 0.0}.get(name)
    assert bool(jnp.all(jnp.isfinite(found))) and float(jnp.ptp(found)) == 0
    assert end is None or found[0] == pytest.approx(end, abs=1e-6)


def test_an_unknown_name_is_told():
    with pytest.raises(UserError, match="cosine"):
        schedule("cosin", 1.0, 10)


@pytest.mark.parametrize("name", ["fast", "xla"])
@pytest.mark.parametrize("most", [1.0, 1e3])
def test_a_clipped_gradient_is_what_optax_makes_of_it(name, most):
    rng = np.random.default_rng(0)
    gradient = {
        "small": rng.standard_normal((3, 4, 5), np.float32),
        "odd": rng.standard_normal((17, 241), np.float32),
        "large": rng.standard_normal((3, 3, 32, 20), np.float32),
    }
    with tracing.use(implementation=name):
        clip = train.chain(optax.sgd(1.0), most)
        found, _ = clip.update(gradient, clip.init(gradient))
    expected = optax.chain(optax.clip_by_global_norm(most), optax.sgd(1.0))
    wanted, _ = expected.update(gradient, expected.init(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)
    assert jax.tree.structure(clip.init(gradient)) == jax.tree.structure(expected.init(gradient)), (
        "as checkpoints have it"
    )


@pytest.mark.parametrize("decayed", ["all", "kernels"])
def test_the_gradient_alone_is_clipped_and_decay_is_added_to_what_is_left(decayed):
    params = {"layer": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 4.0)}}
    gradient = jax.tree.map(lambda p: 1e6 * jnp.ones_like(p), params)
    rule = train.chain(optax.sgd(0.5), clip=1e-6, decay=0.1, decayed=decayed)
    found, _ = rule.update(gradient, rule.init(params), params)
    np.testing.assert_allclose(found["layer"]["kernel"], -0.5 * 0.1 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(
        found["layer"]["bias"], -0.5 * 0.1 * 4.0 if decayed == "all" else 0, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "name",
    ["classify", pytest.param("segment", marks=pytest.mark.slow), "depth", "gan_translate"],
)
def test_experiments_with_weight_decay_clip_the_gradient_before_they_add_it(name, load, opened):
    """With a clip of almost nothing, what is left of the update is the decay."""
    small = {
        "classify": {"model": "resnet8"},
        "segment": {"width": 1 / 16},
        "depth": {"depths": "8"},
        "gan_translate": {},
    }
    config = replace(load(name).PRESETS["laptop"], **small[name])
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        for place in (train, train.optimizers):
            patch.setattr(
                place,
                "chain",
                lambda rule, clip=0.0, decay=0.0, decayed="all": seen.append((clip, decay)) or rule,
            )
        opened(name, replace(config, clip=0.25, weight_decay=0.125))
    assert set(seen) == {(0.25, 0.125)}


def test_biases_are_those_beside_a_kernel():
    """The shift of a normalization is called bias too, and is none."""
    params = {
        "conv": {"kernel": 0, "bias": 0},
        "block": {"norm": {"scale": 0, "bias": 0}, "up": {"kernel": 0}},
    }
    none = {"norm": {"scale": False, "bias": False}, "up": {"kernel": False}}
    assert train.biases(params) == {"conv": {"kernel": False, "bias": True}, "block": none}


def test_a_decayed_rate_falls_in_steps():
    rate = train.decayed(schedule("constant", 2.0, 100), 0.5, 10)
    at = {0: 2, 9: 2, 10: 1, 19: 1, 20: 0.5, 35: 0.25}
    assert {n: float(rate(jnp.int32(n))) for n in at} == at
    late = train.decayed(schedule("constant", 2.0, 100), 0.5, 10, after=3)
    assert [float(late(jnp.int32(n))) for n in (0, 29, 30, 40)] == [2, 2, 1, 0.5]


@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
def test_a_part_of_the_parameters_learns_at_a_rate_of_its_own(factor):
    """And with a factor of 0 it does not count in the norm that is clipped."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": jnp.full(1, 3.0), "b": jnp.full(1, 4.0)}
    rule = train.scaled(
        train.chain(optax.sgd(1.0), clip=1.0), factor, lambda params: {"a": False, "b": True}
    )
    updates, _ = rule.update(gradient, rule.init(params), params)
    norm = 5.0 if factor else 3.0
    assert float(updates["a"][0]) == pytest.approx(-3 / norm)
    assert float(updates["b"][0]) == pytest.approx(-4 / norm * factor)


def changes(rule, updates):
    """What a gradient of 1 changes a parameter by, update after update."""
    one, found = jnp.float32(1), []
    state = rule.init(one)
    for _ in range(updates):
        change, state = rule.update(one, state, one)
        found.append(float(change))
    return np.array(found)


def test_a_rate_is_divided_after_every_step_down_to_the_lowest():
    rate = train.divided(optax.constant_schedule(0.1), 1e3, 1e-6)
    assert [float(rate(t)) for t in range(4)] == pytest.approx([1e-1, 1e-4, 1e-6, 1e-6])


def test_a_divisor_that_has_no_float32_is_exact_after_many_steps():
    rate = train.divided(optax.constant_schedule(0.1), 1.000004, 1e-6)
    assert float(rate(125_000)) == pytest.approx(0.1 / 1.000004**125_000, rel=1e-6)


def test_a_player_of_several_updates_a_step_has_the_rate_of_the_step():
    rate = train.by_step(schedule("poly", 1.0, 4), 3)
    assert [float(rate(t)) for t in range(12)] == pytest.approx(np.repeat([1, 0.75, 0.5, 0.25], 3))


def test_velocity_gathers_rate_times_gradient_with_a_momentum_that_changes():
    """Against pylearn2's rule in float64: v = m·v - η·g."""
    rate, share = (lambda t: 0.1 / (1 + t)), optax.linear_schedule(0.5, 0.7, 5)
    expected, v = [], 0.0
    for t in range(8):
        v = (0.5 + 0.2 * min(t / 5, 1)) * v - 0.1 / (1 + t)
        expected.append(v)
    np.testing.assert_allclose(changes(train.momentum(rate, share), 8), expected, rtol=1e-5)


def test_parameters_stay_within_their_bound_whatever_the_rule_says():
    rule, params = train.bounded(optax.sgd(1.0), 0.5), {"a": jnp.array([0.4, -0.2, 0.0])}
    gradient = {"a": jnp.array([-3.0, 0.1, 7.0])}
    updates, _ = rule.update(gradient, rule.init(params), params)
    np.testing.assert_allclose(optax.apply_updates(params, updates)["a"], [0.5, -0.3, -0.5])
    assert train.bounded(rule, 0.0) is rule

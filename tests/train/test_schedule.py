"""Learning rates by their definitions."""

import jax
import numpy as np
import optax
import pytest

from advdl import train
from advdl.errors import UserError
from advdl.nn import formulation
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


def test_an_unknown_name_is_told():
    with pytest.raises(UserError, match="cosine"):
        schedule("cosin", 1.0, 10)


@pytest.mark.parametrize("name", ["fast", "plain"])
@pytest.mark.parametrize("most", [1.0, 1e3])
def test_a_clipped_gradient_is_what_optax_makes_of_it(name, most):
    rng = np.random.default_rng(0)
    gradient = {"a": rng.standard_normal((3, 4, 5), np.float32), "b": rng.standard_normal(7, np.float32)}
    with formulation.use(name):
        clip = train.clipped(optax.sgd(1.0), most)
        found, _ = clip.update(gradient, clip.init(gradient))
    expected = optax.chain(optax.clip_by_global_norm(most), optax.sgd(1.0))
    wanted, _ = expected.update(gradient, expected.init(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)
    assert jax.tree.structure(clip.init(gradient)) == jax.tree.structure(expected.init(gradient)), "as checkpoints have it"

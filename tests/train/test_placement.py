"""Where things lie: shardings by rule and by default, parameters born there, one program for all
steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from advdl.cli import Config
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.nn import replica
from advdl.train import Loss, Player, minimize, place, placement
from advdl.train.placement import on_mesh, parse_mesh

KEY = jax.random.key(2)
TRACES = []


def learner():
    """A two-layer net with noise of its own for each example, and a count of how often its loss was
    traced."""

    def init(key, batch):
        keys = jax.random.split(key)
        first, second = jax.random.normal(keys[0], (6, 8)), jax.random.normal(keys[1], (8, 1))
        return {"params": {"first": first, "second": second, "bias": jnp.full(3, 0.5)}}

    def loss(variables, batch, rng):
        TRACES.append(rng.key)
        p = variables["params"]
        noise = replica.sample(lambda k: jax.random.normal(k, (6,)), rng.key, len(batch["x"]))
        out = jnp.tanh((batch["x"] + noise) @ p["first"]) @ p["second"]
        return Loss(
            Mean.of((out[:, 0] - batch["y"] + p["bias"].sum()) ** 2), {"noise": Mean.of(noise)}
        )

    def evaluate(variables, batch):
        p = variables["params"]
        return {
            "out": Mean.of((jnp.tanh(batch["x"] @ p["first"]) @ p["second"])[:, 0], batch["mask"])
        }

    return minimize(Player(init, loss, optax.adam(0.1), ema=0.5), evaluate)


def batch(size=16):
    x = np.random.default_rng(1).normal(size=(size, 6)).astype(np.float32)
    return {"x": x, "y": np.sin(x[:, 0]), "mask": (np.arange(size) < size - 3).astype(np.float32)}


def spec(array):
    return array.sharding.spec


def alike(a, x):
    return (a.shape, a.dtype) == (x.shape, x.dtype) and a.sharding.is_equivalent_to(
        x.sharding, x.ndim
    )


def test_fsdp_splits_the_largest_dimension_of_parameters_optimizer_and_average():
    placed = place("mesh", "data=2,fsdp=4")(learner())
    state = placed.init(KEY, placed.put(batch()))["model"]
    for tree in (state.params, state.ema["params"], state.optimizer[0].mu, state.optimizer[0].nu):
        assert (
            spec(tree["first"]) == P(None, "fsdp")
            and spec(tree["second"]) == P("fsdp")
            and spec(tree["bias"]) == P()
        )
        assert tree["first"].addressable_shards[0].data.shape == (6, 2)


def test_fsdp_splits_the_largest_dimension_that_divides_wherever_it_is():
    """And a larger one that does not divide is passed over."""
    shapes = dict(first=(16, 8), last=(8, 16), middle=(4, 24, 8), odd=(30, 8), none=(3, 5))

    def init(key, batch):
        return {"params": {name: jnp.zeros(shape) for name, shape in shapes.items()}}

    placed = place("mesh", "data=2,fsdp=4")(minimize(Player(init, None, optax.sgd(0.1)), None))
    params = placed.abstract(KEY, placed.shapes(batch()))["model"].params
    second = P(None, "fsdp")
    wanted = {"first": P("fsdp"), "last": second, "middle": second, "odd": second, "none": P()}
    assert {name: spec(leaf) for name, leaf in params.items()} == wanted


def test_rules_win_by_the_first_that_is_found_in_the_path():
    rules = [("optimizer/.*first$", P()), ("first$", P(None, "model")), ("second$", P("model"))]
    placed = on_mesh({"data": 2, "fsdp": 2, "model": 2}, rules)(learner())
    state = placed.init(KEY, placed.put(batch()))["model"]
    assert spec(state.params["first"]) == P(None, "model") and spec(state.params["second"]) == P(
        "model"
    )
    assert spec(state.optimizer[0].mu["first"]) == P() and spec(
        state.optimizer[0].mu["second"]
    ) == P("model")


@pytest.mark.parametrize(
    "rule", [("bias$", P("model")), ("bias$", P(None, "data")), ("bias$", P("rows"))]
)
def test_a_rule_that_does_not_fit_is_named_with_the_leaf(rule):
    placed = on_mesh({"data": 2, "fsdp": 2, "model": 2}, [rule])(learner())
    with pytest.raises(UserError, match="bias.*shape .3"):
        placed.init(KEY, placed.put(batch()))


@pytest.mark.parametrize(
    ("name", "mesh"), [("jit", ""), ("pmap", ""), ("mesh", ""), ("mesh", "data=2,fsdp=2,model=2")]
)
def test_what_is_abstract_is_what_is_born_and_steps_keep_it(name, mesh):
    placed = place(name, mesh)(learner())
    data = placed.put(batch())
    abstract, state = placed.abstract(KEY, data), placed.init(KEY, data)
    TRACES.clear()
    for _ in range(3):
        assert jax.tree.all(jax.tree.map(alike, abstract, state))
        state, metrics = placed.step(state, placed.put(batch()), KEY)
    assert len(TRACES) == 1
    assert float(metrics["noise"].count) == 16 * 6


@pytest.mark.slow
def test_every_placement_draws_the_same_parameters_and_noise_and_counts_the_same():
    found = []
    for name, mesh in [
        ("jit", ""),
        ("pmap", ""),
        ("mesh", "data=8"),
        ("mesh", "data=2,fsdp=2,model=2"),
    ]:
        placed = place(name, mesh)(learner())
        state = placed.init(KEY, placed.put(batch()))
        first = jax.device_get(state)["model"].params["first"]
        figures = placed.evaluate(state, placed.put(batch()))["out"]
        _, metrics = placed.step(state, placed.put(batch()), KEY)
        found.append(
            (first, float(metrics["noise"].total), figures.compute(), float(figures.count))
        )
    for first, noise, out, count in found[1:]:
        np.testing.assert_array_equal(first, found[0][0])
        assert (noise, out, count) == pytest.approx(found[0][1:], rel=1e-5)
    assert found[0][3] == 13


def test_accumulation_deals_the_same_examples_on_a_mesh_without_moving_them():
    def gathered(accumulate):
        def loss(variables, batch, rng):
            return Loss(Mean.of((batch["x"] @ variables["params"]["w"] - batch["y"]) ** 2))

        player = Player(
            lambda k, b: {"params": {"w": jnp.ones(6)}}, loss, optax.sgd(0.1), accumulate=accumulate
        )
        placed = place("mesh", "data=8")(minimize(player, lambda v, b: {}))
        data = placed.put(batch(32))
        state = placed.init(KEY, data)
        placed.step.compile(state, data, KEY)
        return placed.step.executable.as_text()

    for kind in ("all-gather", "all-to-all", "collective-permute"):
        assert kind not in gathered(4)


def test_mesh_words():
    assert parse_mesh("data=2, fsdp=4") == {"data": 2, "fsdp": 4}
    for words in ("data", "data=", "data=0", "data=-1", "data=1.5", "=2", ""):
        with pytest.raises(UserError):
            parse_mesh(words)


@pytest.mark.parametrize(
    ("held", "parts"),
    [
        ([[0, 1], [2, 3]], [(0, 2), (1, 2)]),  # two processes of two devices
        (
            [[0], [0], [2], [2]],
            [(0, 2), (0, 2), (1, 2), (1, 2)],
        ),  # a model over two processes each: they read the same rows
        ([[0, 2], [1, 3]], [(0, 2), (1, 2)]),  # devices in another order than processes
    ],
)
def test_processes_read_the_rows_that_their_devices_hold(monkeypatch, held, parts):
    class Device:
        def __init__(self, process):
            self.process_index = process

    class Sharding:
        def devices_indices_map(self, shape):
            return {
                Device(process): (slice(row, row + 1),)
                for process, rows in enumerate(held)
                for row in rows
            }

    for process, part in enumerate(parts):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert placement._part(Sharding(), 4) == part


def test_without_a_word_a_run_takes_all_devices(one_device, monkeypatch):
    monkeypatch.setattr(placement, "all_devices", one_device)
    assert Config().placement == "mesh" and Config().mesh == ""
    assert place(Config().placement, Config().mesh)(learner()).ways == jax.device_count() == 8
    assert place("jit")(learner()).ways == 1

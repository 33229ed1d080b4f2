"""minimize and alternate against arithmetic done by hand."""

import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl.errors import UserError
from advdl.losses import minimax_discriminator, minimax_generator, nonsaturating_generator
from advdl.metrics import Mean
from advdl.nn import replica
from advdl.train import Loss, Player, alternate, fit_scan, minimize, multi_step, train_jointly

KEY = jax.random.key(7)


def regression_batch(size=12):
    x = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)
    return {"x": x, "y": (x @ [1.0, -2.0, 0.5] + 0.1).astype(np.float32)}


def squared_error(variables, batch, key):
    return Loss(Mean.of((batch["x"] @ variables["params"]["w"] - batch["y"]) ** 2))


def zeros(key, batch):
    return {"params": {"w": jnp.full(batch["x"].shape[1], 0.3)}}


def regression(optimizer, **options):
    return minimize(
        Player(zeros, squared_error, optimizer, **options),
        lambda v, b: squared_error(v, b, None).objective,
    )


def run(learner, batch, steps):
    state = learner.init(KEY, batch)
    step = jax.jit(learner.step)
    for _ in range(steps):
        state, metrics = step(state, batch, KEY)
    return state, metrics


def test_minimize_is_gradient_descent_on_the_mean():
    batch = regression_batch()
    w = np.full(3, 0.3)
    for _ in range(5):
        residual = batch["x"] @ w - batch["y"]
        w = w - 0.1 * 2 * batch["x"].T @ residual / len(residual)
    state, metrics = run(regression(optax.sgd(0.1)), batch, 5)
    np.testing.assert_allclose(state["model"].params["w"], w, rtol=1e-5)
    assert int(state.step) == 5 and float(metrics["loss"].count) == 12


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulated_micro_batches_equal_one_batch(parts):
    whole, _ = run(regression(optax.adam(0.1)), regression_batch(), 4)
    dealt, _ = run(regression(optax.adam(0.1), accumulate=parts), regression_batch(), 4)
    np.testing.assert_allclose(dealt["model"].params["w"], whole["model"].params["w"], rtol=1e-5)


def test_micro_batches_of_unequal_weight_are_weighed_by_their_counts():
    """Mean over the kept examples, though the first micro-batch keeps one and the second three."""
    batch = regression_batch(8) | {"mask": np.array([1, 1, 0, 1, 0, 1, 0, 0], np.float32)}

    def masked(variables, batch, key):
        return Loss(
            Mean.of((batch["x"] @ variables["params"]["w"] - batch["y"]) ** 2, batch["mask"])
        )

    learners = [
        minimize(Player(zeros, masked, optax.sgd(0.1), accumulate=a), lambda v, b: {})
        for a in (1, 2)
    ]
    one, two = (run(learner, batch, 3)[0]["model"].params["w"] for learner in learners)
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_moving_average_has_its_closed_form_and_decay_zero_is_the_network_itself():
    batch, decay = regression_batch(), 0.8
    learner = regression(optax.sgd(0.1), ema=decay)
    state = learner.init(KEY, batch)
    average, step = np.asarray(state["model"].params["w"], np.float64), jax.jit(learner.step)
    for _ in range(6):
        state, _ = step(state, batch, KEY)
        average = decay * average + (1 - decay) * np.asarray(state["model"].params["w"], np.float64)
    np.testing.assert_allclose(state["model"].average["params"]["w"], average, rtol=1e-5)
    same, _ = run(regression(optax.sgd(0.1), ema=0.0), batch, 3)
    np.testing.assert_allclose(
        same["model"].average["params"]["w"], same["model"].params["w"], rtol=1e-6
    )


def test_moving_average_covers_batch_statistics():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False, momentum=0.5)(nn.Dense(1)(x))[:, 0]

    def loss(variables, batch, rng):
        out, new = Net().apply(variables, batch["x"], mutable=["batch_stats"])
        return Loss(Mean.of((out - batch["y"]) ** 2), collections=new)

    learner = minimize(
        Player(lambda k, b: Net().init(k, b["x"]), loss, optax.sgd(0.1), ema=0.5), lambda v, b: {}
    )
    state, _ = run(learner, regression_batch(), 1)
    new, average = state["model"].collections["batch_stats"], state["model"].average["batch_stats"]
    np.testing.assert_allclose(
        average["BatchNorm_0"]["mean"], new["BatchNorm_0"]["mean"] / 2, rtol=1e-5
    )


def counting_game(k, generator_rate=1.0, discriminator_rate=1.0):
    """Players whose updates leave a trace of the minibatch, the noise and the opponent that they
    saw."""

    def init(key, batch):
        return {"params": {"ids": jnp.zeros(()), "noise": jnp.zeros(()), "seen": jnp.zeros(())}}

    def loss(own, opponent, batch, rng):
        p, count = own["params"], batch["id"].shape[0]
        noise = replica.sample(lambda k: jax.random.normal(k), rng.key, count)
        seen = jnp.broadcast_to(opponent["params"]["ids"], (count,))
        descended = -(p["ids"] * batch["id"] + p["noise"] * noise + p["seen"] * seen)
        return Loss(Mean.of(descended), {"noise": Mean.of(noise)})

    players = [Player(init, loss, optax.sgd(rate)) for rate in (discriminator_rate, generator_rate)]
    return alternate(*players, evaluate=lambda v, b: {}, discriminator_steps=k)


def test_k_discriminator_updates_use_k_minibatches_and_the_generator_comes_after_them():
    batch = {"id": np.arange(1, 13, dtype=np.float32)}
    state, _ = run(counting_game(3), batch, 1)
    d, g = state["discriminator"].params, state["generator"].params
    assert float(d["ids"]) == pytest.approx(
        sum(np.mean(np.arange(1, 13)[hand::3]) for hand in range(3))
    )
    assert float(g["ids"]) == pytest.approx(np.mean(np.arange(1, 13)[2::3]))
    assert float(d["seen"]) == 0.0  # the generator had not moved yet
    assert float(g["seen"]) == pytest.approx(float(d["ids"]))  # the discriminator had, k times


def test_every_update_draws_its_own_noise():
    batch = {"id": np.ones(8, np.float32)}
    traces = {k: run(counting_game(k), batch, 1)[0] for k in (1, 2)}
    d1, d2 = (float(traces[k]["discriminator"].params["noise"]) for k in (1, 2))
    g1 = float(traces[1]["generator"].params["noise"])
    assert len({d1, d2, g1, 2 * d1}) == 4
    again = run(counting_game(1), batch, 2)[0]["discriminator"].params["noise"]
    assert float(again) != pytest.approx(2 * d1)  # nor does the next step draw it again


def test_each_player_changes_only_itself():
    batch = {"id": np.ones(4, np.float32)}
    still, _ = run(counting_game(1, generator_rate=0.0), batch, 2)
    assert all(float(leaf) == 0.0 for leaf in jax.tree.leaves(still["generator"].params))
    assert float(still["discriminator"].params["ids"]) == 2.0
    still, _ = run(counting_game(1, discriminator_rate=0.0), batch, 2)
    assert all(float(leaf) == 0.0 for leaf in jax.tree.leaves(still["discriminator"].params))


def test_alternate_equals_algorithm_1_written_out_for_a_scalar_game():
    """D(x) = sigmoid(a·x + b), G(z) = c + z: every update against gradients taken by hand in
    float64."""

    def init_d(key, batch):
        return {"params": {"a": jnp.float32(0.4), "b": jnp.float32(-0.1)}}

    def logit(v, x):
        return v["params"]["a"] * x + v["params"]["b"]

    def fakes(v, key, count):
        return v["params"]["c"] + replica.sample(lambda k: jax.random.uniform(k), key, count)

    def loss_d(own, opponent, batch, rng):
        fake = fakes(opponent, rng.key, batch["x"].shape[0])
        return Loss(
            Mean.of(minimax_discriminator(logit(own, batch["x"]), logit(own, fake))),
            {"fake": Mean.of(fake)},
        )

    def loss_g(own, opponent, batch, rng):
        fake = fakes(own, rng.key, batch["x"].shape[0])
        return Loss(Mean.of(minimax_generator(logit(opponent, fake))), {"fake_g": Mean.of(fake)})

    learner = alternate(
        Player(init_d, loss_d, optax.sgd(0.5)),
        Player(lambda k, b: {"params": {"c": jnp.float32(2.0)}}, loss_g, optax.sgd(0.5)),
        evaluate=lambda v, b: {},
    )
    batch = {"x": np.float32([1.0, 1.5, 0.5, 1.2])}
    state = learner.init(KEY, batch)
    after, _ = jax.jit(learner.step)(state, batch, KEY)

    key_d, key_g = jax.random.split(jax.random.fold_in(KEY, 0))
    draws = [
        np.asarray(replica.sample(jax.random.uniform, jax.random.fold_in(k, 0), 4), np.float64)
        for k in (jax.random.fold_in(key_d, 0), key_g)
    ]

    def sigmoid(u):
        return 1 / (1 + np.exp(-u))

    a, b, c = 0.4, -0.1, 2.0
    x, fake = batch["x"].astype(np.float64), c + draws[0]
    d_real, d_fake = sigmoid(a * x + b), sigmoid(a * fake + b)
    a, b = (
        a + 0.5 * np.mean((1 - d_real) * x - d_fake * fake),
        b + 0.5 * np.mean((1 - d_real) - d_fake),
    )
    np.testing.assert_allclose([after["discriminator"].params[n] for n in "ab"], [a, b], rtol=1e-5)
    c = c + 0.5 * np.mean(sigmoid(a * (c + draws[1]) + b) * a)
    np.testing.assert_allclose(after["generator"].params["c"], c, rtol=1e-5)


def test_both_generator_losses_have_the_same_fixed_point_and_another_gradient():
    logits = jnp.float32([-3.0, 0.0, 2.0])
    slopes = [
        jax.vmap(jax.grad(loss))(logits) for loss in (minimax_generator, nonsaturating_generator)
    ]
    d = 1 / (1 + np.exp(-np.asarray(logits)))
    np.testing.assert_allclose(slopes[0], -d, rtol=1e-5)
    np.testing.assert_allclose(slopes[1], -(1 - d), rtol=1e-5)


def test_a_batch_that_cannot_be_dealt_is_refused():
    with pytest.raises(UserError, match="12 examples"):
        run(regression(optax.sgd(0.1), accumulate=5), regression_batch(), 1)


def noisy_regression():
    """A network with batch statistics, whose initialization, loss and evaluation leave a trace of
    key and batch."""
    network = nn.Sequential(
        [nn.Dense(5), nn.BatchNorm(use_running_average=False), nn.relu, nn.Dense(1)]
    )

    def residual(variables, batch):
        value, new = network.apply(variables, batch["x"], mutable=["batch_stats"])
        return value[:, 0] - batch["y"], new

    def loss(variables, batch, rng):
        off, new = residual(variables, batch)
        noise = replica.sample(jax.random.normal, rng.key, len(off))
        return Loss(Mean.of((off + noise) ** 2), {"noise": Mean.of(noise)}, new)

    player = Player(
        lambda key, batch: network.init(key, batch["x"]), loss, optax.adam(0.1), ema=0.9
    )
    return minimize(
        player, lambda variables, batch: {"error": Mean.of(residual(variables, batch)[0])}
    )


@pytest.mark.slow
def test_members_learn_together_exactly_as_alone(optimized):
    batch = regression_batch() | {"id": np.arange(12, dtype=np.float32)}
    fit, game = noisy_regression(), counting_game(2)
    learners = {
        "fit": fit,
        "again": fit,
        "game": game,
        "pair": train_jointly({"a": fit, "b": game}),
    }
    state, metrics = run(train_jointly(learners), batch, 3)
    figures = jax.jit(train_jointly(learners).evaluate)(state, batch)
    assert int(state.step) == 3
    seen = 0
    for name, alone in learners.items():
        key = jax.random.fold_in(KEY, zlib.crc32(name.encode()))
        own, step, score = alone.init(key, batch), jax.jit(alone.step), jax.jit(alone.evaluate)
        for _ in range(3):
            own, last = step(own, batch, key)
        for parts, whole in (
            (own.players, state.players),
            (last, metrics),
            (score(own, batch), figures),
        ):
            for what, value in parts.items():
                jax.tree.map(np.testing.assert_array_equal, value, whole[f"{name}/{what}"])
                seen += 1
    assert seen == len(state.players) + len(metrics) + len(figures)


def test_one_learner_under_two_names_starts_from_two_initializations():
    fit = noisy_regression()
    state = train_jointly({"a": fit, "b": fit}).init(KEY, regression_batch())
    a, b = (state[f"{name}/model"].params["layers_0"]["kernel"] for name in "ab")
    assert np.abs(a - b).min() > 0


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b/c", "a/b")])
def test_members_whose_names_cannot_be_told_apart_are_refused(names):
    with pytest.raises(ValueError, match="prefix"):
        train_jointly(dict.fromkeys(names, noisy_regression()))


@pytest.mark.parametrize(
    "make", [lambda: regression(optax.sgd(0.1), ema=0.5), lambda: counting_game(2)]
)
def test_several_steps_in_a_call_are_those_steps(make):
    learner, batches = (
        make(),
        [regression_batch() | {"id": np.arange(12, dtype=np.float32) + 12 * t} for t in range(6)],
    )
    alone, step = learner.init(KEY, batches[0]), jax.jit(learner.step)
    each = []
    for batch in batches:
        alone, metrics = step(alone, batch, KEY)
        each.append(metrics)
    three = multi_step(learner, 3)

    def deal(parts):
        return np.stack(parts, 1).reshape(36, *parts[0].shape[1:])

    joined = [
        {name: deal([batch[name] for batch in batches[n : n + 3]]) for name in batches[0]}
        for n in (0, 3)
    ]
    state, step = three.init(KEY, joined[0]), jax.jit(three.step)
    for batch in joined:
        state, sums = step(state, batch, KEY)
    assert int(state.step) == 6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, alone)
    added = jax.tree.map(lambda *x: sum(x), *each[3:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), sums, added)


def test_a_scanned_run_is_the_loop_over_its_steps():
    learner = regression(optax.sgd(0.1), ema=0.5)

    def draw(key):
        x = jax.random.normal(key, (12, 3))
        return {"x": x, "y": x.sum(1)}

    state, metrics = jax.jit(fit_scan(learner, draw, 4))(KEY)
    key_init, key_draw, key = jax.random.split(KEY, 3)

    def batch(t):
        return draw(jax.random.fold_in(key_draw, t))

    alone, totals, step = learner.init(key_init, batch(0)), [], jax.jit(learner.step)
    for t in range(4):
        alone, seen = step(alone, batch(t), key)
        totals.append(seen["loss"].total)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, alone)
    np.testing.assert_allclose(metrics["loss"].total, np.array(totals), rtol=1e-5)


def test_a_loss_that_is_an_array_is_refused_with_what_to_return():
    def array(variables, batch, rng):
        return squared_error(variables, batch, rng).objective.total

    learner = minimize(Player(zeros, array, optax.sgd(0.1)), lambda *_: {})
    batch = regression_batch()
    with pytest.raises(TypeError, match=r"return train\.Loss\(Mean\.of\(values\)\)"):
        learner.step(learner.init(KEY, batch), batch, KEY)

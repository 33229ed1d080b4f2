"""Settings of a game: rates that are those of the step, momentum, bounds, and what cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import cli, losses, train
from advdl.errors import UserError

RNG = train.Rng(jax.random.key(1), jnp.int32(0))
SGD = cli.GameConfig(optimizer="momentum", learning_rate=1.0, momentum=(0.0, 0.0))


def changes(rule, updates, gradient=1.0):
    """What a gradient changes a parameter of 1 by, update after update."""
    one, found = jnp.float32(1), []
    state, update = rule.init(one), jax.jit(rule.update)
    for _ in range(updates):
        change, state = update(jnp.float32(gradient), state, one)
        found.append(float(change))
    return np.array(found)


def test_the_discriminator_has_a_rate_of_its_own_where_one_is_given():
    both = [changes(SGD.rule(player), 1) for player in ("discriminator", "generator")]
    np.testing.assert_allclose(both, -1)
    own = SGD.but(discriminator_learning_rate=0.25)
    assert changes(own.rule("discriminator"), 1) == -0.25
    assert changes(own.rule("generator"), 1) == -1


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("updates", [1, 5])
def test_a_player_that_is_updated_more_often_has_the_rate_of_the_step(optimizer, updates):
    """Rates of both players reach 0 with the last step, though D is updated five times a step."""
    config = SGD.but(optimizer=optimizer, betas=(0.0, 0.0), schedule="poly", steps=4)
    config = config.but(discriminator_steps=updates)
    expected = np.array([-1, -0.75, -0.5, -0.25])
    found = changes(config.rule("discriminator"), 4 * updates)
    np.testing.assert_allclose(found, np.repeat(expected, updates), rtol=1e-4)
    np.testing.assert_allclose(changes(config.rule("generator"), 4), expected, rtol=1e-4)


def test_the_discriminator_alone_is_clipped():
    config = SGD.but(critic_clip=0.5)
    assert changes(config.rule("discriminator"), 1, gradient=-3.0) == pytest.approx(-0.5)
    assert changes(config.rule("generator"), 1, gradient=-3.0) == 3


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_an_l2_penalty_pulls_both_players_behind_the_clip(player):
    config = SGD.but(weight_decay=0.25, clip=1.0)
    assert changes(config.rule(player), 1, gradient=100.0) == pytest.approx(-(1 + 0.25 * 1))


def test_adam_has_the_decays_that_are_given():
    config = cli.GameConfig(learning_rate=0.5, betas=(0.0, 0.9))
    found = changes(config.rule("generator"), 3)
    np.testing.assert_allclose(found, changes(optax.adam(0.5, 0.0, 0.9), 3), rtol=1e-6)


def test_penalties_have_the_weights_that_are_given():
    x, fake = jax.random.normal(jax.random.key(0), (2, 3, 4))

    def score(x):
        return jnp.square(x).sum(1) / 2  # whose gradient is x

    found = cli.GameConfig(r1=3.0).penalties(score, x, fake, RNG)
    np.testing.assert_allclose(found, 1.5 * jnp.square(x).sum(1), rtol=1e-5)
    found = cli.GameConfig(r2=4.0).penalties(score, x, fake, RNG)
    np.testing.assert_allclose(found, 2 * jnp.square(fake).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(cli.GameConfig().penalties(score, x, fake, RNG), np.zeros(3))


@pytest.mark.parametrize(
    "settings", [{"gradient_penalty": 10.0}, {"critic_clip": 0.01}, {"loss": "hinge"}]
)
def test_a_critic_with_a_bound_may_play_by_the_wasserstein_distance(settings):
    settings = {"loss": "wasserstein"} | settings
    assert cli.GameConfig(**settings).adversarial() == losses.ADVERSARIAL[settings["loss"]]
    layers = cli.GameConfig(loss="wasserstein").adversarial(lipschitz=True)
    assert layers == losses.ADVERSARIAL["wasserstein"]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"real_label": 0.9, "loss": "hinge"}, "--loss hinge has none"),
        ({"loss": "wasserstein"}, "needs a Lipschitz critic; add --gradient-penalty 10"),
        ({"loss": "wasserstein", "r1": 1.0}, "needs a Lipschitz critic"),
    ],
)
def test_losses_that_do_not_go_with_other_settings_are_told_in_one_line(settings, line):
    with pytest.raises(UserError, match=line):
        cli.GameConfig(**settings).adversarial()


def test_labels_of_data_are_smoothed():
    real, fake = jnp.zeros(1), jnp.zeros(1)
    plain, smooth = (
        cli.GameConfig(real_label=t).adversarial().discriminator(real + 1, fake) for t in (1.0, 0.9)
    )
    np.testing.assert_allclose(smooth - plain, 0.1, rtol=1e-5)

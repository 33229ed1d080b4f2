"""Two networks that play: what each is given, and in which mode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models, train
from advdl.nn import BatchNorm, Bias


class Draw(nn.Module):
    """Noise times the class plus one."""

    @nn.compact
    def __call__(self, z, train, label_B=None):
        x = nn.Dense(3, name="dense")(z)
        return x if label_B is None else x * (1 + label_B[:, None])


class Judge(nn.Module):
    """The sum of an example, normalized."""

    norm: type = BatchNorm

    @nn.compact
    def __call__(self, x, train, label_B=None):
        y = self.norm(name="norm")(x, train).sum(-1)
        return (y if label_B is None else y + 10 * label_B), {}


BATCH = {"image": jnp.arange(12.0).reshape(4, 3), "label": jnp.arange(4)}
RNG = train.Rng(jax.random.key(7), jnp.int32(0))


def game(norm=BatchNorm, **options):
    return models.Game(Draw(), Judge(norm), models.Noise("normal", 5), **options)


def played(own):
    """(variables of both, new samples)."""
    variables = {
        "generator": own.init_generator(RNG("a"), BATCH),
        "discriminator": own.init_discriminator(RNG("b"), BATCH),
    }
    return variables, own.sample(variables["generator"], BATCH, RNG)[0]


def test_as_many_samples_are_drawn_as_there_are_examples_from_the_noise_of_a_batch():
    own = game()
    variables, fake = played(own)
    z = own.noise.sample(RNG("noise"), 4)
    np.testing.assert_allclose(fake, own.draw(variables["generator"], {"z": z}), rtol=1e-6)


@pytest.mark.parametrize("norm, same", [(BatchNorm, False), (Bias, True)])
def test_data_and_samples_in_one_batch_or_in_two_differ_by_batch_normalization_alone(norm, same):
    one, two = game(norm, joint=True), game(norm)
    variables, fake = played(two)
    logits = [
        own.judge_both(variables["discriminator"], BATCH, fake, RNG)[:2] for own in (one, two)
    ]
    assert np.allclose(logits[0], logits[1], rtol=1e-5) == same


def test_statistics_of_samples_come_after_those_of_the_data():
    own = game()
    variables, fake = played(own)
    _, _, seen = own.judge_both(variables["discriminator"], BATCH, fake, RNG)
    first = own.judge(variables["discriminator"], BATCH, BATCH["image"], RNG)[1]
    both = own.judge({**variables["discriminator"], **first}, BATCH, fake, RNG)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), seen, both)


@pytest.mark.parametrize("joint", [False, True])
def test_each_example_and_each_sample_is_judged_with_its_class(joint):
    own = game(Bias, joint=joint, conditional=True)
    variables, fake = played(own)
    real_logit, fake_logit, _ = own.judge_both(variables["discriminator"], BATCH, fake, RNG)
    classes = 10.0 * np.arange(4)
    np.testing.assert_allclose(real_logit, BATCH["image"].sum(1) + classes, rtol=1e-5)
    np.testing.assert_allclose(fake_logit, fake.sum(1) + classes, rtol=1e-4)
    zeros = {**BATCH, "label": jnp.zeros(4, int)}
    plain = own.sample(variables["generator"], zeros, RNG)[0]
    np.testing.assert_allclose(fake, plain * (1 + np.arange(4))[:, None], rtol=1e-6)


def test_evaluation_changes_no_statistics_and_distorts_nothing():
    own = game(policies=("cutout",))
    variables, _ = played(own)
    x = jnp.ones((4, 3)) * 2
    logit = own.logits(variables["discriminator"], BATCH, x)
    np.testing.assert_allclose(logit, 6, rtol=1e-4)  # by the first statistics, mean 0, variance 1


@pytest.mark.slow
def test_all_that_the_discriminator_sees_in_training_is_distorted():
    own = models.Game(Draw(), Judge(Bias), models.Noise("normal", 5), policies=("color",))
    x = jax.random.uniform(RNG("c"), (4, 4, 4, 1))
    batch = {"image": x}
    variables = own.init_discriminator(RNG("a"), batch)
    real_logit, fake_logit, _ = own.judge_both(variables, batch, x, RNG)
    exact = own.logits(variables, batch, x)
    assert not np.isclose(real_logit, exact).any() and not np.isclose(fake_logit, exact).any()
    assert not np.isclose(real_logit, fake_logit).any()

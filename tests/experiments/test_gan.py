"""gan.py: what its flags mean, and what cannot be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import nn, present


@pytest.fixture(scope="module")
def gan(load):
    return load("gan")


def losses_of(gan, joint, **changes):
    """The first step's losses."""
    config = dataclasses.replace(gan.PRESETS["laptop"], batch=16, joint=joint, **changes)
    experiment = gan.build(config)
    batch = {name: jnp.asarray(x) for name, x in experiment.train(0).items()}
    state = experiment.learner.init(jax.random.key(0), batch)
    _, metrics = jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))
    return [metrics[f"{player}_loss"].compute() for player in ("discriminator", "generator")]


@pytest.mark.slow
def test_data_and_samples_in_one_batch_or_in_two_differ_by_batch_normalization_alone(gan, monkeypatch):
    with_norm = [losses_of(gan, joint, width=8) for joint in (False, True)]
    assert abs(with_norm[0][0] - with_norm[1][0]) > 1e-3
    pair = gan.networks

    def without_norm(*arguments):
        generator, discriminator, low = pair(*arguments)
        return generator, discriminator.clone(norm=nn.Bias), low

    monkeypatch.setattr(gan, "networks", without_norm)
    without = [losses_of(gan, joint, width=8) for joint in (False, True)]
    np.testing.assert_allclose(*without, rtol=1e-5)


def test_two_samples_of_one_distribution_cannot_be_told_apart_and_two_others_can(gan):
    random = np.random.default_rng(0)
    real, same = random.normal(size=(2, 400, 4, 4, 1)).astype(np.float32)
    assert gan.two_sample_accuracy(real, same) == pytest.approx(0.5, abs=0.1)
    assert gan.two_sample_accuracy(real, same + 1) > 0.95


def test_the_guessing_sheet_has_as_many_of_both_and_the_answer_shows_which(tmp_path):
    real, made = np.full((30, 8, 8, 1), -0.5, np.float32), np.full((30, 8, 8, 1), 0.5, np.float32)
    section = present.guess_section(made, real, 0.75, tmp_path)
    assert section.figures["a fresh network is right, in shares"] == 0.75
    with Image.open(tmp_path / "guess.png") as guess, Image.open(tmp_path / "answer.png") as answer:
        shades = [np.asarray(picture.convert("L")) for picture in (guess, answer)]
    level = round(0.75 * 255)  # of those generated
    assert (shades[0] == level).sum() == (shades[1] == level).sum() > 0
    assert (shades[0] == round(0.25 * 255)).sum() == (shades[0] == level).sum()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--batch", 1], "--batch 1 leaves batch normalization nothing"),
        (["--real-label", 0.4], "more than 0.5"),
        (["--real-label", 0.9, "--loss", "hinge"], "--loss hinge has none"),
        (["--augment", "colour"], "--augment knows no 'colour'"),
        (["--network", "mlp", "--spectral"], "knows no --spectral"),
        (["--network", "mlp", "--conditional"], "knows no --conditional"),
        (["--r1", -1], "--r1 is -1"),
        (["--betas", 0, 1], "--betas are 0.0 1.0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1

"""gan.py: what its flags mean, and what cannot be."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import data


@pytest.fixture
def stepped(load, opened):
    """`stepped(count, **changes)`: the states of the first steps, and the last one's metrics."""

    def stepped(count=1, **changes):
        config = dataclasses.replace(load("gan").PRESETS["digits"], **changes)
        splits, experiment = opened("gan", config)
        batch = {name: jnp.asarray(x) for name, x in splits.train(0).items()}
        step, states = jax.jit(experiment.learner.step), []
        states.append(experiment.learner.init(jax.random.key(0), batch))
        for _ in range(count):
            state, metrics = step(states[-1], batch, jax.random.key(1))
            states.append(state)
        return states, metrics

    return stepped


def test_without_the_extra_of_the_main_job_one_line_names_it_and_the_small_digits(
    verb, tmp_path, monkeypatch
):
    data.mnist.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = verb("gan", "train", "--run", tmp_path / "run")
    assert status == 2 and err.count("\n") == 1, err
    assert "pip install '.[mnist]'" in err and "--data digits" in err


@pytest.mark.experiments
def test_data_and_samples_in_one_batch_or_in_two_are_another_game(stepped):
    """Since D's batch normalization sees both; see tests/models/test_game.py."""
    found = [stepped(batch=16, width=8, joint=joint)[1] for joint in (False, True)]
    apart, together = (metrics["discriminator_loss"].compute() for metrics in found)
    assert abs(apart - together) > 1e-3


@pytest.mark.experiments
def test_clipping_bounds_the_critics_parameters_and_no_others(stepped):
    flags = dict(network="mlp", width=8, batch=8, loss="wasserstein", critic_clip=1e-3)
    (_, state), _ = stepped(**flags)
    largest = {
        name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(own.params))
        for name, own in state.players.items()
    }
    assert largest["discriminator"] == pytest.approx(1e-3, rel=1e-5) and largest["generator"] > 1e-2


@pytest.mark.experiments
def test_the_generators_minibatch_can_be_a_multiple_of_the_discriminators(stepped):
    """By a loss that pairs each sample with an example."""
    changes = dict(discriminator_steps=3, generator_batches=2, loss="relativistic")
    _, metrics = stepped(network="mlp", width=8, batch=8, **changes)
    assert metrics["discriminator_loss"].count == 3 * 8 and metrics["generator_loss"].count == 2 * 8


@pytest.mark.slow
def test_a_rate_that_is_0_after_the_last_step_is_not_0_before_for_a_discriminator_of_more_updates(
    stepped,
):
    """Two steps of three updates of D: in the second one the rate is half of the peak, not that of
    the fourth update."""
    small = dict(network="mlp", width=8, batch=8, discriminator_steps=3)
    states, _ = stepped(2, schedule="poly", steps=2, betas=(0.0, 0.0), **small)
    for player in ("discriminator", "generator"):
        before, after = (jax.tree.leaves(state[player].params) for state in states[1:])
        assert any((a != b).any() for a, b in zip(before, after, strict=True)), player


@pytest.mark.experiments
def test_a_prediction_needs_the_runs_folder_and_none_of_its_images(verb, tmp_path):
    folder, random = tmp_path / "images", np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("dark", "bright"):
            (folder / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = random.integers(0, 128, (8, 8), dtype=np.uint8) + 127 * (name == "bright")
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    tiny = ["--network", "mlp", "--width", 8, "--batch", 4, "--steps", 2, "--log-every", 1]
    flags = ["--preset", "digits", "--data", f"folder:{folder}", *tiny]
    status, _, err = verb("gan", "train", "--run", tmp_path / "run", *flags)
    assert status == 0, err
    shutil.rmtree(folder)
    predict = ["gan", "predict", "--run", tmp_path / "run", "--count", 3, "--json"]
    status, out, err = verb(*predict)
    assert status == 0 and json.loads(out)["samples"] == 3, err
    status, _, err = verb(*predict, "--compare")
    assert status == 2 and str(folder) in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--batch", 1], "--batch is 1"),
        (["--real-label", 0.4], "more than 0.5"),
        (["--real-label", 0.9, "--loss", "hinge"], "--loss hinge has none"),
        (["--augment", "colour"], "no augment 'colour'; there are color"),
        (["--network", "mlp", "--spectral"], "knows no --spectral"),
        (["--network", "mlp", "--conditional"], "knows no --conditional"),
        (["--data", "blank:8x8x1:1", "--conditional"], "--conditional needs at least 2 classes"),
        (["--r1", -1], "--r1 is -1"),
        (["--betas", 0, 1], "--betas is 1.0; expected at least 0 and less than 1"),
        (["--loss", "wasserstein"], "needs a Lipschitz critic; add --gradient-penalty 10"),
        (["--loss", "wasserstein", "--r1", 1], "needs a Lipschitz critic"),
        (["--critic-clip", -1], "--critic-clip is -1"),
        (["--generator-batches", 0], "--generator-batches is 0"),
        (["--rate-divisor", 0.5], "--rate-divisor is 0.5"),
        (["--momentum", 0.5, 1], "--momentum is 1.0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    given = ["--preset", "digits", "--run", tmp_path / "run", *flags]
    status, _, err = verb("gan", "train", *given)
    assert status == 2 and line in err and err.count("\n") == 1

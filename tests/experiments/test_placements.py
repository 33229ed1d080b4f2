"""The real networks of these experiments under every placement: the same numbers, one compilation
each."""

import dataclasses

import jax
import numpy as np
import pytest

from advdl import train

STEPS = 8
PLACEMENTS = [("pmap", ""), ("mesh", "data=2,fsdp=2")]
CONFIGS = {
    "gan": {"width": 8, "batch": 16, "ema": 0.9, "discriminator_steps": 2},
    "gan-mlp": {
        "network": "mlp",
        "width": 32,
        "batch": 16,
        "optimizer": "momentum",
        "learning_rate": 0.1,
        "momentum": (0.5, 0.7),
        "momentum_steps": 5,
        "rate_divisor": 1.01,
        "critic_clip": 0.01,
    },
    "gan-spectral": {
        "width": 8,
        "batch": 16,
        "loss": "hinge",
        "spectral": True,
        "conditional": True,
        "augment": "color,translation,cutout",
        "generator_batches": 2,
    },
    # By momentum: biases before a normalization have no gradient but rounding, and Adam makes steps
    #   of it.
    "gan-resnet": {
        "network": "resnet",
        "width": 4,
        "batch": 16,
        "loss": "hinge",
        "spectral": True,
        "conditional": True,
        "optimizer": "momentum",
    },
    "gan-penalties": {
        "width": 8,
        "batch": 16,
        "loss": "wasserstein",
        "gradient_penalty": 10.0,
        "r1": 0.1,
        "joint": True,
        "ema": 0.9,
    },
    "classify": {"model": "resnet8", "batch": 16, "ema": 0.9, "accumulate": 2},
    "autoencode": {"hidden": "32", "batch": 16, "noise": 0.25, "tied": True, "accumulate": 2},
    "autoencode-conv": {"network": "conv", "width": 8, "batch": 16, "ema": 0.9},
    "autoencode-vae": {"network": "vae", "hidden": "32", "batch": 16},
}


def trained(load, opened, name, placement, mesh):
    kind = name.partition("-")[0]
    config = dataclasses.replace(
        load(kind).PRESETS["digits" if kind == "gan" else "laptop"], **CONFIGS[name], steps=STEPS
    )
    splits, experiment = opened(kind, config)
    placed = train.place(placement, mesh)(experiment.learner)
    key = jax.random.key(3)
    state = placed.init(key, placed.put(splits.train(0)))
    compiled = []
    for t in range(STEPS):
        state, metrics = placed.step(state, placed.put(splits.train(t)), key)
        compiled.append(placed.step.executable)
    assert len(set(map(id, compiled))) == 1
    figures = train.evaluate(placed, state, splits.evaluations["test"])
    return jax.device_get(state), {k: v for k, v in figures.items() if isinstance(v, float)}


@pytest.mark.experiments
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_placement_gives_the_same_state(load, opened, name):
    reference, figures = trained(load, opened, name, "jit", "")
    # A mesh without `fsdp` is what is left of the other's program: once with batch statistics, once
    # with a game.
    more = [("mesh", "data=4")] if name in ("classify", "gan") else []
    # `gan-resnet` has the layers of `gan-spectral` in more blocks.
    placements = PLACEMENTS[1:] if name == "gan-resnet" else PLACEMENTS
    for placement, mesh in [*placements, *more]:
        state, others = trained(load, opened, name, placement, mesh)
        for (path, a), b in zip(
            jax.tree.leaves_with_path(reference), jax.tree.leaves(state), strict=True
        ):
            scale, worst = np.max(np.abs(a), initial=0), np.max(np.abs(a - b), initial=0)
            where = (
                f"{placement} {mesh}: {jax.tree_util.keystr(path)} differs by {worst:.1e}, its"
                f" largest value is {scale:.1e}"
            )
            # A value that is a difference of terms of order one, nearly zero itself, is known to
            # their last bit.
            assert worst <= max(1e-5 * scale, 1e-7), where
        # A logit that is zero but for its last bits decides for either.
        near = {"d_accuracy": 0.01}
        for figure, value in figures.items():
            near_to = pytest.approx(value, rel=1e-4, abs=near.get(figure, 1e-6))
            assert others[figure] == near_to, figure

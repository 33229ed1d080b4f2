"""Generative adversarial nets by Algorithm 1 of Goodfellow et al. 2014 (arXiv:1406.2661): two players, one step.

    python experiments/gan.py train                    # laptop: real handwritten digits, no download
    python experiments/gan.py train --preset paper --data-dir TFDS    # the paper's MNIST networks, see PRESETS

In one step the discriminator ascends E_x log D(x) + E_z log(1 - D(G(z))), k times, each with a minibatch of data and of
noise of its own; then the generator, with fresh noise, descends E_z log(1 - D(G(z))) (`--loss minimax`, as Algorithm 1
prints it) or -E_z log D(G(z)) (`--loss nonsaturating`, section 3: the same fixed point, a stronger gradient early on).
At the equilibrium p_g = p_data, D = 1/2 and V = -log 4; that D rests at 1/2 does not yet mean that p_g = p_data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import cli, data, losses, present, train
from advdl.metrics import Mean, class_coverage, nearest
from advdl.models import dcgan, goodfellow
from advdl.nn import replica


@dataclass(frozen=True)
class Config(cli.Config):
    network: Literal["dcgan", "mlp"] = "dcgan"
    """Convolutional pair (Radford et al. 2015), or the paper's perceptrons with a maxout discriminator."""
    width: int = 32
    """dcgan: channels of the layer nearest the image; mlp: units of the generator's layers."""
    loss: Literal["nonsaturating", "minimax"] = "nonsaturating"
    """What the generator descends."""
    discriminator_steps: int = 1
    """k of Algorithm 1: discriminator updates a step."""
    optimizer: Literal["adam", "momentum"] = "adam"
    """Adam with b1 = 0.5 (Radford et al. 2015), or SGD with momentum 0.5 (Goodfellow et al. 2014)."""
    discriminator_learning_rate: float = 0.0
    """Step size of the discriminator (0: the same as the generator's)."""
    z: int = 64
    """Dimensions of the noise."""
    noise: Literal["normal", "uniform"] = "normal"
    """Prior p_z: N(0, 1), or U(-√3, √3) of the same variance, in each dimension."""
    image_size: int = 0
    """Side to which a folder's images are brought (0: the size they have)."""


PRESETS = {
    "laptop": Config(
        steps=4000, batch=64, learning_rate=1e-3, ema=0.998, evaluate_every=400, save_every=1000, log_every=40
    ),
    # Table 1 of the paper: Parzen log-likelihood 225 ± 2 on MNIST; not run here. As in the code released with it: this
    # noise, widths, momentum and learning rate, and the non-saturating loss. Other than there: momentum stays at 0.5
    # (0.7 by epoch 250), the learning rate does not decay (1/1.000004 a step), D and G take turns.
    "paper": Config(
        preset="paper", data="tfds:mnist", network="mlp", width=1200, optimizer="momentum", learning_rate=0.1, batch=100,
        z=100, noise="uniform", steps=125_000, evaluate_every=5000, save_every=5000, log_every=500,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: int = 64
    """Samples to draw."""
    sample_seed: int = 0
    """Seed of their noise."""
    interpolations: int = 8
    """Rows of the picture of interpolations."""


def networks(config: Config, shape: tuple[int, int, int]):
    """(generator, discriminator, lowest pixel value) for images of this shape."""
    if config.network == "mlp":
        generator = goodfellow.Generator(shape, hidden=(config.width, config.width), dtype=config.dtype)
        return generator, goodfellow.Discriminator(dtype=config.dtype), 0.0
    generator = dcgan.Generator(shape, width=config.width, dtype=config.dtype)
    return generator, dcgan.Discriminator(width=config.width, dtype=config.dtype), -1.0


def optimizer(config: Config, learning_rate: float) -> optax.GradientTransformation:
    """The update rule of one player."""
    rate = train.schedule(config.schedule, learning_rate, config.steps, config.warmup)
    rule = optax.adam(rate, b1=0.5) if config.optimizer == "adam" else optax.sgd(rate, momentum=0.5)
    return train.clipped(rule, config.clip)


def build(config: Config) -> cli.Experiment:
    size = config.image_size or None
    real = data.open_source(config.data, "train", config.data_dir, image_size=size)
    held_out = data.open_source(config.data, "test", config.data_dir, image_size=size)
    generator, discriminator, low = networks(config, real.image_shape)
    transform = data.to_float(low, 1.0)
    half_width = math.sqrt(3)
    draw = {
        "normal": lambda key: jax.random.normal(key, (config.z,)),
        "uniform": lambda key: jax.random.uniform(key, (config.z,), minval=-half_width, maxval=half_width),
    }[config.noise]

    def forward(module, variables, x, key):
        """In training mode: (output, collections after it)."""
        return module.apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

    def discriminator_loss(own, opponent, batch, key):
        x = batch["image"]
        keys = jax.random.split(key, 3)
        fake, _ = forward(generator, opponent, replica.sample(draw, keys[0], len(x)), keys[0])
        (real_logit, _), seen = forward(discriminator, own, x, keys[1])
        (fake_logit, _), seen = forward(discriminator, {**own, **seen}, fake, keys[2])
        loss = losses.minimax_discriminator(real_logit, fake_logit)
        return train.Loss(Mean.of(loss), judged(real_logit, fake_logit), seen)

    def generator_loss(own, opponent, batch, key):
        keys = jax.random.split(key)
        fake, seen = forward(generator, own, replica.sample(draw, keys[0], len(batch["image"])), keys[0])
        (logit, _), _ = forward(discriminator, opponent, fake, keys[1])
        descend = {"nonsaturating": losses.nonsaturating_generator, "minimax": losses.minimax_generator}[config.loss]
        return train.Loss(Mean.of(descend(logit)), {}, seen)

    def judged(real_logit, fake_logit, mask=None):
        return {
            "V": Mean.of(losses.value(real_logit, fake_logit), mask),
            "D(x)": Mean.of(jax.nn.sigmoid(real_logit), mask),
            "D(G(z))": Mean.of(jax.nn.sigmoid(fake_logit), mask),
        }

    def evaluate(variables, batch):
        """Held-out images against as many samples, each from noise that belongs to the image's place."""
        z = jax.vmap(lambda place: draw(jax.random.fold_in(jax.random.key(0), place)))(batch["index"])
        fake = generator.apply(variables["generator"], z, train=False)
        logits = [discriminator.apply(variables["discriminator"], x, train=False)[0] for x in (batch["image"], fake)]
        return judged(*logits, batch["mask"])

    def player(init, loss, learning_rate, ema=None):
        return train.Player(init, loss, optimizer(config, learning_rate), ema, config.accumulate)

    learner = train.alternate(
        discriminator=player(
            lambda key, batch: discriminator.init(key, batch["image"], train=False),
            discriminator_loss,
            config.discriminator_learning_rate or config.learning_rate,
        ),
        generator=player(
            lambda key, batch: generator.init(key, jnp.zeros((1, config.z)), train=False),
            generator_loss,
            config.learning_rate,
            config.ema or None,
        ),
        evaluate=evaluate,
        discriminator_steps=config.discriminator_steps,
    )
    paint = Paint(generator, draw, low, real, config.seed)
    return cli.Experiment(
        learner=learner,
        train=data.train_batches(real, config.batch * config.discriminator_steps, config.seed, transform),
        test=data.eval_batches(held_out, config.batch, transform),
        report=lambda state, run, figures: report(paint, held_out, state, run),
        predict=lambda state, options, folder: predict(paint, held_out, state, options, folder),
        snapshot=paint.snapshot,
    )


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

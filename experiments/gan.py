"""Generative adversarial nets by Algorithm 1 of Goodfellow et al. 2014 (arXiv:1406.2661).

In one step the discriminator ascends E log D(x) + E log(1 - D(G(z))), k times; then the generator
descends E log(1 - D(G(z))) (`--loss minimax`) or -E log D(G(z)) (nonsaturating, section 3). At the
equilibrium p_g = p_data, D = 1/2 and V = -log 4; D = 1/2 does not yet mean that p_g = p_data.

    python experiments/gan.py train                         # MNIST's digits, minutes
    python experiments/gan.py train --preset digits         # of 8 by 8 pixels, seconds
    python experiments/gan.py train --preset r3gan          # 1,000 classes of stacked digits
    python experiments/gan.py train --preset fashion --data-dir TFDS          # minutes
    python experiments/gan.py train --preset dcgan --data folder:PATH         # photographs
    python experiments/gan.py predict --count 2000 --compare

Of 2,000 samples of the first one a classifier recognizes 81, 84 and 75 % (seeds 0, 1, 2), of real
digits 81 %, of a Gaussian fitted to each pixel 0 %. All recorded results: README.md.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from advdl import cli, data, metrics, models, nn, reports, train
from advdl.metrics import Mean


@dataclass(frozen=True)
class Config(cli.GameConfig):
    network: Literal["dcgan", "resnet", "mlp"] = "dcgan"
    """Networks of Radford et al. 2015, of Miyato et al. 2018, or of Goodfellow et al. 2014."""
    width: cli.Count = 32
    """Channels of dcgan's layer nearest the image; a quarter of those of resnet's generator up to
    32 by 32 pixels (the paper's: 64); units of the layers of mlp's generator."""
    normalization: bool = True
    """Normalize layers of dcgan's networks and of resnet's generator."""
    spectral: bool = False
    """Divide the discriminator's kernels by their spectral norms; its batch normalization goes."""
    augment: str = ""
    """Augmentation of all that D sees, as in color,translation,cutout (Zhao et al. 2020)."""
    conditional: bool = False
    """Give the class to both networks."""
    joint: bool = False
    """Show data and samples to D in one batch, with one set of batch statistics."""
    generator_batches: cli.Few = 1
    """The generator's minibatch in multiples of --batch, the discriminator's."""
    validation: cli.Rate = 0.1
    """Share of the training images by which the best checkpoint and the bandwidth of Parzen windows
    are chosen (0: none; then no checkpoint is kept as the best)."""
    image_size: cli.Side = 0
    """Side to which a folder's images are brought (0: the size they have)."""


LONG = Config(validation=0.0, evaluate_every=5000, save_every=5000, log_every=500)
MNIST = Config(data="mnist", batch=64, learning_rate=5e-4, schedule="cosine", ema=0.998)
STACKED = MNIST.but(preset="stacked", data="stacked", steps=8000, validation=0.0)
STACKED = STACKED.but(evaluate_every=4000)
PRESETS = {
    # Of no paper: 4,000 digits are few, so D sees them shifted, and both networks are given labels.
    "laptop": MNIST.but(conditional=True, augment="translation", steps=6000),
    "digits": Config(preset="digits", steps=4000, batch=64, ema=0.998, evaluate_every=400),
    "fashion": Config(preset="fashion", data="tfds:fashion_mnist", steps=8000, batch=64).but(
        learning_rate=3e-4, ema=0.999, evaluate_every=1000, save_every=2000, log_every=100
    ),
    "stacked": STACKED,  # DCGAN on three digits in three channels, 1,000 classes
    # R3GAN's objective, Huang et al. 2024. Other than there: DCGAN's networks, constant γ, β, EMA.
    "r3gan": STACKED.but(preset="r3gan", normalization=False, loss="relativistic").but(
        r1=1.0, r2=1.0, learning_rate=1e-3
    ),
    # Radford et al. 2015, section 4, faces of 64 by 64 pixels, who print no measure of the images.
    # Not run here. Channels, initial distributions, loss, noise, batches, Adam, L2 penalty and the
    # number of updates (25 passes over 350,000 faces, every second batch being the generator's) as
    # in the released code (github.com/Newmu/dcgan_code, faces/train_uncond_dcgan.py). Other than
    # there: kernels of 4 by 4, which divide by the stride, not 5 by 5; D is updated first, then G,
    # without images of its own (there without effect); the generator's first normalization is by
    # channel, there by unit; samples are drawn with moving averages of the statistics, there with
    # their own batch's; β₁ is constant, there multiplied by 1 - 1e-8 after each update.
    "dcgan": LONG.but(preset="dcgan", data="folder:faces", image_size=64, width=128, z=100).but(
        noise="unit-uniform", learning_rate=2e-4, weight_decay=1e-5, steps=34_180
    ),
    # Miyato et al. 2018, appendix B, table 4, CIFAR-10, as in the released configuration
    # (github.com/pfnet-research/sngan_projection, configs/sn_cifar10_unconditional.yml). Not run
    # here. The FID of 50,000 samples that the library mimicry publishes, 16.77, is that of 100,000
    # steps with batches of 64 for both. Other than there: D is updated five times, then G; there G
    # first, against the D of the step before; the power iteration advances in D's updates alone,
    # there in every application of D; the normalizations' ε is 1e-5, there 2e-5.
    "sngan": LONG.but(preset="sngan", data="tfds:cifar10", network="resnet", width=64, z=128)
    .but(loss="hinge", spectral=True, discriminator_steps=5, generator_batches=2, batch=64)
    .but(betas=(0.0, 0.9), learning_rate=2e-4, schedule="poly", steps=50_000),
    # Goodfellow et al. 2014, table 1: Parzen log-likelihood 225 ± 2 on MNIST, of 10,000 samples.
    # Not run here. As in the released configuration (github.com/goodfeli/adversarial, mnist.yaml):
    # networks and initial ranges, the output's bias by the means of the training images, noise,
    # loss, D's dropout in both players' updates, batches, rate and divisor, momentum over 250
    # epochs of 500 steps. D's objective there is the mean of the two cross-entropies, here their
    # sum, hence half of the rate for D. Other than there: D and G take turns, G with samples of its
    # own, where both gradients are taken at one point with the same samples and dropout; momentum
    # changes with every step, there after every epoch; training ends with the rise of momentum,
    # there no rule ends it; the 50,000 training images are drawn, there they are the first.
    "paper": LONG.but(preset="paper", data="tfds:mnist", network="mlp", width=1200, batch=100)
    .but(optimizer="momentum", learning_rate=0.1, discriminator_learning_rate=0.05)
    .but(rate_divisor=1.000004, momentum=(0.5, 0.7), momentum_steps=125_000)
    .but(z=100, noise="uniform", steps=125_000, validation=1 / 6),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: cli.Many = 64
    """Number of samples to draw; the picture shows 400 of them at most, drawn at random."""
    sample_seed: cli.Natural = 0
    """Seed of the noise of the samples."""
    interpolations: cli.Few = 8
    """Rows of the picture of interpolations."""
    compare: bool = False
    """Also train a classifier on the run's data, and say which classes the samples cover."""
    features: str = ""
    """Also measure the samples against the run's data by a network's features: MODEL:FILE of
    `classify.py predict --export FILE`, or inception:FILE."""


def load(config: Config) -> data.Splits:
    def opened(split):
        return data.open_source(config.data, split, config.data_dir, config.image_size or None)

    def spec():
        source, low = parts["train"](), models.LOWEST_PIXEL[config.network]
        means = data.pixel_means(source) if config.network == "mlp" else ()
        return data.PixelMeansSpec.of(source, low=low, pixel_means=means)

    parts = data.open_parts(opened, config.validation)
    given = config.batch, config.seed, data.ImageSpec.transform, config.discriminator_steps
    return data.Splits.of_sources(spec, parts, *given)


def build(config: Config, spec: data.PixelMeansSpec) -> cli.Experiment:
    if config.network != "mlp":
        cli.at_least(2, config, "batch")  # the batch normalization of one example is zero
    classes = spec.classes("--conditional") if config.conditional else 0
    both, normal = (config.width, classes, config.dtype), config.normalization
    penalized = max(config.r1, config.r2, config.gradient_penalty) > 0
    game = models.Game(
        models.generator(config.network, spec.shape, *both, spec.pixel_means or None, normal),
        models.discriminator(config.network, *both, config.spectral, penalized, normal),
        config.prior,
        conditional=config.conditional,
        policies=cli.parse_choices(config.augment, "--augment", nn.POLICIES, least=0),
        joint=config.joint,
    )
    loss = config.adversarial(config.spectral)

    def discriminator_loss(own, opponent, batch, rng):
        """The negative of E log D(x) + E log(1 - D(G(z))), or another loss, with penalties."""
        x, (fake, _) = batch["image"], game.sample(opponent, batch, rng)
        real_logit, fake_logit, seen = game.judge_both(own, batch, fake, rng)
        value = loss.discriminator(real_logit, fake_logit)
        value += config.penalties(lambda x: game.judge(own, batch, x, rng)[0], x, fake, rng)
        figures = metrics.adversarial(real_logit, fake_logit) | metrics.varieties(x, fake)
        return train.Loss(Mean.of(value), figures, seen)

    def generator_loss(own, opponent, batch, rng):
        """E log(1 - D(G(z))), -E log D(G(z)), or another loss, with samples of its own."""
        batch = jax.tree.map(lambda rows: jnp.repeat(rows, config.generator_batches, 0), batch)
        fake, seen = game.sample(own, batch, rng)
        # What the loss does not use of the data's logits the compiler leaves out.
        real_logit, fake_logit, _ = game.judge_both(opponent, batch, fake, rng)
        return train.Loss(Mean.of(loss.generator(real_logit, fake_logit)), {}, seen)

    def sample(variables, batch):
        return game.draw(variables["generator"], batch)

    def evaluate(variables, batch):
        """Held-out images against as many samples, from noise that belongs to each image."""
        x, mask = batch["image"], batch["mask"]
        fake = sample(variables, {**batch, "z": config.prior.by_index(batch["index"])})
        judge = functools.partial(game.logits, variables["discriminator"], batch)
        figures = metrics.adversarial(judge(x), judge(fake), mask)
        return figures | {"fd_pixels": metrics.PixelDistance.of(x, fake, mask)}

    objectives = discriminator_loss, generator_loss
    learner = config.alternate(game, *objectives, evaluate, {"sample": sample})
    best = ("val/fd_pixels", "min") if config.validation else None
    report = reports.GeneratedReport(config.prior, config.seed, best)
    return cli.Experiment(
        learner, report.report, report.predict, report.snapshot, best, alarms=reports.GAME_ALARMS
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

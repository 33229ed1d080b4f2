"""Generative adversarial nets by Algorithm 1 of Goodfellow et al. 2014 (arXiv:1406.2661): two
players, one step.

    python experiments/gan.py train                    # laptop: real handwritten digits, no download
    python experiments/gan.py train --preset fashion --data-dir TFDS  # Fashion-MNIST, minutes
    python experiments/gan.py train --data folder:PATH --image-size 64 --preset dcgan     # photographs of your own
    python experiments/gan.py train --preset paper --data-dir TFDS    # the paper's MNIST networks, see PRESETS

In one step the discriminator ascends E_x log D(x) + E_z log(1 - D(G(z))), k times, each with a
minibatch of data and of noise of its own; then the generator, with fresh noise, descends E_z log(1
- D(G(z))) (`--loss minimax`, as Algorithm 1 prints it) or -E_z log D(G(z)) (`--loss nonsaturating`,
section 3: the same fixed point, a stronger gradient early on). At the equilibrium p_g = p_data, D =
1/2 and V = -log 4; that D rests at 1/2 does not yet mean that p_g = p_data.

Recorded with `train --seed S` and `predict --count 2000 --json`, S = 0, 1, 2, on two cores of an
AMD EPYC beside other work, JAX 0.10.1: 35, 32 and 43 s of training. A support vector machine for
each class, trained on the real digits, assigns 8.2, 8.4 and 8.8 % of the 2,000 samples to the
rarest class and recognizes (confidence above 1/2) 93, 92 and 93 % of them; of real held-out digits
it recognizes 97 %, of a Gaussian fitted to each pixel 21 %, of uniform noise 1 %.

Without a downloaded network samples are measured by one that was trained on the same data:

    python experiments/classify.py train --model resnet8 --steps 1500 --run runs/digits
    python experiments/classify.py predict --run runs/digits --export resnet8.safetensors
    python experiments/gan.py predict --count 2000 --features resnet8:resnet8.safetensors

Recorded so (98.6 % of held-out digits right), for the seeds 0, 1 and 2, against all 1,433 training
images:

    FD (resnet8 f5a402eb)      1.33, 1.37, 1.48     real held-out digits 0.22, a fitted Gaussian 14.2, noise 60.0
    density, coverage          0.54, 0.80 in the mean; held out (364) 0.99, 0.98, the Gaussian 0.10, 0.15
    rarest of ten classes      7.2, 8.0, 8.0 %      held out 9.3 %, the Gaussian 1.9 %
    nearest to a training one  1.13, 1.07, 1.05     of all 2,000; of the 364 held out 1.12: none is a copy
    Parzen log-likelihood      22.1, 21.8, 22.3     each ± 0.6; the Gaussian 6.7 ± 0.3

Of `--preset fashion` (177, 203 and 211 s), by 5,000 samples and the same network trained for 800
updates with `--schedule cosine` on Fashion-MNIST (88.3 % of held-out pictures right). Recorded with
JAX 0.10.2, before the measures took all training images and drawn ones in place of the first
10,000:

    FD (resnet8)               0.75, 0.74, 0.76     held-out pictures 0.007, a fitted Gaussian 8.9, noise 33.6
    density, coverage          0.50, 0.53 in the mean; held out 1.00, 0.97, the Gaussian 0.24, 0.06
    rarest of ten classes      7.9, 7.5, 7.5 %      held out 9.2 %, the Gaussian 0.0 %
    nearest to a training one  3.6, 3.5, 3.3        of the 5,000 held out 1.6
    Parzen log-likelihood      227, 229, 231        each ± 2.4; the Gaussian 103 ± 1.2
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import cli, data, losses, metrics, models, nn, present, train, weights
from advdl.errors import UserError, nearest
from advdl.metrics import Mean, class_coverage
from advdl.models import dcgan, goodfellow, sngan
from advdl.nn import replica


@dataclass(frozen=True)
class Config(cli.Config):
    network: Literal["dcgan", "resnet", "mlp"] = "dcgan"
    """Convolutional pair (Radford et al. 2015), residual one (Miyato et al. 2018), or Goodfellow's
    perceptrons with a maxout discriminator."""
    width: int = 32
    """dcgan: channels of the layer nearest the image; resnet: a quarter of the generator's up to 32
    by 32 pixels (the paper's: 64), and of its last block above; mlp: units of the generator's
    layers."""
    loss: Literal[
        "nonsaturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic"
    ] = "nonsaturating"
    """What the players descend, see `advdl.losses`; nonsaturating and minimax differ in the
    generator's."""
    r1: float = 0.0
    """Weight γ of the penalty γ/2·|∇D(x)|² at the data (Mescheder et al. 2018). It is of each
    example by itself, so dcgan's discriminator gets layer instead of batch normalization, as with
    --gradient-penalty."""
    gradient_penalty: float = 0.0
    """Weight λ of the penalty λ·(|∇D(x̂)| - 1)² between data and samples (Gulrajani et al. 2017;
    theirs: 10). As they recommend, dcgan's discriminator then gets layer instead of batch
    normalization."""
    critic_clip: float = 0.0
    """Bound c to which the discriminator's parameters are clipped after each of its updates
    (Arjovsky et al. 2017; theirs: 0.01; 0: no bound)."""
    spectral: bool = False
    """Divide the discriminator's kernels by their spectral norms (Miyato et al. 2018); its batch
    normalization goes."""
    real_label: float = 1.0
    """What the discriminator is told of data: less than 1 is one-sided label smoothing (Salimans et
    al. 2016)."""
    augment: str = ""
    """Differentiable augmentation of all that D sees, as in color,translation,cutout (Zhao et al.
    2020)."""
    conditional: bool = False
    """Both networks are told the class."""
    joint: bool = False
    """D sees data and samples in one batch, so that they share its batch normalization's
    statistics."""
    discriminator_steps: int = 1
    """k of Algorithm 1: discriminator updates a step."""
    generator_batches: int = 1
    """The generator's minibatch in multiples of --batch, the discriminator's (Miyato et al. 2018:
    2)."""
    optimizer: Literal["adam", "momentum"] = "adam"
    """Adam, or SGD with momentum (Goodfellow et al. 2014)."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decays: these are Radford et al.'s; Miyato et al. have 0 and 0.9."""
    momentum: tuple[float, float] = (0.5, 0.5)
    """SGD's momentum in the first step and after --momentum-steps, between which it changes
    linearly."""
    momentum_steps: int = 0
    """Steps over which the momentum changes (0: it keeps its first value)."""
    rate_divisor: float = 1.0
    """What both learning rates are divided by after every step, beside what --schedule does, down
    to 1e-6 (1: nothing)."""
    weight_decay: float = 0.0
    """L2 penalty on the parameters of both players, added to their gradients."""
    discriminator_learning_rate: float = 0.0
    """Step size of the discriminator (0: the same as the generator's)."""
    z: int = 64
    """Dimensions of the noise."""
    noise: Literal["normal", "uniform", "unit-uniform"] = "normal"
    """Prior p_z in each dimension: N(0, 1), U(-√3, √3) of the same variance, or U(-1, 1) (Radford
    et al. 2015)."""
    image_size: int = 0
    """Side to which a folder's images are brought (0: the size they have)."""


PRESETS = {
    "laptop": Config(
        steps=4000,
        batch=64,
        learning_rate=1e-3,
        ema=0.998,
        evaluate_every=400,
        save_every=1000,
        log_every=40,
    ),
    "fashion": Config(
        preset="fashion",
        data="tfds:fashion_mnist",
        steps=8000,
        batch=64,
        learning_rate=3e-4,
        ema=0.999,
        evaluate_every=1000,
        save_every=2000,
        log_every=100,
    ),
    # Radford et al. 2015, section 4, for photographs of faces at 64 by 64 pixels; they print no
    # measure of the images. Not run here. As in the released code (github.com/Newmu/dcgan_code,
    # faces/train_uncond_dcgan.py): channels, initial distributions, loss, noise, batches of 128,
    # Adam, an L2 penalty of 1e-5 that the paper does not mention, and the number of updates of each
    # player: 25 passes over 350,000 faces, of which every second batch is the generator's. Other
    # than there:
    # - kernels of 4 by 4, which divide by the stride, rather than 5 by 5;
    # - in a step D is updated first, then G, without a batch of images of its own; there G first,
    #   and the batch that it is given has no effect, so D sees as many images as here;
    # - the generator's first normalization is by channel; there by unit, before the reshaping to a
    #   map;
    # - samples are drawn with the moving averages of the statistics; there with the statistics of
    #   their own batch;
    # - β₁ is constant; there it is multiplied by 1 - 1e-8 after each update.
    "dcgan": Config(
        preset="dcgan",
        data="folder:faces",
        image_size=64,
        width=128,
        z=100,
        noise="unit-uniform",
        batch=128,
        learning_rate=2e-4,
        weight_decay=1e-5,
        steps=34_180,
        evaluate_every=2000,
        save_every=2000,
        log_every=500,
    ),
    # Miyato et al. 2018, appendix B, table 4, CIFAR-10, as in the released configuration
    # (github.com/pfnet-research/ sngan_projection, configs/sn_cifar10_unconditional.yml): hinge
    # loss, five discriminator updates a step, batches of 64 for D and of 128 for G, Adam, both
    # rates linearly to 0 over 50,000 steps. Not run here. The FID of 50,000 samples that the
    # library mimicry publishes, 16.77, is that of 100,000 steps with batches of 64 for both. Other
    # than there:
    # - in a step D is updated five times, then G; there G first, against the D of the step before;
    # - the power iteration advances in D's updates alone; there in every application of D, hence in
    #   G's update too;
    # - the normalizations' ε is 1e-5; there 2e-5.
    "sngan": Config(
        preset="sngan",
        data="tfds:cifar10",
        network="resnet",
        width=64,
        z=128,
        loss="hinge",
        spectral=True,
        discriminator_steps=5,
        generator_batches=2,
        betas=(0.0, 0.9),
        batch=64,
        learning_rate=2e-4,
        schedule="poly",
        steps=50_000,
        evaluate_every=5000,
        save_every=5000,
        log_every=500,
    ),
    # Goodfellow et al. 2014, table 1: Parzen log-likelihood 225 ± 2 on MNIST. Not run here. As in
    # the released configuration (github.com/goodfeli/adversarial, mnist.yaml): networks and their
    # initial ranges, the output's bias by the means of the training images, noise, the
    # non-saturating loss, D's dropout in both players' updates, batches of 100, the rate of .1
    # divided by 1.000004 after every step, momentum from .5 to .7 over 250 epochs of 500 steps. D's
    # objective there is the mean of the two cross-entropies and here their sum, hence half of the
    # rate for D. Other than there:
    # - D and G take turns, G with samples of its own; there both gradients are taken at the same
    #   point, with the same samples and the same dropout, and applied at once;
    # - the momentum changes with every step; there after every epoch;
    # - training ends after the steps in which the momentum rises; there no rule ends it;
    # - all 60,000 training images are trained on and counted in the bias; there the first 50,000;
    # - the bandwidth of the Parzen windows is chosen by images that were trained on; there by the
    #   first 1,000 of the other 10,000. Its 10,000 samples: `predict --count 10000`.
    "paper": Config(
        preset="paper",
        data="tfds:mnist",
        network="mlp",
        width=1200,
        optimizer="momentum",
        learning_rate=0.1,
        discriminator_learning_rate=0.05,
        rate_divisor=1.000004,
        momentum=(0.5, 0.7),
        momentum_steps=125_000,
        batch=100,
        z=100,
        noise="uniform",
        steps=125_000,
        evaluate_every=5000,
        save_every=5000,
        log_every=500,
    ),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: int = 64
    """Samples to draw."""
    sample_seed: int = 0
    """Seed of their noise."""
    interpolations: int = 8
    """Rows of the picture of interpolations."""
    features: str = ""
    """Measure the samples by a network's features: MODEL:FILE of `classify.py predict --export
    FILE`, or inception:FILE."""


def networks(
    config: Config, shape: tuple[int, int, int], classes: int = 0, means: np.ndarray | None = None
):
    """(generator, discriminator, lowest pixel value) for images of this shape; told the class of
    `classes`, 0 of none.
    means: of the training images, (H, W, C) in [0, 1], from which Goodfellow's generator starts."""
    if config.network == "mlp" and config.spectral:
        raise UserError("--network mlp knows no --spectral; take dcgan")
    low = models.generators.LOWEST_PIXEL[config.network]
    generator = models.generator(config.network, shape, config.width, classes, config.dtype, means)
    if config.network == "mlp":
        return generator, goodfellow.Discriminator(dtype=config.dtype), low
    both = dict(width=config.width, dtype=config.dtype, classes=classes)
    lipschitz = (
        dict(conv=nn.spectral(nn.Conv), dense=nn.spectral(linen.Dense)) if config.spectral else {}
    )
    if config.network == "resnet":
        return generator, sngan.Discriminator(**both, **lipschitz), low
    norm = nn.BatchNorm
    if config.spectral:
        norm = nn.Bias
    elif config.gradient_penalty or config.r1:
        # A penalty on the gradient at an example has to be that example's alone. Layer
        # normalization is what Gulrajani et al. 2017 recommend in place of batch normalization
        # (section 4, "No critic batch normalization").
        norm = partial(nn.GroupNorm, groups=1)
    return generator, dcgan.Discriminator(**both, **lipschitz, norm=norm), low


def check(config: Config) -> None:
    """Raises UserError for settings that cannot be."""
    cli.at_least(
        1, config, "width", "discriminator_steps", "generator_batches", "z", "rate_divisor"
    )
    cli.at_least(
        0,
        config,
        "discriminator_learning_rate",
        "image_size",
        "r1",
        "gradient_penalty",
        "critic_clip",
    )
    cli.at_least(0, config, "weight_decay", "momentum_steps")
    if not all(0 <= momentum < 1 for momentum in config.momentum):
        given = " ".join(map(str, config.momentum))
        raise UserError(f"--momentum is {given}; expected two numbers from 0 to less than 1")
    if config.loss == "wasserstein" and not (
        config.gradient_penalty or config.critic_clip or config.spectral
    ):
        raise UserError(
            "--loss wasserstein needs a Lipschitz critic; add --gradient-penalty 10, --critic-clip"
            " 0.01 or --spectral"
        )
    if config.batch < 2 and config.network != "mlp":
        raise UserError(
            "--batch 1 leaves batch normalization nothing but zeros; take 2 or more, or"
            " --network mlp"
        )
    if not all(0 <= beta < 1 for beta in config.betas):
        raise UserError(
            f"--betas are {' '.join(map(str, config.betas))}; expected two numbers from 0 to less"
            " than 1"
        )
    if not 0.5 < config.real_label <= 1:
        raise UserError(
            f"--real-label is {config.real_label}; expected more than 0.5 and at most 1"
        )
    if config.real_label < 1 and not losses.ADVERSARIAL[config.loss].smooth:
        raise UserError(
            f"--real-label is for the losses that have labels; --loss {config.loss} has none"
        )
    for name in cli.parse_names(config.augment):
        if name not in nn.POLICIES:
            raise UserError(
                f"--augment knows no {name!r}; there are"
                f" {', '.join(nn.POLICIES)}{nearest(name, nn.POLICIES)}"
            )


LOWEST_RATE = 1e-6
"""Learning rate down to which `--rate-divisor` divides, as in the configuration released by
Goodfellow et al. 2014."""


def optimizer(
    config: Config, learning_rate: float, updates: int = 1, bound: float = 0.0
) -> optax.GradientTransformation:
    """The update rule of a player that is updated `updates` times a step. Rate and momentum are
    functions of the step, not of the update. After each update the parameters are clipped to
    [-bound, bound] (0: they are not)."""
    rate = train.schedule(config.schedule, learning_rate, config.steps, config.warmup, config.power)
    momentum = optax.linear_schedule(*config.momentum, config.momentum_steps)
    fall = math.log(
        config.rate_divisor
    )  # not its powers: the nearest float32 to 1.000004 is 1.00000405

    def divided(step):
        return jnp.maximum(rate(step) * jnp.exp(-fall * step), LOWEST_RATE) if fall else rate(step)

    def by_step(schedule):
        return lambda update: schedule(update // updates)

    if config.optimizer == "adam":
        rule = optax.adam(by_step(divided), *config.betas)
    # the velocity gathers rate times gradient, so a change of the rate leaves what it has
    # gathered as it is
    else:
        velocity = optax.inject_hyperparams(optax.trace)(decay=by_step(momentum))
        rule = optax.chain(optax.scale_by_learning_rate(by_step(divided)), velocity)
    rule = train.chain(rule, config.clip, config.weight_decay)
    return optax.chain(rule, optax.stateless(partial(clipped, bound))) if bound else rule


def clipped(bound: float, updates: Any, params: Any) -> Any:
    """Updates that lead to the parameters clipped to [-bound, bound] (Arjovsky et al. 2017,
    algorithm 1)."""
    return jax.tree.map(
        lambda update, param: jnp.clip(param + update, -bound, bound) - param, updates, params
    )


def pixel_means(source: data.Source, rows: int = 4096) -> np.ndarray:
    """Mean of every pixel over all images of a source, (H, W, C) in [0, 1]; `rows` of them are read
    at a time."""
    total = np.zeros(source.image_shape)
    for first in range(0, len(source), rows):
        total += source.read(np.arange(first, min(first + rows, len(source))))["image"].sum(
            0, dtype=np.float64
        )
    return total / (255 * len(source))


def build(config: Config) -> cli.Experiment:
    check(config)
    size = config.image_size or None
    real = data.open_source(config.data, "train", config.data_dir, image_size=size)
    held_out = data.open_source(config.data, "test", config.data_dir, image_size=size)
    classes = len(real.label_names) if config.conditional else 0
    if config.conditional and classes < 2:
        raise UserError(
            f"--conditional needs at least two classes, and {config.data} has {classes}"
        )
    means = pixel_means(real) if config.network == "mlp" else None
    generator, discriminator, low = networks(config, real.image_shape, classes, means)
    transform = data.to_float(low, 1.0)
    bound = models.generators.NOISE_BOUNDS.get(config.noise)

    def draw(key):
        """One z (Z,)."""
        if bound is None:
            return jax.random.normal(key, (config.z,))
        return jax.random.uniform(key, (config.z,), minval=-bound, maxval=bound)

    game, policies = losses.ADVERSARIAL[config.loss], cli.parse_names(config.augment)
    labels = {"real_label": config.real_label} if config.real_label < 1 else {}

    def told(batch) -> dict[str, jax.Array]:
        """What the networks are given beside noise and images."""
        return {"label_B": batch["label"]} if classes else {}

    def forward(module, variables, x, key, **given):
        """In training mode: (output, collections after it)."""
        return module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"], **given
        )

    def judge(variables, x, key, **given):
        """Logits of images, distorted first, and the collections after it."""
        (logit, _), seen = forward(
            discriminator, variables, nn.differentiable_augment(x, key, policies), key, **given
        )
        return logit, seen

    def compare(variables, real, fake, keys, **given):
        """Logits of data and of samples, one batch after the other or both in one, and the
        collections after it."""
        if config.joint:  # by turns, so that no example moves to another device

            def both(a, b):
                return jnp.stack([a, b], 1).reshape(-1, *a.shape[1:])

            logit, seen = judge(
                variables,
                both(real, fake),
                keys[0],
                **{name: both(a, a) for name, a in given.items()},
            )
            return logit[::2], logit[1::2], seen
        real_logit, seen = judge(variables, real, keys[0], **given)
        fake_logit, seen = judge({**variables, **seen}, fake, keys[1], **given)
        return real_logit, fake_logit, seen

    def discriminator_loss(own, opponent, batch, rng):
        x, given = batch["image"], told(batch)
        keys = jax.random.split(rng.key, 4)
        fake, _ = forward(
            generator, opponent, replica.sample(draw, keys[0], len(x)), keys[0], **given
        )
        real_logit, fake_logit, seen = compare(own, x, fake, keys[1:3], **given)
        loss = game.discriminator(real_logit, fake_logit, **labels)

        def score(x):
            return judge(own, x, keys[1], **given)[0]

        if config.r1:
            loss += config.r1 / 2 * losses.r1(score, x)
        if config.gradient_penalty:
            loss += config.gradient_penalty * losses.gradient_penalty(score, x, fake, keys[3])
        figures = judged(real_logit, fake_logit) | {
            "spread of data": spread(x),
            "spread of samples": spread(fake),
        }
        return train.Loss(Mean.of(loss), figures, seen)

    def generator_loss(own, opponent, batch, rng):
        batch = jax.tree.map(lambda rows: jnp.repeat(rows, config.generator_batches, 0), batch)
        x, given = batch["image"], told(batch)
        keys = jax.random.split(rng.key, 3)
        fake, seen = forward(
            generator, own, replica.sample(draw, keys[0], len(x)), keys[0], **given
        )
        # What the game does not use of the data's logits the compiler leaves out.
        real_logit, fake_logit, _ = compare(opponent, x, fake, (keys[2], keys[1]), **given)
        return train.Loss(Mean.of(game.generator(real_logit, fake_logit)), {}, seen)

    def judged(real_logit, fake_logit, mask=None):
        return {
            "V": Mean.of(losses.value(real_logit, fake_logit), mask),
            "D(x)": Mean.of(jax.nn.sigmoid(real_logit), mask),
            "D(G(z))": Mean.of(jax.nn.sigmoid(fake_logit), mask),
            "D's accuracy": Mean.of(
                ((real_logit > 0).astype(jnp.float32) + (fake_logit < 0)) / 2, mask
            ),
        }

    def evaluate(variables, batch):
        """Held-out images against as many samples, each from noise that belongs to the image's
        place."""
        z = replica.sample_by_index(draw, batch["index"])
        given = told(batch)
        fake = generator.apply(variables["generator"], z, train=False, **given)
        logits = [
            discriminator.apply(variables["discriminator"], x, train=False, **given)[0]
            for x in (batch["image"], fake)
        ]
        figures = judged(*logits, batch["mask"])
        return figures | {BEST: metrics.PixelDistance.of(batch["image"], fake, batch["mask"])}

    def player(init, loss, rule, ema=None):
        return train.Player(init, loss, rule, ema, config.accumulate, config.remat)

    learner = train.alternate(
        discriminator=player(
            lambda key, batch: discriminator.init(key, batch["image"], train=False, **told(batch)),
            discriminator_loss,
            optimizer(
                config,
                config.discriminator_learning_rate or config.learning_rate,
                config.discriminator_steps,
                config.critic_clip,
            ),
        ),
        generator=player(
            lambda key, batch: generator.init(
                key, jnp.zeros((len(batch["image"]), config.z)), train=False, **told(batch)
            ),
            generator_loss,
            optimizer(config, config.learning_rate),
            config.ema or None,
        ),
        evaluate=evaluate,
        discriminator_steps=config.discriminator_steps,
    )
    artist = Artist(generator, draw, low, real, held_out, config.seed, classes)
    return cli.Experiment(
        learner=learner,
        train=data.TrainBatches(
            real, config.batch * config.discriminator_steps, config.seed, transform
        ),
        test=data.EvalBatches(held_out, config.batch, transform),
        report=artist.report,
        predict=artist.predict,
        snapshot=artist.snapshot,
        best=(BEST, "min"),
        alarms=ALARMS,
    )


def spread(x_BHWC: jax.Array) -> Mean:
    """Mean square difference of two images that stand side by side in the batch; near 0 where all
    are one image."""
    pairs = x_BHWC[: len(x_BHWC) // 2 * 2].reshape(-1, 2, x_BHWC[0].size).astype(jnp.float32)
    return Mean.of(jnp.square(pairs[:, 0] - pairs[:, 1]).mean(1))


SELECTED = 10_000
"""Number of real images, at most, that are compared in pairs or that a model is fitted to."""
VALIDATION = 1000
"""Number of training images, at most, by which the bandwidth of the Parzen windows is chosen."""
NEIGHBORS = 5
"""Which neighbor of an image its ball reaches to, in precision, recall, density and coverage."""


class Artist:
    """Draws what a generator makes, and measures it; pixels from `low` to 1.

    No picture or figure depends on the order of the real images, which may be sorted by class:
    Fréchet distances are of all of them and neighbors are sought among all of them, read by blocks;
    whatever else shows or compares real images takes some that a seed draws, at most `selected`.
    """

    def __init__(
        self,
        generator,
        draw,
        low: float,
        real: data.Source,
        held_out: data.Source,
        seed: int,
        classes: int = 0,
        selected: int = SELECTED,
    ):
        self.low, self.real, self.held_out, self.seed, self.classes = (
            low,
            real,
            held_out,
            seed,
            classes,
        )
        self.selected = selected
        self.noise = lambda seed, count: np.asarray(
            replica.sample(draw, jax.random.key(seed), count)
        )
        self._paint = jax.jit(
            lambda variables, z, **given: generator.apply(variables, z, train=False, **given)
        )

    def paint(self, state: train.State, z: np.ndarray) -> np.ndarray:
        """Images (B, H, W, C) from noise (B, Z), of the classes in turn where the generator is told
        one."""
        variables = state["generator"].average
        if not self.classes:
            return models.in_portions(lambda z: self._paint(variables, z), z, rows=64)
        label = np.arange(len(z), dtype=np.int32) % self.classes
        return models.in_portions(
            lambda z, label: self._paint(variables, z, label_B=label), z, label, rows=64
        )

    def ranged(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 in the generator's range."""
        return data.to_float(self.low, 1.0)({"image": pixels})["image"]

    def images(
        self, source: data.Source, count: int = 0, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Up to `count` real images (0: `selected`), drawn by the seed, in the generator's range,
        and their labels."""
        found = source.read(data.selected(source, count or self.selected, seed))
        return self.ranged(found["image"]), found["label"]

    def nearest(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of all training images the nearest to each, in the generator's range, and how far it is,
        (N,)."""
        row, distance = metrics.nearest_streamed(images, map(self.ranged, blocks(self.real)))
        return self.ranged(self.real.read(row)["image"]), distance

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """A grid from the same noise every time."""
        images = self.paint(state, self.noise(self.seed, 64))
        path = folder / "samples" / f"{step:07}.png"
        present.draw_grid(images, path, low=self.low, high=1.0, columns=8, title=f"step {step}")

    def interpolate(
        self, state: train.State, seed: int, rows: int, folder: Path, columns: int = 10
    ) -> None:
        """Rows of images on a line from one noise to another (figure 3 of the paper)."""
        ends = self.noise(seed, 2 * rows).reshape(rows, 2, 1, -1)
        share = np.linspace(0, 1, columns, dtype=np.float32)[:, None]
        line = ((1 - share) * ends[:, 0] + share * ends[:, 1]).reshape(rows * columns, -1)
        present.draw_grid(
            self.paint(state, line),
            folder / "interpolations.png",
            low=self.low,
            high=1.0,
            columns=columns,
        )

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, low = run.report, self.low
        samples = self.paint(state, self.noise(self.seed + 1, 2000))
        real, held_out = self.images(self.real, len(samples))[0], self.images(self.held_out, 64)[0]
        twins, distance = self.nearest(np.concatenate([samples[:64], held_out]))
        lines = present.read_metrics(run.folder / "metrics.jsonl")
        alarms = train.Watch(ALARMS).over(lines)
        best = min(
            (line for line in lines if f"test/{BEST}" in line),
            key=lambda line: line[f"test/{BEST}"],
        )
        text = "\n\n".join(alarms) if alarms else "None tripped."
        kept = {
            "the checkpoint kept as the best is of step": best["step"],
            f"its {BEST}": best[f"test/{BEST}"],
        }
        sections = [
            present.samples_section(
                samples[:64], twins[:64], distance[:64], distance[64:], len(self.real), folder, low
            ),
            present.guess_section(
                samples, held_out, two_sample_accuracy(real, samples), folder, low
            ),
            present.Section("Alarms", text, figures=kept),
        ]
        present.animate(
            sorted((folder / "samples").glob("*.png")), folder / "training.gif", milliseconds=400
        )
        sections.append(
            present.Section(
                "Over training", "The same noise at every evaluation.", ["training.gif"]
            )
        )
        self.interpolate(state, self.seed + 2, 8, folder)
        sections.append(present.Section("On a line between two noises", "", ["interpolations.png"]))
        present.draw_curves(lines, folder / "curves.png", PANELS)
        sections.append(present.Section("The game", GAME, ["curves.png"]))
        if (found := self.coverage(samples)) is not None:
            sections.append(present.coverage_section(found, self.real.label_names, folder))
        return sections

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        images = self.paint(state, self.noise(options.sample_seed, options.count))
        np.save(folder / "samples.npy", images)
        present.draw_grid(images, folder / "samples.png", low=self.low, high=1.0)
        self.interpolate(state, options.sample_seed, options.interpolations, folder)
        found = self.coverage(images)
        figures = {} if found is None else present.coverage_figures(found, self.real.label_names)
        if options.features:
            figures |= self.measure(images, options.features)
        return {"samples": options.count, "folder": str(folder), **figures}

    def measure(self, samples: np.ndarray, spec: str) -> dict[str, Any]:
        """Samples, real held-out images, a Gaussian of all pixels and noise, compared with the
        training images in a space of features; the Parzen-window log-likelihoods of held-out
        images; and how near to a training image the samples come."""
        count, fitted = len(samples), self.images(self.real)[0]
        for what, number in {
            "generated": count,
            "training": len(self.real),
            "held-out": len(self.held_out),
        }.items():
            if number <= NEIGHBORS:
                raise UserError(
                    f"--features looks at {NEIGHBORS} neighbors of each image; {number} {what}"
                    " images are too few"
                )
        features = weights.open_features(spec, self.real.image_shape, len(self.real.label_names))

        def described(parts, count: int, probability: bool = True) -> metrics.FeatureSet:
            return metrics.FeatureSet.streamed(
                map(features.of, parts), data.selected(count, self.selected), probability
            )

        made = {
            "generated": samples,
            "Gaussian fit": metrics.gaussian_fit(fitted, count, self.low, 1.0),
            "noise": (
                np.random.default_rng(0).uniform(self.low, 1, samples.shape).astype(np.float32)
            ),
        }
        sets = {
            title: described([data.to_uint8(images, self.low, 1.0)], count)
            for title, images in made.items()
        }
        sets["real, held out"] = described(blocks(self.held_out), len(self.held_out))
        training = described(blocks(self.real), len(self.real), probability=False)
        found = metrics.fidelity_figures(training, sets, features.name, NEIGHBORS)
        for title in ("generated", "Gaussian fit"):
            found[title] |= self.likelihood(made[title])
        found["Gaussian fit"]["training images of the fit"] = len(fitted)
        return {
            "features": spec,
            "sha256 of its weights": features.sha256,
            "figures": found,
            "least distance to a training image": self.copies(samples),
        }

    def likelihood(self, samples: np.ndarray) -> dict[str, float]:
        """The Parzen-window log-likelihood of held-out images. Goodfellow et al. 2014 draw 10,000
        samples, choose the bandwidth by 1,000 validation images and take the 10,000 test images;
        here training images choose it."""

        def scaled(images):
            return ((images - self.low) / (1 - self.low)).reshape(len(images), -1)

        validation, test = (
            scaled(self.images(*given)[0])
            for given in ((self.real, VALIDATION, 1), (self.held_out,))
        )
        found = {
            f"Parzen {name}": value
            for name, value in metrics.parzen(scaled(samples), validation, test)._asdict().items()
        }
        counts = {
            "samples": samples,
            "training images for the bandwidth": validation,
            "test images": test,
        }
        return found | {f"Parzen {name}": len(images) for name, images in counts.items()}

    def copies(self, samples: np.ndarray) -> dict[str, float]:
        """The least distance of a sample to any training image, and that of as many held-out
        images."""
        held_out = self.images(self.held_out, len(samples))[0]
        distance = np.split(self.nearest(np.concatenate([samples, held_out]))[1], [len(samples)])
        least = {
            title: float(each.min())
            for title, each in zip(("samples", "real, held out"), distance, strict=True)
        }
        return least | {"held-out images": len(held_out), "training images": len(self.real)}

    def coverage(self, samples: np.ndarray):
        """What a classifier of the real images makes of the samples; None where the data has too
        few classes or images to train one."""
        real, held_out = self.images(self.real), self.images(self.held_out)
        try:
            return class_coverage(samples, *real, *held_out, classes=len(self.real.label_names))
        except ValueError:
            return None


def blocks(source: data.Source) -> Iterator[np.ndarray]:
    """All images of a source, uint8, some at a time."""
    return (part["image"] for part in data.read_blocks(source))


def two_sample_accuracy(
    real: np.ndarray, fake: np.ndarray, steps: int = 200, seed: int = 0
) -> float:
    """How often a fresh discriminator, trained on half of as many real and generated images, tells
    the other half: 1/2 where it cannot (Lopez-Paz and Oquab 2017, arXiv:1610.06545)."""
    count = min(len(real), len(fake)) // 2 * 2
    images = np.concatenate([x[data.selected(len(x), count, seed)] for x in (real, fake)])
    label = np.repeat([1.0, 0.0], count).astype(np.float32)
    order = np.random.default_rng(seed).permutation(2 * count)
    x, y = jnp.asarray(images[order[:count]]), jnp.asarray(label[order[:count]])
    network = goodfellow.Discriminator(hidden=(128, 128), input_dropout=0.0)

    def draw(key):
        rows = jax.random.randint(key, (64,), 0, count)
        return {"image": x[rows], "label": y[rows]}

    def loss(variables, batch, rng):
        logit = network.apply(variables, batch["image"], train=True, rngs={"dropout": rng.key})[0]
        return train.Loss(Mean.of(losses.binary_cross_entropy(logit, batch["label"])))

    def init(key, batch):
        return network.init(key, batch["image"], train=False)

    learner = train.minimize(train.Player(init, loss, optax.adam(1e-3)), lambda *_: {})
    state, _ = jax.jit(train.scanned(learner, draw, steps))(jax.random.key(seed))
    judge = jax.jit(lambda x: network.apply(state["model"].variables, x, train=False)[0])
    return float(
        ((np.asarray(judge(images[order[count:]])) > 0) == (label[order[count:]] > 0)).mean()
    )


def won(figures: Mapping[str, float]) -> str | None:
    """Whether the discriminator is sure and right of everything."""
    value, accuracy = figures["train/V"], figures["train/D's accuracy"]
    return (
        f"V is {value:.3f}, above -0.1, and D's accuracy {accuracy:.3f}"
        if value > -0.1 and accuracy > 0.99
        else None
    )


def collapsed(figures: Mapping[str, float]) -> str | None:
    """Whether samples hardly differ."""
    share = figures["train/spread of samples"] / figures["train/spread of data"]
    return (
        f"two samples differ by {share:.1%} of what two images of the data do"
        if share < 0.1
        else None
    )


ALARMS = [
    train.Alarm("the discriminator has won", won, 200),
    train.Alarm("the samples have collapsed", collapsed, 200),
]
BEST = "FD (8×8 pixels)"
PANELS = [
    present.Panel(
        "V(D, G)",
        {"training": "train/V", "held out": "test/V"},
        references={"−log 4": -math.log(4)},
    ),
    present.Panel(
        "what D believes",
        {
            "D(x), training": "train/D(x)",
            "D(G(z)), training": "train/D(G(z))",
            "D(x), held out": "test/D(x)",
            "D(G(z)), held out": "test/D(G(z))",
        },
        references={"1/2": 0.5},
    ),
    present.Panel(
        "losses", {"discriminator": "train/discriminator_loss", "generator": "train/generator_loss"}
    ),
    present.Panel(
        "norm of the gradient",
        {
            "discriminator": "train/discriminator_gradient_norm",
            "generator": "train/generator_gradient_norm",
        },
        log=True,
    ),
]
GAME = """At the equilibrium V = −log 4 and D = 1/2 everywhere. On the way there neither loss falls steadily: each player's \
progress is the other's loss.

On held-out images both networks use their moving batch statistics (and the generator its moving average), so those values \
stand off from the training ones even where nothing is overfitted."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

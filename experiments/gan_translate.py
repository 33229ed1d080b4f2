"""Translation between sets of images without pairs: DiscoGAN, Kim et al. 2017 (arXiv:1703.05192).

What a generator has taken to the other set, a second one must bring back as it was (section 3.3).
The controls: `gan` need not come back, and `one_sided` from A only (figure 2).

    python experiments/gan_translate.py train          # drawn handbags <-> shoes, the truth known
    python experiments/gan_translate.py train --preset modes        # the paper's toy domain
    python experiments/gan_translate.py train --data folder:PATH --image-size 64  # PATH/A, PATH/B
    python experiments/gan_translate.py predict bag.png # your own; --back for the other way

Round trip errors of test images, three seeds: discogan .055 to .063, one_sided .053 to .064, gan
.301 to .471. All recorded results: README.md.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import optax
import tyro

from advdl import cli, data, losses, metrics, reports, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import discogan


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "bags_shoes"
    """bags_shoes[:SIDE]; modes; tfds:NAME or folder:PATH with --a and --b; or folder:PATH/{A,B}."""
    a: str = ""
    """Classes of the data on the one side, as in Bag (default: the first of two)."""
    b: str = ""
    """Classes on the other, as in "Ankle boot,Sneaker" (default: the second of two)."""
    image_size: cli.Side = 0
    """Side to which images are brought (0: the size they have)."""
    variants: str = "discogan,one_sided,gan"
    """Variants that are trained; predict uses the first of them."""
    seeds: cli.Few = 1
    """Number of initializations of every variant."""
    width: cli.Count = 64
    """Number of channels of the layers nearest the image."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization over the batch, as in the paper, or over groups of each example's channels."""
    hidden: str = "128,128,128"
    """Numbers of units of the layers of all networks, where the examples are points."""
    reconstruction: cli.NonNegative = 1.0
    """Weight of the mean square error of the round trip."""
    feature_matching: cli.Share = 0.0
    """Share that matching the discriminators' features, of all layers but the first, has of the
    generators' adversarial losses; 0.9 in the released code, of images."""
    discriminator_learning_rate: cli.NonNegative = 0.0
    """Step size of the discriminators (0: the same as the generators')."""
    r1: cli.NonNegative = 0.0
    """Weight γ of a penalty γ/2·|∇D(x)|² at data (Mescheder et al. 2018), with --norm group."""
    weight_decay: cli.NonNegative = 0.0
    """Weight of an L2 penalty on all parameters, added to their gradients."""


OTHER = {"a": "b", "b": "a"}
JUDGED = {"discogan": "ab", "one_sided": "b", "gan": "ab"}  # sides that have a discriminator
CONSTANT = {"discogan": "ab", "one_sided": "a", "gan": ""}  # sides from which one must come back
IMAGES = Config(width=32, batch=64, steps=2000, learning_rate=5e-4, reconstruction=10.0)
IMAGES = IMAGES.but(evaluate_every=250, log_every=25)
MODES = Config(preset="modes", data="modes", seeds=5, batch=200, steps=12_000, learning_rate=2e-4)
# Section 3.4: networks, images of 64 by 64 pixels, the plain sum of equations 3 to 6. From the
# released code (github.com/SKTBrain/DiscoGAN, image_translation.py): Adam at 2e-4 (.5, .999) with
# an L2 penalty of 1e-5 on both sides, batches of 500 (script.sh; 64 where a command does not say).
# Pixels are in [-1, 1], there in [0, 1], where a square error is a quarter: hence the weight .25.
# The paper prints no figure for handbags and shoes. Not run here. Other than in the released code:
# its generators descend (.1 of the adversarial loss + .9 of a feature matching that the paper does
# not have, here --feature-matching .9)·(1 - r) + r of the reconstruction, r = .01 for 10,000
# iterations and .5 after (for these data .5 always, by its README); its discriminators the mean of
# the two cross-entropies, here the sum, beside which the L2 penalty is half as strong; each third
# of its iterations updates them and the others the generators, here every step both, the generators
# last; 5,000 passes unless stopped, here 50,000 steps; PyTorch's initialization, here kernels from
# N(0, .02), gains from N(1, .02).
PAPER = Config(preset="paper", data="folder:edges2handbags2shoes", image_size=64, batch=500)
PAPER = PAPER.but(steps=50_000, learning_rate=2e-4, reconstruction=0.25, weight_decay=1e-5)
FASHION = IMAGES.but(preset="fashion", data="tfds:fashion_mnist", a="Bag", b="Ankle boot")
FASHION = FASHION.but(norm="group", feature_matching=0.9, reconstruction=20.0, batch=32)
FASHION = FASHION.but(steps=2000, learning_rate=1e-3, schedule="cosine")
PRESETS = {
    "laptop": IMAGES,
    "fashion": FASHION,
    "modes": MODES.but(steps_per_call=50, evaluate_every=1000, save_every=4000, log_every=250),
    "paper": PAPER.but(variants="discogan", evaluate_every=1000, save_every=1000),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to translate."""
    back: bool = False
    """Translate from B to A."""


def load(config: Config) -> data.Splits:
    sides = cli.parse_names(config.a), cli.parse_names(config.b)
    given = config.data_dir, config.image_size or None, *sides
    opened = cache(lambda split: data.open_domains(config.data, split, *given))
    sources = {split: partial(opened, split) for split in ("train", "test")}
    used = sources, config.batch, config.seed, data.DomainsSpec.transform
    return data.Splits.of_sources(lambda: data.DomainsSpec.of(opened("train")), *used)


def build(config: Config, spec: data.DomainsSpec) -> cli.Experiment:
    if config.r1 and config.norm == "batch" and not spec.points:
        raise UserError("--r1 is of single examples, not of normalized batches; add --norm group")
    given = config.width, config.norm, cli.parse_units(config.hidden, "--hidden"), config.dtype
    networks = {side: discogan.networks(getattr(spec, side), *given) for side in OTHER}

    def learner(variant):
        judged, constant = JUDGED[variant], CONSTANT[variant]
        draw = train.Networks({side: networks[side][0] for side in OTHER})
        judge = train.Networks({side: networks[side][1] for side in judged})

        def score(variables, side, x):
            return judge.training(variables, side, x)[0][0]

        def deceive(judges, side, x, fake):
            """What a generator descends of the other side's judgement."""
            logit, features = judge.training(judges, side, fake)[0]
            objective, share = losses.nonsaturating_generator(logit), config.feature_matching
            if not share:
                return objective
            _, real = judge.training(judges, side, x)[0]
            deep = ({name: found[name] for name in sorted(real)[1:]} for found in (real, features))
            return (1 - share) * objective + share * losses.feature_matching(*deep)

        def discriminator_loss(own, opponent, batch, rng):
            objective, figures = jnp.float32(0), {}
            for side in judged:
                x, (fake, _) = batch[side], draw.training(opponent, side, batch[OTHER[side]])
                (real_logit, _), own = judge.training(own, side, x)
                (fake_logit, _), own = judge.training(own, side, fake)
                objective += losses.minimax_discriminator(real_logit, fake_logit)
                if config.r1:
                    objective += config.r1 / 2 * losses.r1(partial(score, own, side), x)
                figures[side] = metrics.adversarial(real_logit, fake_logit)
            return train.Loss(Mean.of(objective), figures, train.collections(own))

        def generator_loss(own, opponent, batch, rng):  # equations 3 to 6
            objective, figures, fakes = jnp.float32(0), {}, {}
            for side in judged:
                fakes[side], own = draw.training(own, side, batch[OTHER[side]])
                objective += deceive(opponent, side, batch[side], fakes[side])
            for side in constant:
                back, own = draw.training(own, side, fakes[OTHER[side]])
                error = losses.mean_squared_error(back, batch[side])
                objective += config.reconstruction * error
                figures[f"round_trip_{side}"] = Mean.of(error)
            return train.Loss(Mean.of(objective), figures, train.collections(own))

        def translate(variables, batch, to):
            return draw.apply(variables["generator"], to, batch["x"])

        def evaluate(variables, batch):
            own, judges, figures = variables["generator"], variables["discriminator"], {}
            for side, other in OTHER.items():
                x, fake = batch[side], draw.apply(own, side, batch[other])
                error = losses.mean_squared_error(draw.apply(own, other, fake), batch[other])
                figures[f"round_trip_{other}"] = Mean.of(error, batch["mask"])
                if side in judged:
                    real_logit, fake_logit = (judge.apply(judges, side, y)[0] for y in (x, fake))
                    figures[side] = metrics.adversarial(real_logit, fake_logit, batch["mask"])
            return figures

        def player(networks, loss, rate=0.0, ema=None):
            rule = optax.adam(config.scheduled(rate), b1=0.5)
            rule = train.chain(rule, config.clip, config.weight_decay)
            return config.player(lambda key, batch: networks.init(key, batch["a"]), loss, rule, ema)

        rate = config.discriminator_learning_rate
        other, own = player(judge, discriminator_loss, rate, 0.0), player(draw, generator_loss)
        return train.alternate(other, own, evaluate, functions={"translate": translate})

    variants = cli.parse_choices(config.variants, "--variants", JUDGED)
    compared = train.Comparison({name: learner(name) for name in variants}, config.seeds)
    shown = (reports.PointsReport if spec.points else reports.ImagesReport)(compared, spec)
    return cli.Experiment(compared.learner, shown.report, shown.predict, shown.snapshot)


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

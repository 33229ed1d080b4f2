"""The game of generative adversarial nets made visible, sections 3 and 4 of Goodfellow et al. 2014
(arXiv:1406.2661): a new discriminator, trained to its optimum, judges the generator (equation 6).

    python experiments/gan_equilibrium.py train                   # figure 1: N(4, 0.5²), seconds
    python experiments/gan_equilibrium.py train --preset compare  # beside settings that fail
    python experiments/gan_equilibrium.py train --preset ring     # eight Gaussians in the plane
    python experiments/gan_equilibrium.py train --preset grid     # twenty-five
    python experiments/gan_equilibrium.py predict                 # samples, and figures of them

At the equilibrium p_g = p_data, V = -log 4 and D = 1/2; a discriminator that is flat says so too.
Wasserstein-1 distance, the worst of three seeds: recommended 0.051 (its bound is 0.05, and another
run had 0.029), plain 0.596, minimax 3.97. All recorded results: README.md.
"""

from dataclasses import dataclass
from typing import Literal

import jax

from advdl import cli, data, metrics, models, reports, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import mlp


@dataclass(frozen=True)
class Config(cli.GameConfig):
    data: str = "normal"
    """Distribution of the data: normal is N(4, 0.5²) on a line; ring and grid are 8 and 25 narrow
    Gaussians in the plane."""
    label: str = "recommended"
    """Name of this setting beside others."""
    beside: str = ""
    """Presets that are trained in the same run on the same batches, as in plain,minimax."""
    seeds: cli.Few = 1
    """Number of initializations of every setting."""
    hidden: str = "32,32"
    """Numbers of units of the layers of both networks."""
    z: cli.Count = 1
    """Number of dimensions of the noise."""
    noise: Literal["normal", "uniform", "unit-uniform"] = "unit-uniform"
    """Prior of the noise in each dimension: N(0, 1), U(-√3, √3), or U(-1, 1)."""


LINE = Config(batch=256, steps=20_000, steps_per_call=50, save_every=5000, log_every=250)
PLANE = LINE.but(hidden="128,128,128", z=4, steps=10_000, learning_rate=1e-3)
STEADY = PLANE.but(seeds=3, schedule="poly", r1=0.1, ema=0.999)
GENTLE = LINE.but(learning_rate=3e-4, discriminator_learning_rate=1e-3, r1=0.05, ema=0.999)
MOMENTUM = LINE.but(optimizer="momentum")
PRESETS = {
    "laptop": GENTLE,
    "compare": GENTLE.but(preset="compare", beside="plain,minimax,smoothed", seeds=3),
    "smoothed": GENTLE.but(preset="smoothed", label="smoothed", real_label=0.9),
    "plain": MOMENTUM.but(preset="plain", label="plain", learning_rate=0.02),
    "minimax": MOMENTUM.but(preset="minimax", label="minimax", loss="minimax").but(
        discriminator_learning_rate=0.03, learning_rate=0.001
    ),
    "ring": STEADY.but(preset="ring", data="ring", beside="ring-plain"),
    "ring-plain": PLANE.but(preset="ring-plain", data="ring", label="plain", loss="minimax"),
    "grid": STEADY.but(preset="grid", data="grid", beside="grid-plain"),
    "grid-plain": PLANE.but(preset="grid-plain", data="grid", label="plain", loss="minimax"),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: cli.Many = 2500
    """Number of samples to draw of every generator."""
    sample_seed: cli.Natural = 0
    """Seed of the noise of the samples."""


def settings(config: Config) -> dict[str, Config]:
    """This setting and those beside it, by their labels. Raises UserError for what cannot be."""
    if not config.label or "/" in config.label:
        raise UserError(f"--label is {config.label!r}; expected a name, without /")
    found = {config.label: config}
    for name in cli.parse_choices(config.beside, "--beside", PRESETS, least=0):
        other = PRESETS[name]
        if other.data != config.data:
            raise UserError(f"--beside {name} is for {other.data}, and this is {config.data}")
        if other.label in found:
            raise UserError(
                f"--beside {name} is called {other.label}, as one before it; leave it out, or give"
                " another --label"
            )
        other = other.but(steps=config.steps, batch=config.batch, precision=config.precision)
        found[other.label] = other.but(discriminator_steps=config.discriminator_steps)
    return found


def load(config: Config) -> data.Splits:
    def opened(split):
        return data.open_points(config.data, split)

    def transform(spec):
        return None

    given = config.batch, config.seed, transform, config.discriminator_steps
    parts = data.open_parts(opened)
    return data.Splits.of_sources(lambda: data.MixtureSpec.of(config.data), parts, *given)


def build(config: Config, spec: data.MixtureSpec) -> cli.Experiment:
    mixture = spec.mixture

    def game(own: Config) -> models.Game:
        hidden = cli.parse_units(own.hidden, "--hidden")
        generator = mlp.Generator(len(mixture.mean), hidden, dtype=own.dtype)
        known = tuple(mixture.mean), tuple(mixture.std)
        discriminator = mlp.Discriminator(*known, hidden, dtype=own.dtype)
        return models.Game(generator, discriminator, own.prior, "point")

    def learner(own: Config, game: models.Game) -> train.Learner:
        loss = own.adversarial()

        def discriminator_loss(variables, opponent, batch, rng):
            """The negative of E log D(x) + E log(1 - D(G(z))), or another loss, with penalties."""
            x, (fake, _) = batch["point"], game.sample(opponent, batch, rng)
            real_logit, fake_logit, _ = game.judge_both(variables, batch, fake, rng)
            value = loss.discriminator(real_logit, fake_logit)
            value += own.penalties(lambda x: game.logits(variables, batch, x), x, fake, rng)
            return train.Loss(Mean.of(value), metrics.adversarial(real_logit, fake_logit))

        def generator_loss(variables, opponent, batch, rng):
            """-E log D(G(z)), E log(1 - D(G(z))), or another loss."""
            fake, _ = game.sample(variables, batch, rng)
            real_logit, fake_logit, _ = game.judge_both(opponent, batch, fake, rng)
            return train.Loss(Mean.of(loss.generator(real_logit, fake_logit)))

        def sample(variables, batch):
            return game.draw(variables["generator"], batch)

        def judge(variables, batch):
            return jax.nn.sigmoid(game.logits(variables["discriminator"], batch, batch["point"]))

        def evaluate(variables, batch):
            """Test points against as many samples, from noise that belongs to each point."""
            x, mask = batch["point"], batch["mask"]
            fake = sample(variables, {"z": own.prior.by_index(batch["index"])})
            logits = (game.logits(variables["discriminator"], batch, each) for each in (x, fake))
            near = metrics.distribution_metrics(mixture, x, fake, mask)
            return metrics.adversarial(*logits, mask_B=mask) | near

        functions = {"sample": sample, "judge": judge}
        return own.alternate(game, discriminator_loss, generator_loss, evaluate, functions)

    own = settings(config)
    games = {name: game(setting) for name, setting in own.items()}
    learners = {name: learner(setting, games[name]) for name, setting in own.items()}
    compared = train.Comparison(learners, config.seeds)
    labels = {name: setting.real_label for name, setting in own.items()}
    report = reports.mixture_report(spec, compared, games, labels)
    return cli.Experiment(
        compared.learner,
        report.report,
        report.predict,
        report.snapshot,
        baselines=lambda splits: report.baselines(),
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

"""The game of generative adversarial nets made visible: sections 3 and 4 of Goodfellow et al. 2014
(arXiv:1406.2661).

    python experiments/gan_equilibrium.py train                     # their figure 1: N(4, 0.5²) from uniform noise, seconds
    python experiments/gan_equilibrium.py train --preset compare    # the same beside settings that fail, three seeds each
    python experiments/gan_equilibrium.py train --preset ring       # eight Gaussians in the plane: which modes are found
    python experiments/gan_equilibrium.py train --preset grid       # twenty-five
    python experiments/gan_equilibrium.py predict                   # samples, and the verdict on them

At the equilibrium p_g = p_data, V = -log 4, the Jensen-Shannon divergence is 0 and D = 1/2. The
converse fails: a discriminator that has gone flat says 1/2 of everything, and V is -log 4 to three
digits while p_g is far off. So the verdict does not ask the discriminator that played. On the line
it trains a fresh one to its optimum against the frozen generator, when V = -log 4 + 2 JSD (equation
6), beside the same divergence counted in histograms and the Wasserstein-1 distance; in the plane it
counts modes.

Recorded on one core of an AMD EPYC, JAX 0.10.2, beside other work; the worst of the seeds 0 to 2:

    train --preset compare, 271 s   Wasserstein-1   JSD by a fresh D   differs from histograms by
    recommended                     0.029           0.028              0.004
    smoothed (labels of 0.9)        0.034           0.027              0.001, and D rests at 0.45
    plain                           0.297           0.303
    minimax                         3.97            0.693 = log 2

    discriminators at their optimum: |D - p/(p + q)| 0.0016 to 0.0023 in the mean, V within 0.00005 of equation 6
    minimax gradient / nonsaturating, before and after 300 updates of D alone: 3967 and 0.0054

    train --preset ring, 86 s       8 of 8 modes, 91.6 % of high quality, reverse KL 0.004; plain: 6, 27 %, 1.21
    train --preset grid, 89 s       25 of 25, 91.3 %, 0.009; plain: 25, 68 %, 0.21

Plain in the plane is the minimax loss at a constant rate; with the nonsaturating loss and a rate
that decays it passes too.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import cli, data, losses, metrics, present, train
from advdl.errors import UserError, nearest
from advdl.metrics import Mean
from advdl.models import mlp
from advdl.nn import replica


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "normal"
    """normal: N(4, 0.5²) on a line; ring, grid: 8 and 25 narrow Gaussians in the plane."""
    label: str = "recommended"
    """What this setting is called beside others."""
    beside: str = ""
    """Presets trained in the same run on the same batches, as in plain,minimax."""
    seeds: int = 1
    """Initializations of every setting."""
    hidden: str = "32,32"
    """Units of the layers of both networks."""
    loss: Literal["nonsaturating", "minimax"] = "nonsaturating"
    """What the generator descends."""
    optimizer: Literal["adam", "momentum"] = "adam"
    """Adam with b1 = 0.5, or SGD with momentum 0.5."""
    discriminator_learning_rate: float = 0.0
    """Step size of the discriminator (0: the same as the generator's)."""
    r1: float = 0.0
    """Weight of the penalty on the discriminator's gradient at the data (Mescheder et al. 2018; 0:
    none)."""
    real_label: float = 1.0
    """What the discriminator is told of data: less than 1 is one-sided label smoothing."""
    z: int = 1
    """Dimensions of the noise, uniform in [-1, 1]."""


LINE = dict(
    data="normal",
    batch=256,
    steps=20_000,
    per_call=50,
    evaluate_every=500,
    save_every=5000,
    log_every=250,
)
PLANE = LINE | dict(hidden="128,128,128", z=4, steps=10_000, learning_rate=1e-3)
STEADY = PLANE | dict(schedule="poly", r1=0.1, ema=0.999)
GENTLE = LINE | dict(learning_rate=3e-4, discriminator_learning_rate=1e-3, r1=0.05, ema=0.999)
PRESETS = {
    "laptop": Config(**GENTLE),
    "compare": Config(preset="compare", beside="plain,minimax,smoothed", seeds=3, **GENTLE),
    "smoothed": Config(preset="smoothed", label="smoothed", real_label=0.9, **GENTLE),
    "plain": Config(
        preset="plain", label="plain", optimizer="momentum", learning_rate=0.02, **LINE
    ),
    "minimax": Config(
        preset="minimax",
        label="minimax",
        loss="minimax",
        optimizer="momentum",
        discriminator_learning_rate=0.03,
        learning_rate=0.001,
        **LINE,
    ),
    "ring": Config(preset="ring", beside="ring-plain", seeds=3, **STEADY | dict(data="ring")),
    "ring-plain": Config(
        preset="ring-plain", label="plain", loss="minimax", **PLANE | dict(data="ring")
    ),
    "grid": Config(preset="grid", beside="grid-plain", seeds=3, **STEADY | dict(data="grid")),
    "grid-plain": Config(
        preset="grid-plain", label="plain", loss="minimax", **PLANE | dict(data="grid")
    ),
}

# Updates of a discriminator on its way to the optimum.
FRESH_STEPS = 3000
# The rules of the verdicts, fixed before the runs that are recorded above: figure -> the most (or
# least) that passes.
AT_MOST = {
    "normal": {
        "Wasserstein-1": 0.05,
        "JSD by a fresh discriminator": 0.03,
        "difference of the two JSD": 0.01,
    },
    "ring": {"reverse KL": 0.05},
    "grid": {"reverse KL": 0.3},
    "optimum": {"mean |D - best|": 0.01, "V off equation 6": 0.002},
}
AT_LEAST = {"ring": {"modes": 8, "high quality": 0.75}, "grid": {"modes": 24}}


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: int = 2500
    """Samples to draw of every generator."""
    sample_seed: int = 0
    """Seed of their noise."""


class Game:
    """The networks of one setting and the game between them."""

    def __init__(self, config: Config, mixture: data.Mixture):
        self.config, self.mixture = config, mixture
        hidden = cli.parse_units(config.hidden, "--hidden")
        self.generator = mlp.Generator(len(mixture.mean), hidden, dtype=config.dtype)
        self.discriminator = mlp.Discriminator(
            tuple(mixture.mean), tuple(mixture.std), hidden, dtype=config.dtype
        )

    def noise(self, key: jax.Array, count: int) -> jax.Array:
        """z (count, Z)."""
        return replica.sample(
            lambda key: jax.random.uniform(key, (self.config.z,), minval=-1.0), key, count
        )

    def judge(self, variables: train.Variables, x_BD: jax.Array) -> jax.Array:
        """Logits (B,)."""
        return self.discriminator.apply(variables, x_BD)[0]

    def generator_losses(self, logit_B: jax.Array) -> dict[str, jax.Array]:
        """By name, (B,) each."""
        return {
            "nonsaturating": losses.nonsaturating_generator(logit_B),
            "minimax": losses.minimax_generator(logit_B),
        }

    def learner(self) -> train.Learner:
        """Algorithm 1."""
        config = self.config

        def discriminator_loss(own, opponent, batch, rng):
            x = batch["point"]
            fake = self.generator.apply(opponent, self.noise(rng.key, len(x)))
            logits = self.judge(own, x), self.judge(own, fake)
            loss = losses.minimax_discriminator(*logits, config.real_label)
            if config.r1:
                loss += config.r1 / 2 * losses.r1(lambda x: self.judge(own, x), x)
            return train.Loss(Mean.of(loss), judged(*logits))

        def generator_loss(own, opponent, batch, rng):
            logit = self.judge(
                opponent, self.generator.apply(own, self.noise(rng.key, len(batch["point"])))
            )
            return train.Loss(Mean.of(self.generator_losses(logit)[config.loss]))

        def evaluate(variables, batch):
            """Test points against as many samples, each from noise that belongs to the point's
            place."""
            x, mask = batch["point"], batch["mask"]
            z = replica.sample_by_index(lambda key: self.noise(key, 1)[0], batch["index"])
            fake = self.generator.apply(variables["generator"], z)
            figures = judged(
                *(self.judge(variables["discriminator"], points) for points in (x, fake)), mask
            )
            if len(self.mixture.mean) == 1:
                return figures | {
                    "JSD": metrics.Divergence.of(x[:, 0], fake[:, 0], cells(self.mixture), mask)
                }
            return figures | metrics.mode_metrics(
                fake, self.mixture.centers_KD, self.mixture.deviation, mask
            )

        def player(init, loss, learning_rate, ema=None):
            rate = train.schedule(
                config.schedule, learning_rate, config.steps, config.warmup, config.power
            )
            rule = (
                optax.adam(rate, b1=0.5)
                if config.optimizer == "adam"
                else optax.sgd(rate, momentum=0.5)
            )
            return train.Player(
                init, loss, train.chain(rule, config.clip), ema, config.accumulate, config.remat
            )

        rate = config.learning_rate
        return train.alternate(
            player(
                lambda key, batch: self.discriminator.init(key, batch["point"]),
                discriminator_loss,
                config.discriminator_learning_rate or rate,
            ),
            player(
                lambda key, batch: self.generator.init(key, jnp.zeros((1, config.z))),
                generator_loss,
                rate,
                config.ema or None,
            ),
            evaluate,
        )


def judged(
    real_logit: jax.Array, fake_logit: jax.Array, mask: jax.Array | None = None
) -> dict[str, Mean]:
    """What a discriminator makes of data and samples."""
    return {
        "V": Mean.of(losses.value(real_logit, fake_logit), mask),
        "D(x)": Mean.of(jax.nn.sigmoid(real_logit), mask),
        "D(G(z))": Mean.of(jax.nn.sigmoid(fake_logit), mask),
    }


def places(mixture: data.Mixture, deviations: float, count: int) -> np.ndarray:
    """Even ones on the line, from the data's mean less so many deviations to it plus as many,
    (count,)."""
    return np.linspace(
        *(float(mixture.mean[0] + side * deviations * mixture.std[0]) for side in (-1, 1)), count
    )


def cells(mixture: data.Mixture) -> tuple[float, ...]:
    """Edges of the histograms' 80."""
    return tuple(places(mixture, 4, 81))


def member(label: str, seed: int) -> str:
    """A game's name in the state and in the metrics."""
    return f"{label}-s{seed}"


def settings(config: Config) -> dict[str, Config]:
    """This setting and those beside it, by what they are called; this one first. Raises UserError
    for what cannot be."""
    if not config.label or "/" in config.label:
        raise UserError(f"--label is {config.label!r}; expected a name, without /")
    found = {config.label: config}
    for name in cli.parse_names(config.beside):
        if name not in PRESETS:
            raise UserError(
                f"--beside {name!r} is no preset; there are"
                f" {', '.join(PRESETS)}{nearest(name, PRESETS)}"
            )
        other = PRESETS[name]
        if other.data != config.data:
            raise UserError(
                f"--beside {name} is a setting for {other.data}, and this is {config.data}"
            )
        if other.label in found:
            raise UserError(
                f"--beside {name} is called {other.label}, as one before it; leave it out, or give"
                " another --label"
            )
        found[other.label] = replace(
            other, steps=config.steps, batch=config.batch, precision=config.precision
        )
    return found


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "seeds", "z")
    cli.at_least(0, config, "discriminator_learning_rate", "r1")
    if not 0.5 < config.real_label <= 1:
        raise UserError(
            f"--real-label is {config.real_label}; expected more than 0.5 and at most 1"
        )
    training, held_out = (data.open_points(config.data, split) for split in ("train", "test"))
    games = {label: Game(setting, training.mixture) for label, setting in settings(config).items()}
    learners = {label: game.learner() for label, game in games.items()}
    table = (Line if len(training.mixture.mean) == 1 else Plane)(games, config.seeds, config.data)
    return cli.Experiment(
        learner=train.together(
            {member(label, n): learners[label] for label in games for n in range(config.seeds)}
        ),
        train=data.TrainBatches(training, config.batch, config.seed),
        test=data.EvalBatches(held_out, config.batch),
        report=table.report,
        predict=table.predict,
        snapshot=table.snapshot,
        baselines=table.baselines,
    )


def fresh(
    game: Game,
    samples: Callable[[Any, jax.Array, int], jax.Array],
    hidden: Sequence[int] = (64, 64, 64),
):
    """`fit(given, key, real_label) -> variables` of a new discriminator, trained to its optimum on
    endless data against `samples(given, key, count)` (B, D) that stand still; and its
    `judge(variables, x) -> logits`. It is larger than those that play: a bounded noise gives
    samples sharp ends, which 32 units do not follow."""
    network, steps, count = game.discriminator.clone(hidden=hidden), FRESH_STEPS, 512

    def judge(variables, x):
        return network.apply(variables, x)[0]

    @jax.jit
    def fit(given, key, real_label=1.0):
        def draw(key):
            keys = jax.random.split(key)
            return {
                "point": game.mixture.sample(keys[0], count),
                "sample": samples(given, keys[1], count),
            }

        def loss(variables, batch, rng):
            logits = (judge(variables, batch[name]) for name in ("point", "sample"))
            return train.Loss(Mean.of(losses.minimax_discriminator(*logits, real_label)))

        rule = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
        player = train.Player(lambda key, batch: network.init(key, batch["point"]), loss, rule)
        return train.scanned(train.minimize(player, lambda *_: {}), draw, steps)(key)[0][
            "model"
        ].variables

    return fit, jax.jit(judge)


def optima(game: Game, seeds: int = 3) -> dict[str, dict[str, Any]]:
    """Discriminators trained to their optimum where it is known: the data against N(4.5, 0.7²) and
    against itself, and against itself with data labeled 0.9; on the line.

    By what they are, for each seed: the mean |D - best| over points of both; the mean D; and, of
    the label 1, how far V is off equation 6, by quadrature. `panel`: the first seed's picture.
    """
    fit, judge = fresh(
        game, lambda given, key, count: given[0] + given[1] * jax.random.normal(key, (count, 1))
    )
    own, x, found = (
        (float(game.mixture.mean[0]), float(game.mixture.std[0])),
        places(game.mixture, 8, 2001),
        {},
    )
    p = game.mixture.density(x[:, None])
    for title, given, label in (
        ("against N(4.5, 0.7²)", (4.5, 0.7), 1.0),
        ("against the data itself", own, 1.0),
        ("data labeled 0.9", own, 0.9),
    ):
        q = data.Mixture(np.array([given[:1]]), given[1]).density(x[:, None])
        best, weight = metrics.optimal_discriminator(p, q, label), (p + q) / (p + q).sum()
        each = []
        for seed in range(seeds):
            variables = fit(given, jax.random.key(seed), label)
            each.append(
                np.asarray(
                    jax.nn.sigmoid(judge(variables, x[:, None].astype(np.float32))), np.float64
                )
            )
        found[title] = {
            "panel": present.Line(title, p, q, each[0], best),
            "mean |D - best|": [float(weight @ np.abs(d - best)) for d in each],
            "mean D": [float(weight @ d) for d in each],
        }
        if label == 1:
            value = [(p @ np.log(d) + q @ np.log1p(-d)) * (x[1] - x[0]) for d in each]
            found[title]["V off equation 6"] = [
                float(abs(v - metrics.optimal_value(p, q))) for v in value
            ]
    return found


def saturation(
    game: Game, seed: int = 0, steps: int = 300, count: int = 1024
) -> list[dict[str, float]]:
    """A discriminator learns to tell a new generator's samples while that stands still: before each
    update its accuracy, the mean D(G(z)), the norms of the generator's two gradients (section 3)
    and their ratio."""
    generator = game.generator.init(jax.random.key(seed), jnp.zeros((1, game.config.z)))

    def logits(variables, own, batch):
        return game.judge(variables, game.generator.apply(own, batch["z"]))

    def loss(variables, batch, rng):
        def means(own):
            return {
                name: each.mean()
                for name, each in game.generator_losses(logits(variables, own, batch)).items()
            }

        real, fake = game.judge(variables, batch["point"]), logits(variables, generator, batch)
        seen = {
            name: optax.tree.norm(gradient)[None]
            for name, gradient in jax.jacrev(means)(generator).items()
        }
        seen |= {
            "accuracy": jnp.stack([real > 0, fake < 0]).astype(jnp.float32),
            "D(G(z))": jax.nn.sigmoid(fake),
        }
        objective = Mean.of(losses.minimax_discriminator(real, fake))
        return train.Loss(objective, {name: Mean.of(value) for name, value in seen.items()})

    def draw(key):
        keys = jax.random.split(key)
        return {"point": game.mixture.sample(keys[0], count), "z": game.noise(keys[1], count)}

    player = train.Player(
        lambda key, batch: game.discriminator.init(key, batch["point"]),
        loss,
        optax.adam(1e-3, b1=0.5),
    )
    run = train.scanned(train.minimize(player, lambda *_: {}), draw, steps)
    seen = {
        name: np.asarray(mean.total / mean.count)
        for name, mean in jax.jit(run)(jax.random.key(seed))[1].items()
    }
    seen["ratio"] = seen["minimax"] / seen["nonsaturating"]
    return [
        {"step": t} | {name: float(values[t]) for name, values in seen.items()}
        for t in range(steps)
    ]


def verdict(name: str, figures: Mapping[str, Any], rule: str) -> str:
    """Whether the worst of every figure keeps the rules of this name, in a sentence."""
    return metrics.verdict(name, figures, AT_LEAST.get(rule, {}), AT_MOST.get(rule, {}))


FIGURE_1 = """Figure 1 of the paper: dotted the data's density, green that of the samples, dashed the discriminator; below, \
lines from even z to x = G(z), dense where the samples are. Samples are of the moving average where one is kept, the \
discriminator is the one that plays. First seed."""
PLANE_TEXT = (
    "2,500 samples of the first seed over the modes of the data. The rings are larger than the"
    " modes."
)
GAME = """Thin every seed, bold their mean. None of V and D can tell whether the generator is right: where D is flat they are \
at their equilibrium whatever the samples are."""
VERDICT = """W₁ and the histograms compare 100,000 samples with as much data. The fresh discriminator is trained against the \
frozen generator until V is as high as it gets: then (V + log 4)/2 is the Jensen-Shannon divergence (equation 6), measured \
without histograms. Beside them what the discriminator that played says."""
MODES = """2,500 samples of every seed. A mode is found when a sample is within 3 deviations of it; samples within 3 of some \
mode are of high quality; reverse KL is that of their shares of the modes from equal ones."""
OPTIMUM = """Proposition 1: against a fixed generator the best discriminator is p_data/(p_data + p_g). With data labeled t it \
is t times that, so that 1/2 becomes t/2. The mean difference is over points of both densities."""
SATURATION = """A new generator stands still while the discriminator learns to tell its samples from data. Once D(G(z)) is \
near 0, log(1 − D(G(z))) is flat: its gradient vanishes just when the generator has everything to learn, while that of \
−log D(G(z)) does not (section 3). For one sample their ratio is D/(1 − D)."""


class Table:
    """What the games of a run came to, judged and drawn; on a line or in the plane."""

    rows, text, about = 2500, "", ""

    def __init__(self, games: Mapping[str, Game], seeds: int, rule: str):
        self.games, self.seeds, self.rule, self.own = games, seeds, rule, next(iter(games.values()))
        self.mixture = self.own.mixture
        self._made = {label: jax.jit(game.generator.apply) for label, game in games.items()}
        self._said = {label: jax.jit(game.judge) for label, game in games.items()}

    def samples(self, state: train.State, label: str, seed: int, z: np.ndarray) -> np.ndarray:
        """Points (N, D) of one generator from noise (N, Z)."""
        return np.asarray(self._made[label](state[f"{member(label, seed)}/generator"].average, z))

    def belief(self, state: train.State, label: str, seed: int, x: np.ndarray) -> np.ndarray:
        """D of points (N, D) by the discriminator that plays, (N,)."""
        return np.asarray(
            jax.nn.sigmoid(
                self._said[label](state[f"{member(label, seed)}/discriminator"].average, x)
            )
        )

    @functools.cache
    def noise(self, label: str, count: int, seed: int) -> np.ndarray:
        """(N, Z): one number at even places, more drawn."""
        game = self.games[label]
        if game.config.z == 1:
            return ((np.arange(count, dtype=np.float32) + 0.5) * (2 / count) - 1)[:, None]
        return np.asarray(game.noise(jax.random.key(seed), count))

    @functools.cache
    def real(self, count: int, seed: int) -> np.ndarray:
        """Data (N, D)."""
        return np.asarray(self.mixture.sample(jax.random.key(0x7265 + seed), count))

    def judge(self, state: train.State) -> dict[str, dict[str, Any]]:
        """Every setting's figures, seed by seed, and the verdict on them."""
        found = {}
        for label in self.games:
            each = [self.figures(state, label, seed) for seed in range(self.seeds)]
            figures = {name: [one[name] for one in each] for name in each[0]}
            found[label] = {"verdict": verdict(label.capitalize(), figures, self.rule), **figures}
        return found

    def panels(self) -> list[present.Panel]:
        """Curves of every setting against what the equilibrium has; `also` adds those of a line or
        of a plane."""

        def each(label, what):
            return [f"test/{member(label, n)}/{what}" for n in range(self.seeds)]

        belief, styles = {}, {}
        for hue, label in enumerate(self.games):
            for dash, what in enumerate(("D(x)", "D(G(z))")):
                belief[f"{label}, {what}"], styles[f"{label}, {what}"] = (
                    each(label, what),
                    (hue, dash),
                )
        half = {
            f"{t / 2:g}": t / 2
            for t in sorted({game.config.real_label for game in self.games.values()})
        }
        also = [
            present.Panel(
                title, {label: each(label, what) for label in self.games}, references=lines
            )
            for title, (what, lines) in self.also().items()
        ]
        return [
            present.Panel(
                "V(D, G)",
                {label: each(label, "V") for label in self.games},
                references={"−log 4": -math.log(4)},
            ),
            present.Panel("what D believes, mean", belief, references=half, styles=styles),
            *also,
        ]

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, found = run.report, self.judge(state)
        frames = sorted((folder / "frames").glob("*.png"))
        present.animate(frames, folder / "training.gif", milliseconds=150)
        present.draw_curves(
            present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", self.panels()
        )
        verdicts = "\n\n".join(each["verdict"] for each in found.values())
        end = present.Picture(f"frames/{frames[-1].name}", "At the end, first seed.")
        theory = self.theory(folder)
        table = {
            label: {name: value for name, value in each.items() if name != "verdict"}
            for label, each in found.items()
        }
        sections = [
            present.Section("Over training", self.text, ["training.gif"]),
            present.Section("What the game shows of itself", GAME, ["curves.png"]),
            present.Section(
                "The verdict",
                f"{self.about}\n\n{verdicts}",
                [end],
                table | {"floor": self.baselines()},
            ),
        ]
        run.write("verdict.json", found | {section.title: section.figures for section in theory})
        cli.say(verdicts)
        return sections + theory

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Samples of every game, the picture of each, the verdict, and what theory says of
        discriminators."""
        if options.count < 1:
            raise UserError(f"--count is {options.count}; expected at least 1")
        drawn = {}
        for label, game in self.games.items():
            z = np.asarray(game.noise(jax.random.key(options.sample_seed), options.count))
            drawn |= {
                member(label, seed): self.samples(state, label, seed, z)
                for seed in range(self.seeds)
            }
        with train.told(f"folder {folder}"):
            np.savez(folder / "samples.npz", **drawn)
        self.snapshot(state, int(state.step), folder)
        return self.judge(state) | {
            section.title: section.figures for section in self.theory(folder)
        }


class Line(Table):
    """Of games on the line."""

    rows, text, about = 100_000, FIGURE_1, VERDICT

    @functools.cached_property
    def fresh(self):
        """Label -> `fresh` against generators of that setting, given by their variables."""

        def made(game):
            return lambda variables, key, count: game.generator.apply(
                variables, game.noise(key, count)
            )

        return {label: fresh(game, made(game)) for label, game in self.games.items()}

    def distances(self, a_ND: np.ndarray, b_ND: np.ndarray) -> dict[str, float]:
        """Of one sample from another."""
        counts = metrics.Divergence.of(
            jnp.asarray(a_ND[:, 0]), jnp.asarray(b_ND[:, 0]), cells(self.mixture)
        )
        return {
            "Wasserstein-1": metrics.wasserstein_1(a_ND[:, 0], b_ND[:, 0]),
            "JSD in histograms": counts.compute(),
        }

    def figures(self, state: train.State, label: str, seed: int) -> dict[str, float]:
        """Of one game."""
        real, made = (
            self.real(self.rows, seed),
            self.samples(state, label, seed, self.noise(label, self.rows, seed)),
        )
        found = self.distances(real, made)
        fit, judge = self.fresh[label]
        variables = fit(state[f"{member(label, seed)}/generator"].average, jax.random.key(seed))
        value = float(losses.value(judge(variables, real), judge(variables, made)).mean())
        by_fresh = (value + math.log(4)) / 2
        found |= {
            "JSD by a fresh discriminator": by_fresh,
            "difference of the two JSD": abs(by_fresh - found["JSD in histograms"]),
        }
        own = {"D(x) of its own": real, "D(G(z)) of its own": made}
        return found | {
            name: float(self.belief(state, label, seed, points).mean())
            for name, points in own.items()
        }

    def also(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Panels beside V and D: title -> metric and reference lines."""
        return {"Jensen-Shannon divergence": ("JSD", {"log 2": math.log(2), "0": 0.0})}

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """Figure 1 of the first seed's games."""
        x = places(self.mixture, 8, 401)
        panels = [self.panel(state, label, x) for label in self.games]
        present.draw_lines(x, panels, folder / "frames" / f"{step:07}.png", f"step {step:,}")

    def panel(self, state: train.State, label: str, x_N: np.ndarray) -> present.Line:
        """Of one game."""
        made, few = (
            self.samples(state, label, 0, self.noise(label, 20_000, 0))[:, 0],
            self.noise(label, 25, 0),
        )
        distance = metrics.wasserstein_1(made, self.real(len(made), 0)[:, 0])
        return present.Line(
            f"{label}: W₁ {distance:.2f}",
            self.mixture.density(x_N[:, None]),
            present.smoothed_density(made, x_N),
            self.belief(state, label, 0, x_N[:, None].astype(np.float32)),
            noise_M=few[:, 0],
            image_M=self.samples(state, label, 0, few)[:, 0],
        )

    def theory(self, folder: Path) -> list[present.Section]:
        """Discriminators at their optimum, and the gradient that a generator gets of one that is
        right."""
        found = optima(self.own)
        panels = [each.pop("panel") for each in found.values()]
        present.draw_lines(places(self.mixture, 8, 2001), panels, folder / "optimum.png")
        said = "\n\n".join(
            verdict(f"The discriminator {title}", each, "optimum") for title, each in found.items()
        )
        lines = saturation(self.own)
        curves = [
            present.Panel(
                "norm of the generator's gradient",
                ["minimax", "nonsaturating"],
                log=True,
                smooth=False,
            ),
            present.Panel(
                "minimax / nonsaturating",
                {"ratio": "ratio", "D(G(z))": "D(G(z))"},
                log=True,
                smooth=False,
            ),
        ]
        present.draw_curves(
            lines, folder / "saturation.png", curves, xlabel="updates of the discriminator"
        )
        figures = {
            f"ratio of the norms, {when}": line["ratio"]
            for when, line in (("first", lines[0]), ("last", lines[-1]))
        }
        figures |= {f"{name} at the end": lines[-1][name] for name in ("accuracy", "D(G(z))")}
        return [
            present.Section(
                "The best discriminator", f"{OPTIMUM}\n\n{said}", ["optimum.png"], found
            ),
            present.Section("Saturation", SATURATION, ["saturation.png"], figures),
        ]

    def baselines(self) -> dict[str, float]:
        """Of data against other data."""
        return {
            f"{name} of data": value
            for name, value in self.distances(*(self.real(self.rows, n) for n in (1, 2))).items()
        }


class Plane(Table):
    """Of games in the plane."""

    text, about = PLANE_TEXT, MODES

    def modes(self, samples_ND: np.ndarray) -> dict[str, float]:
        """Found by samples."""
        return metrics.compute(
            metrics.mode_metrics(
                jnp.asarray(samples_ND), self.mixture.centers_KD, self.mixture.deviation
            )
        )

    def figures(self, state: train.State, label: str, seed: int) -> dict[str, float]:
        """Of one game."""
        return self.modes(self.samples(state, label, seed, self.noise(label, self.rows, seed)))

    def also(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Panels beside V and D: title -> metric and reference lines."""
        count = len(self.mixture.centers_KD)
        return {
            "modes found": ("modes", {str(count): count}),
            "share within 3 σ of a mode": ("high quality", {"of data": 1 - math.exp(-4.5)}),
        }

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """Clouds of the first seed's games."""
        panels = []
        for label in self.games:
            made = self.samples(state, label, 0, self.noise(label, self.rows, 0))
            found, count = self.modes(made), len(self.mixture.centers_KD)
            title = (
                f"{label}\n{found['modes']:.0f} of {count} modes, {found['high quality']:.0%}"
                " within 3 σ"
            )
            panels.append(present.Cloud(title, made))
        present.draw_clouds(
            self.mixture.centers_KD, panels, folder / "frames" / f"{step:07}.png", f"step {step:,}"
        )

    def theory(self, folder: Path) -> list[present.Section]:
        """Nothing: there is no known optimum in the plane that is worth a picture."""
        return []

    def baselines(self) -> dict[str, float]:
        """Of data, and of one Gaussian with the data's mean and deviations."""
        one = (
            np.random.default_rng(0)
            .normal(self.mixture.mean, self.mixture.std, (self.rows, 2))
            .astype(np.float32)
        )
        sets = {"data": self.real(self.rows, 1), "one Gaussian": one}
        return {
            f"{name} of {what}": value
            for what, points in sets.items()
            for name, value in self.modes(points).items()
        }


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

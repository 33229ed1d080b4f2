"""The game of generative adversarial nets made visible: sections 3 and 4 of Goodfellow et al. 2014 (arXiv:1406.2661).

    python experiments/gan_equilibrium.py train                     # their figure 1: N(4, 0.5²) from uniform noise, seconds
    python experiments/gan_equilibrium.py train --preset compare    # the same beside settings that fail, three seeds each
    python experiments/gan_equilibrium.py train --preset ring       # eight Gaussians in the plane: which modes are found
    python experiments/gan_equilibrium.py train --preset grid       # twenty-five
    python experiments/gan_equilibrium.py train --preset smoothed   # data labeled 0.9: the fixed point is D = 0.45
    python experiments/gan_equilibrium.py predict                   # samples, and the verdict on them

At the equilibrium p_g = p_data, V = -log 4, the Jensen-Shannon divergence is 0 and D = 1/2. The converse fails: a
discriminator that has gone flat says 1/2 of everything, and V is -log 4 to three digits while p_g is far off. So the verdict
does not ask the discriminator that played. On the line it trains a fresh one to its optimum against the frozen generator, when
V = -log 4 + 2 JSD (equation 6), beside the same divergence counted in histograms and the Wasserstein-1 distance; in the plane
it counts modes.
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
    """Weight of the penalty on the discriminator's gradient at the data (Mescheder et al. 2018; 0: none)."""
    real_label: float = 1.0
    """What the discriminator is told of data: less than 1 is one-sided label smoothing."""
    z: int = 1
    """Dimensions of the noise, uniform in [-1, 1]."""


LINE = dict(
    data="normal", batch=256, steps=20_000, per_call=50, evaluate_every=500, save_every=5000, log_every=250
)  # fmt: skip
PLANE = LINE | dict(hidden="128,128,128", z=4, steps=10_000, schedule="poly", learning_rate=1e-3)
GENTLE = dict(learning_rate=3e-4, discriminator_learning_rate=1e-3, r1=0.05, ema=0.999)
PRESETS = {
    "laptop": Config(**LINE, **GENTLE),
    "compare": Config(preset="compare", beside="plain,minimax", seeds=3, **LINE, **GENTLE),
    "smoothed": Config(preset="smoothed", label="smoothed", real_label=0.9, **LINE, **GENTLE),
    "plain": Config(preset="plain", label="plain", optimizer="momentum", learning_rate=0.02, **LINE),
    "minimax": Config(
        preset="minimax", label="minimax", loss="minimax", optimizer="momentum", discriminator_learning_rate=0.03,
        learning_rate=0.001, **LINE,
    ),
    "ring": Config(preset="ring", beside="ring-plain", seeds=3, r1=0.1, ema=0.999, **PLANE | dict(data="ring")),
    "ring-plain": Config(preset="ring-plain", label="plain", **PLANE | dict(data="ring")),
    "grid": Config(preset="grid", beside="grid-plain", seeds=3, r1=0.1, ema=0.999, **PLANE | dict(data="grid")),
    "grid-plain": Config(preset="grid-plain", label="plain", **PLANE | dict(data="grid")),
}  # fmt: skip


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: int = 2500
    """Samples to draw of every generator."""
    sample_seed: int = 0
    """Seed of their noise."""


# The rules of the verdict, fixed before the runs that are recorded above.
LINE_RULES = {"Wasserstein-1": 0.05, "JSD by a fresh discriminator": 0.03, "of the two JSD, difference": 0.01}
PLANE_RULES = {"ring": {"modes": 8, "high quality": 0.75, "reverse KL": 0.05}, "grid": {"modes": 24, "reverse KL": 0.3}}
FRESH = dict(hidden=(64, 64, 64), steps=3000, batch=512, learning_rate=3e-3)
LINE_SAMPLES = 100_000


def settings(config: Config) -> dict[str, Config]:
    """This setting and those beside it, by what they are called; this one last. Raises UserError for what cannot be."""
    found = {}
    for name in filter(None, map(str.strip, config.beside.split(","))):
        if name not in PRESETS:
            raise UserError(f"--beside {name!r} is no preset; there are {', '.join(PRESETS)}{nearest(name, PRESETS)}")
        other = PRESETS[name]
        if other.data != config.data:
            raise UserError(f"--beside {name} is a setting for {other.data}, and this is {config.data}")
        found[other.label] = replace(other, steps=config.steps, batch=config.batch)
    if config.label in found or not config.label or "/" in config.label:
        raise UserError(f"--label {config.label!r} is taken or no name; give another")
    return found | {config.label: config}


def member(label: str, seed: int) -> str:
    """A game's name in the state and in the metrics."""
    return f"{label}-s{seed}"


class Game:
    """The networks of one setting and the game between them."""

    def __init__(self, config: Config, mixture: data.Mixture):
        self.config, self.mixture = config, mixture
        try:
            hidden = tuple(int(units) for units in config.hidden.split(","))
        except ValueError:
            hidden = (0,)
        if min(hidden) < 1:
            raise UserError(f"--hidden is {config.hidden!r}; expected numbers of units, as in 32,32")
        self.generator = mlp.Generator(mixture.centers_KD.shape[1], hidden, dtype=config.dtype)
        self.discriminator = mlp.Discriminator(tuple(mixture.mean), tuple(mixture.std), hidden, dtype=config.dtype)
        self.edges = tuple(np.linspace(*self.span(4), 81)) if self.on_line else None

    @property
    def on_line(self) -> bool:
        """Whether points are numbers."""
        return self.mixture.centers_KD.shape[1] == 1

    def span(self, deviations: float) -> tuple[float, float]:
        """On the line, the data's mean less and plus so many standard deviations."""
        middle, width = float(self.mixture.mean[0]), deviations * float(self.mixture.std[0])
        return middle - width, middle + width

    def draw(self, key: jax.Array) -> jax.Array:
        """One z (Z,)."""
        return jax.random.uniform(key, (self.config.z,), minval=-1.0)

    def init(self, key: jax.Array, batch: Mapping[str, jax.Array]) -> train.Variables:
        """Of the discriminator."""
        return self.discriminator.init(key, batch["point"])

    def judge(self, variables: train.Variables, x_BD: jax.Array) -> jax.Array:
        """Logits (B,)."""
        return self.discriminator.apply(variables, x_BD)[0]

    def discriminator_loss(self, variables: train.Variables, real_BD: jax.Array, fake_BD: jax.Array) -> train.Loss:
        """-[t log D(x) + (1 - t) log(1 - D(x)) + log(1 - D(G(z)))] and the penalty, and what is told of it."""
        real, fake = self.judge(variables, real_BD), self.judge(variables, fake_BD)
        loss = label_loss(real, fake, self.config.real_label)
        if self.config.r1:
            loss += self.config.r1 / 2 * losses.r1(lambda x: self.judge(variables, x), real_BD)
        return train.Loss(Mean.of(loss), judged(real, fake))

    def generator_loss(self, logit_B: jax.Array, name: str = "") -> jax.Array:
        """(B,)"""
        return {"nonsaturating": losses.nonsaturating_generator, "minimax": losses.minimax_generator}[
            name or self.config.loss
        ](logit_B)

    def learner(self) -> train.Learner:
        """Algorithm 1."""
        config = self.config

        def discriminator_loss(own, opponent, batch, key):
            x = batch["point"]
            return self.discriminator_loss(own, x, self.generator.apply(opponent, replica.sample(self.draw, key, len(x))))

        def generator_loss(own, opponent, batch, key):
            fake = self.generator.apply(own, replica.sample(self.draw, key, len(batch["point"])))
            return train.Loss(Mean.of(self.generator_loss(self.judge(opponent, fake))))

        def evaluate(variables, batch):
            """Test points against as many samples, each from noise that belongs to the point's place."""
            x, mask = batch["point"], batch["mask"]
            z = jax.vmap(lambda place: self.draw(jax.random.fold_in(jax.random.key(0), place)))(batch["index"])
            fake = self.generator.apply(variables["generator"], z)
            figures = judged(*(self.judge(variables["discriminator"], points) for points in (x, fake)), mask)
            if self.on_line:
                return figures | {"JSD": metrics.Divergence.of(x[:, 0], fake[:, 0], self.edges, mask)}
            return figures | metrics.mode_metrics(fake, self.mixture.centers_KD, self.mixture.deviation, mask)

        def player(init, loss, learning_rate, ema=None):
            rate = train.schedule(config.schedule, learning_rate, config.steps, config.warmup, config.power)
            rule = optax.adam(rate, b1=0.5) if config.optimizer == "adam" else optax.sgd(rate, momentum=0.5)
            return train.Player(init, loss, train.clipped(rule, config.clip), ema, config.accumulate)

        return train.alternate(
            discriminator=player(
                self.init, discriminator_loss, config.discriminator_learning_rate or config.learning_rate
            ),
            generator=player(
                lambda key, batch: self.generator.init(key, jnp.zeros((1, config.z))),
                generator_loss,
                config.learning_rate,
                config.ema or None,
            ),
            evaluate=evaluate,
        )


def judged(real_logit: jax.Array, fake_logit: jax.Array, mask: jax.Array | None = None) -> dict[str, Mean]:
    """What a discriminator makes of data and samples."""
    return {
        "V": Mean.of(losses.value(real_logit, fake_logit), mask),
        "D(x)": Mean.of(jax.nn.sigmoid(real_logit), mask),
        "D(G(z))": Mean.of(jax.nn.sigmoid(fake_logit), mask),
    }


def label_loss(real_logit: jax.Array, fake_logit: jax.Array, real_label: jax.Array | float) -> jax.Array:
    """-[t log D(x) + (1 - t) log(1 - D(x)) + log(1 - D(G(z)))], (B,), for data labeled t: its optimum is t·p/(p + q)."""
    told = jnp.full_like(real_logit, real_label)
    return losses.binary_cross_entropy(real_logit, told) + losses.binary_cross_entropy(fake_logit, jnp.zeros_like(fake_logit))


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "seeds", "z")
    cli.at_least(0, config, "discriminator_learning_rate", "r1")
    if not 0.5 < config.real_label <= 1:
        raise UserError(f"--real-label is {config.real_label}; expected more than 0.5 and at most 1")
    training, held_out = (data.open_points(config.data, split) for split in data.points.SPLITS)
    games = {label: Game(setting, training.mixture) for label, setting in settings(config).items()}
    learners = {label: game.learner() for label, game in games.items()}
    table = Table(games, config.seeds, held_out)
    return cli.Experiment(
        learner=train.together({member(label, n): learners[label] for label in games for n in range(config.seeds)}),
        train=data.TrainBatches(training, config.batch, config.seed),
        test=data.EvalBatches(held_out, config.batch),
        report=table.report,
        predict=table.predict,
        snapshot=table.snapshot,
        baselines=table.baselines,
    )


def fresh_discriminator(game: Game, samples: Callable[[Any, jax.Array, int], jax.Array]):
    """`fit(given, key, real_label) -> variables` of a new discriminator, trained to its optimum on endless data against
    `samples(given, key, count)` (B, D); and its `judge(variables, x) -> logits`. It is larger than those that play: a
    bounded noise gives samples sharp ends, which 32 units do not follow."""
    network, count = game.discriminator.clone(hidden=FRESH["hidden"]), FRESH["batch"]

    def judge(variables, x):
        return network.apply(variables, x)[0]

    def loss(variables, batch, key):
        logits = (judge(variables, points) for points in (batch["point"], batch["sample"]))
        return train.Loss(Mean.of(label_loss(*logits, batch["label"])))

    init = lambda key, batch: network.init(key, batch["point"])  # noqa: E731
    rate = optax.cosine_decay_schedule(FRESH["learning_rate"], FRESH["steps"])
    learner = train.minimize(train.Player(init, loss, optax.adam(rate)), lambda variables, batch: {})

    @jax.jit
    def fit(given, key, real_label):
        def batch(t):
            keys = jax.random.split(jax.random.fold_in(key, t))
            points = {"point": real_points(game, keys[0], count), "sample": samples(given, keys[1], count)}
            return points | {"label": jnp.full(count, real_label)}

        step = lambda state, t: (learner.step(state, batch(t), key)[0], None)  # noqa: E731
        state, _ = jax.lax.scan(step, learner.init(key, batch(0)), jnp.arange(1, FRESH["steps"] + 1))
        return state["model"].variables

    return fit, jax.jit(judge)


def real_points(game: Game, key: jax.Array, count: int) -> jax.Array:
    """Data (B, D), drawn on the device."""
    keys, centers = jax.random.split(key), jnp.asarray(game.mixture.centers_KD, jnp.float32)
    noise = jax.random.normal(keys[1], (count, centers.shape[1]))
    return centers[jax.random.randint(keys[0], (count,), 0, len(centers))] + game.mixture.deviation * noise


def optima(game: Game, seed: int, other: tuple[float, float] = (4.5, 0.7)) -> list[dict[str, Any]]:
    """Discriminators trained to their optimum where it is known: the data against N(4.5, 0.7²) and against itself, and
    against itself with data labeled 0.9; on the line.

    Each has its places `x`, densities `data` and `samples`, `D` and `best`, all (N,); `error`, the mean |D - best| over
    points of both; `value` and `exact`, V of D and of the best for label 1, by quadrature.
    """

    def gaussian(given, key, count):
        return given[0] + given[1] * jax.random.normal(key, (count, 1))

    own = float(game.mixture.mean[0]), float(game.mixture.std[0])
    (fit, judge), x = fresh_discriminator(game, gaussian), np.linspace(*game.span(8), 2001)
    p, found = game.mixture.density(x[:, None]), []
    for number, (title, given, label) in enumerate(
        (("against another Gaussian", other, 1.0), ("against the data itself", own, 1.0), ("data labeled 0.9", own, 0.9))
    ):
        variables = fit(given, jax.random.fold_in(jax.random.key(seed), number), label)
        q = data.Mixture(np.array([[given[0]]]), given[1]).density(x[:, None])
        d = np.asarray(jax.nn.sigmoid(judge(variables, x[:, None].astype(np.float32))), np.float64)
        best, weight = metrics.optimal_discriminator(p, q, label), (p + q) / (p + q).sum()
        found.append({
            "title": title, "label": label, "x": x, "data": p, "samples": q, "D": d, "best": best,
            "error": float(weight @ np.abs(d - best)),
            "value": float((p @ np.log(d) + q @ np.log1p(-d)) * (x[1] - x[0])),
            "exact": float((p @ np.log(best) + q @ np.log1p(-best)) * (x[1] - x[0])),
        })  # fmt: skip
    return found


def saturation(game: Game, seed: int, steps: int = 300, batch: int = 1024) -> list[dict[str, float]]:
    """A discriminator learns to tell a new generator's samples while that stands still: after each update its accuracy, the
    mean D(G(z)), and the norms of the generator's two gradients (section 3)."""

    def loss(variables, batch, key):
        logits = (game.judge(variables, points) for points in (batch["point"], batch["sample"]))
        return train.Loss(Mean.of(label_loss(*logits, 1.0)))

    learner = train.minimize(train.Player(game.init, loss, optax.adam(1e-3, b1=0.5)), lambda variables, batch: {})

    @jax.jit
    def run(key):
        key_g, key_d, key = jax.random.split(key, 3)
        generator = game.generator.init(key_g, jnp.zeros((1, game.config.z)))

        def norm(variables, z, name):
            def mean(own):
                return game.generator_loss(game.judge(variables, game.generator.apply(own, z)), name).mean()

            return optax.tree.norm(jax.grad(mean)(generator))

        def step(state, t):
            keys = jax.random.split(jax.random.fold_in(key, t))
            z = replica.sample(game.draw, keys[0], batch)
            points = {"point": real_points(game, keys[1], batch), "sample": game.generator.apply(generator, z)}
            d = state["model"].variables
            real, fake = (game.judge(d, points[name]) for name in ("point", "sample"))
            seen = {
                "accuracy": ((real > 0).mean() + (fake < 0).mean()) / 2,
                "D(G(z))": jax.nn.sigmoid(fake).mean(),
                "minimax": norm(d, z, "minimax"),
                "nonsaturating": norm(d, z, "nonsaturating"),
            }
            return learner.step(state, points, key)[0], seen

        return jax.lax.scan(step, learner.init(key_d, {"point": jnp.zeros((1, 1))}), jnp.arange(steps))[1]

    seen = {name: np.asarray(values, np.float64) for name, values in run(jax.random.key(seed)).items()}
    seen["ratio"] = seen["minimax"] / seen["nonsaturating"]
    return [{"step": t} | {name: float(values[t]) for name, values in seen.items()} for t in range(steps)]


class Table:
    """What the games of a run came to, judged and drawn."""

    def __init__(self, games: Mapping[str, Game], seeds: int, held_out: data.Points):
        self.games, self.seeds, self.held_out, self.mixture = games, seeds, held_out, held_out.mixture
        self.own = list(games.values())[-1]
        self._made = {label: jax.jit(game.generator.apply) for label, game in games.items()}
        self._said = {label: jax.jit(game.judge) for label, game in games.items()}

    def samples(self, state: train.State, label: str, seed: int, z: np.ndarray) -> np.ndarray:
        """Points (N, D) of one generator from noise (N, Z)."""
        return np.asarray(self._made[label](state[f"{member(label, seed)}/generator"].average, z))

    def belief(self, state: train.State, label: str, seed: int, x: np.ndarray) -> np.ndarray:
        """D of points (N, D) by the discriminator that plays, (N,)."""
        return np.asarray(jax.nn.sigmoid(self._said[label](state[f"{member(label, seed)}/discriminator"].average, x)))

    def noise(self, label: str, count: int, seed: int) -> np.ndarray:
        """(N, Z): one number at even places, more drawn."""
        game = self.games[label]
        if game.config.z == 1:
            return ((np.arange(count, dtype=np.float32) + 0.5) * (2 / count) - 1)[:, None]
        return np.asarray(replica.sample(game.draw, jax.random.key(seed), count))

    def real(self, count: int, seed: int) -> np.ndarray:
        """Data (N, D)."""
        dimensions = self.mixture.centers_KD.shape[1]
        return self.mixture.points(np.random.default_rng(seed).random((count, 1 + dimensions)))[0]

    def distances(self, a_ND: np.ndarray, b_ND: np.ndarray) -> dict[str, float]:
        """On the line, of one sample from another."""
        counts = metrics.Divergence.of(jnp.asarray(a_ND[:, 0]), jnp.asarray(b_ND[:, 0]), self.own.edges)
        return {"Wasserstein-1": metrics.wasserstein_1(a_ND[:, 0], b_ND[:, 0]), "JSD in histograms": counts.compute()}

    def modes(self, samples_ND: np.ndarray) -> dict[str, float]:
        """In the plane."""
        found = metrics.mode_metrics(jnp.asarray(samples_ND), self.mixture.centers_KD, self.mixture.deviation)
        return metrics.compute(found)

    @functools.cached_property
    def fresh(self):
        """Label -> `fresh_discriminator` against generators of that setting, given by their variables."""
        fits = {}
        for label, game in self.games.items():
            def made(variables, key, count, game=game):
                return game.generator.apply(variables, replica.sample(game.draw, key, count))

            fits[label] = fresh_discriminator(game, made)
        return fits

    def judge(self, state: train.State) -> dict[str, dict[str, list[float]]]:
        """Label -> figure -> its value for each seed."""
        found = {label: [] for label in self.games}
        for label, seed in ((label, seed) for label in self.games for seed in range(self.seeds)):
            if not self.own.on_line:
                found[label].append(self.modes(self.samples(state, label, seed, self.noise(label, 2500, seed))))
                continue
            real = self.real(LINE_SAMPLES, seed)
            made = self.samples(state, label, seed, self.noise(label, LINE_SAMPLES, seed))
            figures = self.distances(real, made)
            generator = state[f"{member(label, seed)}/generator"].average
            fit, judge = self.fresh[label]
            variables = fit(generator, jax.random.key(seed), 1.0)
            logits = (judge(variables, x) for x in (real, made))
            value = float(losses.value(*logits).mean())
            figures["JSD by a fresh discriminator"] = (value + math.log(4)) / 2
            figures["of the two JSD, difference"] = abs(figures["JSD by a fresh discriminator"] - figures["JSD in histograms"])
            for name, points in (("D(x) of its own", real), ("D(G(z)) of its own", made)):
                figures[name] = float(self.belief(state, label, seed, points).mean())
            found[label].append(figures)
        return {label: {name: [one[name] for one in each] for name in each[0]} for label, each in found.items()}

    def verdict(self, label: str, figures: Mapping[str, Sequence[float]]) -> tuple[bool, str]:
        """Whether every seed keeps the rules, and the sentence that says so."""
        rules = LINE_RULES if self.own.on_line else PLANE_RULES[self.held_out.name]
        least = {name for name in rules if name in ("modes", "high quality")}
        said, holds = [], True
        for name, rule in rules.items():
            worst = min(figures[name]) if name in least else max(figures[name])
            kept = worst >= rule if name in least else worst <= rule
            holds &= kept
            said.append(f"{name} {worst:.3g} ({'at least' if name in least else 'at most'} {rule:g}{'' if kept else ', missed'})")
        return holds, f"{label.capitalize()} {'passes' if holds else 'fails'}; worst of {self.seeds}: {', '.join(said)}."

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """The games of the first seed."""
        path, title = folder / "frames" / f"{step:07}.png", f"step {step:,}"
        if self.own.on_line:
            x = np.linspace(*self.own.span(8), 401)
            present.draw_lines(x, [self.line(state, label, x) for label in self.games], path, title)
        else:
            clouds = [self.cloud(state, label, self.samples(state, label, 0, self.noise(label, 2500, 0))) for label in self.games]
            present.draw_clouds(self.mixture.centers_KD, clouds, path, title)

    def line(self, state: train.State, label: str, x_N: np.ndarray) -> present.Line:
        """The panel of one game on the line."""
        made = self.samples(state, label, 0, self.noise(label, 20_000, 0))[:, 0]
        width = x_N[1] - x_N[0]
        counts = np.histogram(made, np.append(x_N - width / 2, x_N[-1] + width / 2))[0] / (len(made) * width)
        kernel = np.exp(-np.square(np.arange(-8, 9) / 2) / 2)
        few = self.noise(label, 25, 0)
        there = None if self.games[label].config.z > 1 else self.samples(state, label, 0, few)[:, 0]
        distance = metrics.wasserstein_1(made, self.real(len(made), 0)[:, 0])
        return present.Line(
            f"{label}: W₁ {distance:.2f}",
            self.mixture.density(x_N[:, None]),
            np.convolve(counts, kernel / kernel.sum(), "same"),
            self.belief(state, label, 0, x_N[:, None].astype(np.float32)),
            None,
            None if there is None else few[:, 0],
            there,
        )

    def cloud(self, state: train.State, label: str, samples_N2: np.ndarray) -> present.Cloud:
        """The panel of one game in the plane."""
        found = self.modes(samples_N2)
        covered = f"{found['modes']:.0f} of {len(self.mixture.centers_KD)} modes"
        return present.Cloud(f"{label}: {covered}, {found['high quality']:.0%} within 3 σ", samples_N2)

    def curves(self) -> list[present.Panel]:
        """Every setting against what the equilibrium has."""
        each = lambda label, what: [f"test/{member(label, n)}/{what}" for n in range(self.seeds)]  # noqa: E731
        every = lambda what: {label: each(label, what) for label in self.games}  # noqa: E731
        belief, styles = {}, {}
        for hue, label in enumerate(self.games):
            for dash, what in enumerate(("D(x)", "D(G(z))")):
                belief[f"{label}, {what}"], styles[f"{label}, {what}"] = each(label, what), (hue, dash)
        t = self.own.config.real_label
        half = {"1/2" if t == 1 else f"{t / 2:g}": t / 2}
        panels = [
            present.Panel("V(D, G)", every("V"), references={"−log 4": -math.log(4)}),
            present.Panel("what D believes, mean", belief, references=half, styles=styles),
        ]
        if self.own.on_line:
            return [*panels, present.Panel("Jensen-Shannon divergence", every("JSD"), references={"log 2": math.log(2), "0": 0.0})]
        count = len(self.mixture.centers_KD)
        return [
            *panels,
            present.Panel("modes found", every("modes"), references={str(count): count}),
            present.Panel("share within 3 σ of a mode", every("high quality"), references={"of data": 1 - math.exp(-4.5)}),
        ]

    def report(self, state: train.State, run: train.Run, figures: Mapping[str, Any]) -> list[present.Section]:
        folder, found = run.report, self.judge(state)
        judged = {label: self.verdict(label, own) for label, own in found.items()}
        run.write("verdict.json", {"passes": {label: holds for label, (holds, _) in judged.items()}, "figures": found})
        frames = sorted((folder / "frames").glob("*.png"))
        present.animate(frames, folder / "training.gif", milliseconds=150)
        present.draw_curves(present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", self.curves())
        sections = [
            present.Section("Over training", FIGURE_1 if self.own.on_line else PLANE_TEXT, ["training.gif"]),
            present.Section("What the game shows of itself", GAME, ["curves.png"]),
            present.Section(
                "The verdict",
                "\n\n".join([VERDICT if self.own.on_line else MODES, *(said for _, said in judged.values())]),
                [present.Picture(f"frames/{frames[-1].name}", "At the end, seed by seed the first.")],
                {f"{label}: {name}": shown(values) for label, own in found.items() for name, values in own.items()}
                | {f"floor: {name}": value for name, value in self.baselines().items()},
            ),
        ]
        return sections + ([self.best(folder), self.saturated(folder)] if self.own.on_line else [])

    def best(self, folder: Path) -> present.Section:
        """Discriminators at their optimum."""
        found = optima(self.own, self.own.config.seed)
        panels = [present.Line(one["title"], one["data"], one["samples"], one["D"], one["best"]) for one in found]
        present.draw_lines(found[0]["x"], panels, folder / "optimum.png")
        table = {}
        for one in found:
            table[f"{one['title']}: mean |D − best|"] = one["error"]
            table[f"{one['title']}: V, and of the best"] = [one["value"], one["exact"]]
        return present.Section("The best discriminator", OPTIMUM, ["optimum.png"], table)

    def saturated(self, folder: Path) -> present.Section:
        """What the generator gets from a discriminator that is right."""
        lines = saturation(self.own, self.own.config.seed)
        panels = [
            present.Panel("the discriminator", {"accuracy": "accuracy", "mean D(G(z))": "D(G(z))"}),
            present.Panel("norm of the generator's gradient", ["minimax", "nonsaturating"], log=True),
        ]
        present.draw_curves(lines, folder / "saturation.png", panels, xlabel="updates of the discriminator")
        first, last = lines[0], lines[-1]
        table = {
            "minimax / nonsaturating, at first": first["ratio"],
            "minimax / nonsaturating, at the end": last["ratio"],
            "accuracy at the end": last["accuracy"],
        }
        return present.Section("Saturation", SATURATION, ["saturation.png"], table)

    def baselines(self) -> dict[str, float]:
        """Of data against other data; in the plane also of one Gaussian with the data's mean and deviations."""
        if self.own.on_line:
            return {f"{name} of data": v for name, v in self.distances(*(self.real(LINE_SAMPLES, n) for n in (1, 2))).items()}
        one = np.random.default_rng(0).normal(self.mixture.mean, self.mixture.std, (2500, 2)).astype(np.float32)
        sets = {"data": self.real(2500, 1), "one Gaussian": one}
        return {f"{name} of {what}": value for what, points in sets.items() for name, value in self.modes(points).items()}

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Samples of every game, the last picture of each, and the verdict."""
        if options.count < 1:
            raise UserError(f"--count is {options.count}; expected at least 1")
        drawn = {}
        for label, game in self.games.items():
            z = np.asarray(replica.sample(game.draw, jax.random.key(options.sample_seed), options.count))
            drawn |= {member(label, seed): self.samples(state, label, seed, z) for seed in range(self.seeds)}
        with train.told(f"folder {folder}"):
            np.savez(folder / "samples.npz", **drawn)
        self.snapshot(state, int(state.step), folder)
        found = self.judge(state)
        return {label: {"verdict": self.verdict(label, own)[1]} | own for label, own in found.items()}


def shown(values: Sequence[float]) -> str:
    """A figure of every seed."""
    return ", ".join(f"{value:.3g}" for value in values)


FIGURE_1 = """Figure 1 of the paper: dotted the data's density, green that of the samples, dashed the discriminator; below, \
lines from even z to x = G(z), dense where the samples are. Samples are of the moving average where one is kept, the \
discriminator is the one that plays. First seed."""
PLANE_TEXT = "2,500 samples of the first seed over the modes of the data. The rings are larger than the modes."
GAME = """Thin every seed, bold their mean. None of V and D can tell whether the generator is right: where D is flat they are \
at their equilibrium whatever the samples are."""
VERDICT = """W₁ and the histograms compare 100,000 samples with as much data. The fresh discriminator is trained against the \
frozen generator until V is as high as it gets: then (V + log 4)/2 is the Jensen-Shannon divergence (equation 6), measured \
without histograms. Beside them what the discriminator that played says."""
MODES = """2,500 samples of every seed. A mode is found when a sample is within 3 deviations of it; samples within 3 of some \
mode are of high quality; reverse KL is that of their shares of the modes from equal ones."""
OPTIMUM = """Proposition 1: against a fixed generator the best discriminator is p_data/(p_data + p_g). With data labeled t it \
is t times that, so that 1/2 becomes t/2. The mean difference is over points of both densities."""
SATURATION = """A new generator stands still while the discriminator learns to tell its samples from data. Once D(G(z)) is near \
0, log(1 − D(G(z))) is flat: its gradient vanishes just when the generator has everything to learn, while that of \
−log D(G(z)) does not (section 3). For one sample their ratio is D/(1 − D)."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

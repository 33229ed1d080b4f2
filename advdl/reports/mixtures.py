"""The report of games on points of a known distribution: whether the generator has found it.

No figure of the game itself says so: where the discriminator is flat, V and D are at their
equilibrium whatever the samples are. Learners have the functions `sample` (`{"z"}` -> points) and
`judge` (`{"point"}` -> D). Axes: N samples, Z dimensions of the noise, D of a point.
"""

import functools
import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advdl import data, metrics, models, present, train
from advdl.reports import discriminators
from advdl.reports.comparison import ComparisonReport, Curve
from advdl.reports.trained import Trained

# Fixed before the runs that are recorded in experiments/README.md.
AT_MOST = {
    "normal": {
        "samples/wasserstein_1": 0.05,
        "samples/jsd_by_discriminator": 0.03,
        "samples/jsd_difference": 0.01,
    },
    "ring": {"samples/reverse_kl": 0.05},
    "grid": {"samples/reverse_kl": 0.3},
}
AT_LEAST = {
    "ring": {"samples/modes": 8, "samples/high_quality": 0.75},
    "grid": {"samples/modes": 24},
}
FRESH, FRESH_STEPS = (64, 64, 64), 3000
"""Units of the layers of a discriminator that is trained to its optimum, and its updates."""
LINE_ROWS = 100_000
"""Number of samples on the line that are compared with as much data."""
FIGURE_1 = """Figure 1 of the paper: dotted the data's density, green that of the samples, dashed \
the discriminator; below, lines from even z to x = G(z), dense where the samples are. Samples are \
of the moving average where one is kept, the discriminator is the one that plays. First seed."""
CLOUDS = """2,500 samples of the first seed over the modes of the data. The rings are larger than \
the modes."""
GAME = """None of V and D can tell whether the generator is right: where D is flat they are \
at their equilibrium whatever the samples are."""
DISTANCES = """W₁ and the histograms compare 100,000 samples with as much data. The new \
discriminator is trained against the generator, which stands still, until V is as high as it gets: \
then (V + log 4)/2 is the Jensen-Shannon divergence (equation 6), measured without histograms. \
Beside them what the discriminator that played says."""
MODES = """2,500 samples of every seed. A mode is found when a sample is within 3 deviations of \
it; samples within 3 of some mode are of high quality; reverse KL is that of their shares of the \
modes from equal ones."""
OPTIMUM = """Proposition 1: against a fixed generator the best discriminator is p_data/(p_data + \
p_g). With data labeled t it is t times that, so that 1/2 becomes t/2. The mean difference is over \
points of both densities."""
SATURATION = """A new generator stands still while the discriminator learns to tell its samples \
from data. Once D(G(z)) is near 0, log(1 − D(G(z))) is flat: its gradient vanishes just when the \
generator has everything to learn, while that of −log D(G(z)) does not (section 3). For one sample \
their ratio is D/(1 − D)."""
OPTIMUM_AT_MOST = {"mean |D − best|": 0.01, "V off equation 6": 0.002}
OPTIMUM_LABELS = {
    "d_error": "mean |D − best|",
    "d_mean": "mean D",
    "value_error": "V off equation 6",
}


@dataclass(frozen=True)
class MixtureReport:
    """What there is of a line and of a plane alike; `report`, `snapshot`, `predict` and `baselines`
    are the experiment's.

    compared, games: the learners and their networks, by name; the verdict is on the first.
    real_labels: the label of data for each discriminator. rows: how many samples are compared.
    """

    spec: data.MixtureSpec
    compared: train.Comparison
    games: Mapping[str, models.Game]
    real_labels: Mapping[str, float]
    rows: int = 2500

    labels, text, claim, about = {}, "", "", ""

    @property
    def mixture(self) -> data.Mixture:
        """The distribution of the data."""
        return self.spec.mixture

    @property
    def first(self) -> str:
        """The name of the learner that the verdict is on."""
        return next(iter(self.games))

    def samples(self, trained: Trained, member: str, z: np.ndarray) -> np.ndarray:
        """Points (N, D) of noise (N, Z)."""
        return trained.apply(f"{member}/sample", {"z": z}, rows=10_000)

    def noise(self, name: str, count: int, seed: int) -> np.ndarray:
        """Noise (N, Z) of a learner's prior: one number at even places, more drawn by the seed."""
        prior = self.games[name].noise
        if prior.bound is not None and prior.dimensions == 1:
            places = (np.arange(count, dtype=np.float32) + 0.5) * (2 / count) - 1
            return prior.bound * places[:, None]
        return prior.of_seed(seed, count)

    def real(self, count: int, seed: int) -> np.ndarray:
        """Data (N, D)."""
        return np.asarray(self.mixture.sample(jax.random.key(0x7265 + seed), count))

    def report(self, trained: Trained) -> present.Page:
        """The page, and verdict.json."""
        return self.comparison()(trained)

    def comparison(self) -> ComparisonReport:
        """The report of all learners and seeds."""
        half = sorted({label / 2 for label in self.real_labels.values()})
        belief = {"D(x)": "test/d_real", "D(G(z))": "test/d_fake"}
        bounds = AT_LEAST.get(self.spec.name, {}), AT_MOST[self.spec.name]
        metric = next(iter(self.labels)).removeprefix("samples/")
        return ComparisonReport(
            self.compared,
            self.claim,
            [metrics.Bounds(*bounds, names=[self.first])],
            self.labels,
            {name: found[metric] for name, found in self.baselines().items()},
            sections=[self.picture, self.training, self.floor, *self.theory()],
            curves=[
                Curve("V(D, G)", {"": "test/value"}, references={"−log 4": -math.log(4)}),
                Curve("what D believes, mean", belief, references={f"{x:g}": x for x in half}),
                *self.curves(),
            ],
            measure=self.measure,
            about=f"{self.about}\n\n{GAME}",
        )

    def measure(self, trained: Trained, member: str) -> dict[str, float]:
        """The figures of a member, which is `"name-s0"`."""
        name, _, seed = member.rpartition("-s")
        made = self.samples(trained, member, self.noise(name, self.rows, int(seed)))
        found = self.figures(trained, member, made, int(seed))
        return {f"samples/{key}": value for key, value in found.items()}

    def figures(
        self, trained: Trained, member: str, made: np.ndarray, seed: int
    ) -> dict[str, float]:
        """The figures of samples of a member."""
        raise NotImplementedError

    def draw(self, trained: Trained, path: pathlib.Path) -> None:
        """Draws the first seeds' samples."""
        raise NotImplementedError

    def snapshot(self, trained: Trained) -> None:
        """Draws the first seeds' samples in the course of training."""
        self.draw(trained, trained.frame())

    def picture(self, trained: Trained) -> present.Section:
        """The samples at the end."""
        self.draw(trained, trained.folder / "samples.png")
        return present.Section("Data and samples", self.text, ["samples.png"])

    def training(self, trained: Trained) -> present.Section:
        """The snapshots."""
        title = "In the course of training"
        return present.Section(title, "", [trained.animation(milliseconds=150)])

    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of data, and of what is trivial, in place of samples."""
        raise NotImplementedError

    def floor(self, trained: Trained) -> present.Section:
        """The baselines as a table."""
        text = "The same figures of points that no generator made."
        return present.Section("Baselines", text, [], self.baselines())

    def curves(self) -> list[Curve]:
        """Charts beside those of V and D."""
        raise NotImplementedError

    def theory(self) -> list[Any]:
        """Sections on what is known of the optimum."""
        return []

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Draws `options.count` samples of every member into samples.npz, and a picture; the
        figures of all members."""
        drawn = {}
        for name, game in self.games.items():
            z = game.noise.of_seed(options.sample_seed, options.count)
            for member in self.compared.members(name):
                drawn[member] = self.samples(trained, member, z)
        with train.os_errors_as_user_errors(f"folder {folder}"):
            np.savez(folder / "samples.npz", **drawn)
        self.draw(trained, folder / "samples.png")
        return self.comparison().found(trained)


class LineReport(MixtureReport):
    """Of games on the line, where the divergence is known and the optimum of D is, too."""

    text, about = FIGURE_1, DISTANCES
    claim = "The generator's distribution is that of the data."
    labels = {
        "samples/wasserstein_1": "Wasserstein-1 distance",
        "samples/jsd_in_histograms": "JSD in histograms",
        "samples/jsd_by_discriminator": "JSD by a new discriminator",
        "samples/jsd_difference": "difference of the two JSD",
        "samples/d_real": "D(x) of its own discriminator",
        "samples/d_fake": "D(G(z)) of its own discriminator",
    }

    def judge(self, trained: Trained, member: str, x: np.ndarray) -> np.ndarray:
        """D of points (N, D) by the discriminator that plays, (N,)."""
        return trained.apply(f"{member}/judge", {"point": x}, rows=10_000)

    def distances(self, a_ND: np.ndarray, b_ND: np.ndarray) -> dict[str, float]:
        """The distances of one sample from another."""
        counted = metrics.distribution_metrics(self.mixture, jnp.asarray(a_ND), jnp.asarray(b_ND))
        return {
            "wasserstein_1": metrics.wasserstein_1(a_ND[:, 0], b_ND[:, 0]),
            "jsd_in_histograms": counted["jsd"].compute(),
        }

    @functools.cached_property
    def fits(self) -> dict[str, Any]:
        """By name, what trains a new discriminator against a generator, given by its variables. It
        is larger than those that play: a bounded noise gives samples sharp ends, which 32 units do
        not follow."""

        def fit(game):
            def fake(variables, key, count):
                return game.draw(variables, {"z": game.noise.sample(key, count)})

            network = game.discriminator.clone(hidden=FRESH)
            return network, discriminators.fit_discriminator(
                network, self.mixture.sample, fake, FRESH_STEPS
            )

        return {name: fit(game) for name, game in self.games.items()}

    def figures(
        self, trained: Trained, member: str, made: np.ndarray, seed: int
    ) -> dict[str, float]:
        real, (network, fit) = self.real(self.rows, seed), self.fits[member.rpartition("-s")[0]]
        found = self.distances(real, made)
        variables = fit(trained.variables(f"{member}/generator"), jax.random.key(seed))
        divergence = discriminators.jsd_by_discriminator(network, variables, real, made)
        return found | {
            "jsd_by_discriminator": divergence,
            "jsd_difference": abs(divergence - found["jsd_in_histograms"]),
            "d_real": float(self.judge(trained, member, real).mean()),
            "d_fake": float(self.judge(trained, member, made).mean()),
        }

    def draw(self, trained: Trained, path: pathlib.Path) -> None:
        """Draws figure 1 of the paper for the first seeds."""
        x, panels = self.mixture.places(8, 401), []
        for name in self.games:
            member, few = self.compared.members(name)[0], self.noise(name, 25, 0)
            made = self.samples(trained, member, self.noise(name, 20_000, 0))[:, 0]
            distance = metrics.wasserstein_1(made, self.real(len(made), 0)[:, 0])
            panels.append(
                present.Line(
                    f"{name}: W₁ {distance:.2f}",
                    self.mixture.density(x[:, None]),
                    present.smoothed_density(made, x),
                    self.judge(trained, member, x[:, None].astype(np.float32)),
                    noise_M=few[:, 0],
                    image_M=self.samples(trained, member, few)[:, 0],
                )
            )
        present.draw_lines(x, panels, path, f"step {trained.step:,}")

    def curves(self) -> list[Curve]:
        """The divergence in the course of training."""
        references = {"log 2": math.log(2), "0": 0.0}
        return [Curve("Jensen-Shannon divergence", {"": "test/jsd"}, references=references)]

    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of other data, and of the noise as it is."""
        real, other = (self.real(self.rows, seed) for seed in (1, 2))
        noise = self.noise(self.first, self.rows, 0)[:, :1]
        return {"other data": self.distances(real, other), "noise": self.distances(real, noise)}

    def theory(self) -> list[Any]:
        """Discriminators at their optimum, and the gradient that a generator gets of one that is
        right."""
        return [self.optimum, self.saturation]

    def optimum(self, trained: Trained, seeds: int = 3) -> present.Section:
        """Discriminators trained to their optimum where it is known: the data against N(4.5, 0.7²),
        against itself, and against itself with data labeled 0.9."""
        x = self.mixture.places(8, 2001)
        network = self.games[self.first].discriminator.clone(hidden=FRESH)

        def fake(given, key, count):
            return given[0] + given[1] * jax.random.normal(key, (count, 1))

        fit = discriminators.fit_discriminator(network, self.mixture.sample, fake, FRESH_STEPS)
        same = float(self.mixture.mean[0]), float(self.mixture.std[0])
        p, panels, found, said = self.mixture.density(x[:, None]), [], {}, []
        for title, given, label in (
            ("against N(4.5, 0.7²)", (4.5, 0.7), 1.0),
            ("against the data itself", same, 1.0),
            ("data labeled 0.9", same, 0.9),
        ):
            q = data.Mixture(np.array([given[:1]]), given[1]).density(x[:, None])
            fitted = [fit(given, jax.random.key(seed), label) for seed in range(seeds)]
            logits = [discriminators.judge(network, own, np.float32(x[:, None])) for own in fitted]
            each = [np.asarray(jax.nn.sigmoid(logit)) for logit in logits]
            errors = [metrics.discriminator_errors(d, p, q, x[1] - x[0], label) for d in each]
            found[title] = {
                OPTIMUM_LABELS[name]: [one[name] for one in errors] for name in errors[0]
            }
            said.append(metrics.verdict(title, found[title], {}, OPTIMUM_AT_MOST))
            best = metrics.optimal_discriminator(p, q, label)
            panels.append(present.Line(title, p, q, each[0], best))
        present.draw_lines(x, panels, trained.folder / "optimum.png")
        trained.run.write("optimum.json", found)
        text = f"{OPTIMUM}\n\n{' '.join(said)}"
        return present.Section("The best discriminator", text, ["optimum.png"], found)

    def saturation(self, trained: Trained) -> present.Section:
        """The generator's two gradients while a discriminator learns."""
        found = discriminators.saturation(self.games[self.first], self.mixture.sample)
        lines = [
            {"step": t} | {name: float(values[t]) for name, values in found.items()}
            for t in range(len(found["ratio"]))
        ]
        beside = {"ratio": "ratio", "D(G(z))": "d_fake"}
        panels = [
            present.Panel(
                "norm of the generator's gradient",
                ["minimax", "nonsaturating"],
                log=True,
                smooth=False,
            ),
            present.Panel("minimax / nonsaturating", beside, log=True, smooth=False),
        ]
        path = trained.folder / "saturation.png"
        present.draw_curves(lines, path, panels, xlabel="updates of the discriminator")
        figures = {
            "ratio of the norms at first": lines[0]["ratio"],
            "ratio of the norms at the end": lines[-1]["ratio"],
            "accuracy of D at the end": lines[-1]["accuracy"],
            "D(G(z)) at the end": lines[-1]["d_fake"],
        }
        trained.run.write("saturation.json", figures)
        return present.Section("Saturation", SATURATION, [path.name], figures)


class PlaneReport(MixtureReport):
    """Of games in the plane, where modes are counted."""

    text, about = CLOUDS, MODES
    claim = "The generator's samples have all modes of the data."
    labels = {
        "samples/modes": "modes found",
        "samples/high_quality": "share within 3 σ of a mode",
        "samples/reverse_kl": "reverse KL of the modes",
    }

    def modes(self, points_ND: np.ndarray) -> dict[str, float]:
        """How points cover the modes."""
        points = jnp.asarray(points_ND)
        return metrics.compute(metrics.distribution_metrics(self.mixture, points, points))

    def figures(
        self, trained: Trained, member: str, made: np.ndarray, seed: int
    ) -> dict[str, float]:
        return self.modes(made)

    def draw(self, trained: Trained, path: pathlib.Path) -> None:
        """Draws clouds of the first seeds' samples."""
        panels, count = [], len(self.mixture.centers_KD)
        for name in self.games:
            member = self.compared.members(name)[0]
            made = self.samples(trained, member, self.noise(name, self.rows, 0))
            found = self.modes(made)
            reached = (
                f"{found['modes']:.0f} of {count} modes, {found['high_quality']:.0%} within 3 σ"
            )
            panels.append(present.Cloud(f"{name}\n{reached}", made))
        present.draw_clouds(self.mixture.centers_KD, panels, path, f"step {trained.step:,}")

    def curves(self) -> list[Curve]:
        """The modes in the course of training."""
        count = len(self.mixture.centers_KD)
        share = {"of data": 1 - math.exp(-4.5)}
        return [
            Curve("modes found", {"": "test/modes"}, references={str(count): count}),
            Curve("share within 3 σ of a mode", {"": "test/high_quality"}, references=share),
        ]

    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of data, and of one Gaussian with the data's mean and deviations."""
        random, shape = np.random.default_rng(0), (self.rows, 2)
        one = random.normal(self.mixture.mean, self.mixture.std, shape).astype(np.float32)
        return {"data": self.modes(self.real(self.rows, 1)), "one Gaussian": self.modes(one)}


def mixture_report(
    spec: data.MixtureSpec,
    compared: train.Comparison,
    games: Mapping[str, models.Game],
    real_labels: Mapping[str, float],
) -> MixtureReport:
    """The report of points on a line or in the plane."""
    if len(spec.centers[0]) == 1:
        return LineReport(spec, compared, games, real_labels, rows=LINE_ROWS)
    return PlaneReport(spec, compared, games, real_labels)

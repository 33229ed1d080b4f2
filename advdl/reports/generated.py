"""The report of a generator of images: samples beside the nearest training images, a game of
guessing, interpolations, the classes that are covered, and how the two players stood.

Axes: N images, Z dimensions of the noise.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advdl import data, metrics, models, present, train
from advdl.reports import discriminators
from advdl.reports.fidelity import RealImages
from advdl.reports.trained import Trained, learning_section

FEW = 1 / 3
"""Share of an even share of the samples that each class has where all of them are covered."""
STACKED = 25_600
"""Number of samples of which the classes of stacked images are counted."""
SHOWN = 400
"""Number of samples, at most, of the picture of a prediction."""


def _won(figures: Mapping[str, float]) -> str | None:
    """Whether the discriminator is sure and right of everything."""
    value, accuracy = figures["train/value"], figures["train/d_accuracy"]
    if value > -0.1 and accuracy > 0.99:
        return f"V is {value:.3f}, above -0.1, and D's accuracy {accuracy:.3f}"
    return None


def _collapsed(figures: Mapping[str, float]) -> str | None:
    """Whether samples hardly differ."""
    share = figures["train/variety_samples"] / figures["train/variety_data"]
    if share < 0.1:
        return f"two samples differ by {share:.1%} of what two images of the data do"
    return None


GAME_ALARMS = (
    train.Alarm("the discriminator has won", _won, 200),
    train.Alarm("the samples have collapsed", _collapsed, 200),
)
"""What goes wrong in a game of two players on images."""


@dataclass(frozen=True)
class GeneratedReport:
    """The report, the snapshots and the prediction of a learner with a function `sample` of
    `{"z", "label"}`.

    noise: the generator's prior. seed: of the samples that are shown. best: the metric by which a
    checkpoint is kept as the best, and "min"; None where none is. What is compared with real images
    needs the data, see `RealImages`; a prediction does so where it is asked for.
    """

    noise: models.Noise
    seed: int
    best: tuple[str, str] | None = None

    def draw(self, trained: Trained, z: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) of noise (N, Z), of the classes in turn where a class is given."""
        label = np.arange(len(z), dtype=np.int32) % max(1, len(trained.spec.label_names))
        return trained.apply("sample", {"z": z, "label": label}, rows=64)

    def interpolate(
        self, trained: Trained, seed: int, rows: int, folder: pathlib.Path, columns: int = 10
    ) -> None:
        """Draws rows of images on a line from one noise to another (figure 3 of the paper)."""
        ends = self.noise.of_seed(seed, 2 * rows)
        line = models.interpolate(ends[::2], ends[1::2], columns)
        path, low = folder / "interpolations.png", trained.spec.low
        present.draw_grid(self.draw(trained, line), path, low=low, high=1.0, columns=columns)

    def snapshot(self, trained: Trained) -> None:
        """Draws a grid from the same noise every time."""
        images, step = self.draw(trained, self.noise.of_seed(self.seed, 64)), trained.step
        path, low = trained.frame("samples"), trained.spec.low
        present.draw_grid(images, path, low=low, high=1.0, columns=8, title=f"step {step}")

    def report(self, trained: Trained) -> present.Page:
        """The page, and verdict.json."""
        folder, low, lines = trained.folder, trained.spec.low, trained.lines()
        real = RealImages.of(trained)
        count = STACKED if real.training.stacked else 2000
        many = self.draw(trained, self.noise.of_seed(self.seed + 1, count))
        samples = many[:2000]
        training, held_out = real.draw(real.training, len(samples))[0], real.draw(real.held_out, 64)
        accuracy = discriminators.two_sample_accuracy(training, samples)
        twins, distance = real.nearest(np.concatenate([samples[:64], held_out[0]]))
        near = twins[:64], distance[:64], distance[64:]
        self.interpolate(trained, self.seed + 2, 8, folder)
        sections = [
            present.samples_section(samples[:64], *near, len(real.training), folder, low),
            present.guess_section(samples, held_out[0], accuracy, folder, low),
            present.Section("Over training", SAME, [trained.animation("samples", 400)]),
            present.Section("On a line between two noises", "", ["interpolations.png"]),
            learning_section(trained, *PANELS, title="The game", text=GAME),
        ]
        figures = [
            present.Figure("Images that a new network tells right", f"{accuracy:.0%}", BY_CHANCE)
        ]
        watch = train.Watch(GAME_ALARMS)
        tripped, faults = watch.over(lines), list(watch.standing.values())
        if (found := real.coverage(samples)) is not None:
            sections.append(present.coverage_section(found, real.training.label_names, folder))
            figures += coverage_headlines(found)
            missed = missing(found, real.training.label_names)
            tripped, faults = tripped + missed, faults + missed
        if modes := real.modes({"generated": many}):
            classes = len(real.training.label_names)
            sections.append(present.modes_section(modes, len(many), classes))
            covered = modes["generated"]["modes"]
            figures.append(
                present.Figure(f"Classes covered, of {classes:,}", covered, modes_beside(modes))
            )
            faults += [f"{classes - covered:,.0f} classes are missing"] * (covered < classes)
        kept = self.kept(lines)
        sections.append(
            present.Section("Alarms", "\n\n".join(tripped) or "None tripped.", [], kept)
        )
        sentence = f"It did not work: {'; '.join(faults)}." if faults else WORKED
        verdict = {"verdict": sentence, "holds": not faults, "two_sample_accuracy": accuracy}
        trained.run.write("verdict.json", verdict | kept)
        picture = present.Picture("samples.png", OPENING)
        return present.Page(picture, figures, sentence, sections)

    def kept(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The step of the checkpoint that is kept as the best, and its figure."""
        metric, _ = self.best or ("", "")
        measured = [line for line in lines if metric in line]
        if not measured:
            return {}
        best = min(measured, key=lambda line: line[metric])
        return {"best_step": best["step"], metric: best[metric]}

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Draws `options.count` samples, of which the picture shows `SHOWN` at most, drawn by the
        seed, and `options.interpolations` rows between two noises; with `options.compare` and
        `options.features` they are compared with the data."""
        images = self.draw(trained, self.noise.of_seed(options.sample_seed, options.count))
        np.save(folder / "samples.npy", images)
        shown = images[data.selected(len(images), SHOWN, options.sample_seed)]
        present.draw_grid(shown, folder / "samples.png", low=trained.spec.low, high=1.0)
        self.interpolate(trained, options.sample_seed, options.interpolations, folder)
        results = {"samples": len(images), "in the picture": len(shown), "folder": str(folder)}
        if options.compare or options.features:
            real = RealImages.of(trained)
            if (found := real.coverage(images)) is not None:
                results |= present.coverage_figures(found, real.training.label_names)
            if modes := real.modes({"generated": images}):
                results["classes covered"] = modes
            if options.features:
                results |= real.fidelity(images, options.features)
        return results


def coverage_headlines(found: metrics.Coverage) -> list[present.Figure]:
    """What a classifier makes of the samples, in two figures."""
    sure = {name: getattr(found, name).recognized.sum() for name in ("samples", "test", "gaussian")}
    return [
        present.Figure(
            "Samples that a classifier recognizes",
            f"{sure['samples']:.0%}",
            f"{sure['gaussian']:.0%} of a Gaussian fit; {sure['test']:.0%} of real images",
        ),
        present.Figure(
            "Samples of the rarest class",
            f"{found.samples.share.min():.1%}",
            f"{found.gaussian.share.min():.1%} of a Gaussian fit;"
            f" {found.test.share.min():.1%} of real images",
        ),
    ]


def modes_beside(modes: Mapping[str, Mapping[str, float]]) -> str:
    """What stands beside the number of classes covered."""
    own, real = (modes[name] for name in ("generated", "real, held out"))
    return (
        f"reverse KL {own['reverse_kl']:.3f}; of real images {real['modes']:,.0f},"
        f" {real['reverse_kl']:.3f}"
    )


def missing(found: metrics.Coverage, names: Sequence[str]) -> list[str]:
    """Which classes have too few of the samples, in at most one sentence."""
    share = found.samples.share
    few = [names[int(k)] for k in np.flatnonzero(share < FEW / len(share))]
    return [f"fewer than {FEW / len(share):.1%} of the samples are of each of {', '.join(few)}"] * (
        len(few) > 0
    )


OPENING = (
    "Samples, not picked. At the end of each row the training image that is nearest to the last"
    " of them."
)
BY_CHANCE = "50% by chance: real and generated ones cannot be told apart"
SAME = "The same noise at every evaluation."
WORKED = "It worked: no alarm tripped, and no class is missing among the samples."
PANELS = [
    present.Panel(
        "V(D, G)",
        {"training": "train/value", "held out": "test/value"},
        references={"−log 4": -math.log(4)},
    ),
    present.Panel(
        "what D believes",
        {
            "D(x), training": "train/d_real",
            "D(G(z)), training": "train/d_fake",
            "D(x), held out": "test/d_real",
            "D(G(z)), held out": "test/d_fake",
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
GAME = (
    "At the equilibrium V = −log 4 and D = 1/2 everywhere. On the way there neither loss falls"
    " steadily: each player's progress is the other's loss.\n\nOn held-out images both networks use"
    " their moving batch statistics (and the generator its moving average), so those values stand"
    " off from the training ones even where nothing is overfitted."
)

"""Examples translated from one domain to another and back, by several learners and seeds.

The learners' function is `translate`: `{"x": (B, …)}` with `to="b"` are examples of B, made of
examples of A. Axes: N examples, H height, W width, C channels, D dimensions of a point.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from advdl import data, metrics, present, train
from advdl.errors import UserError
from advdl.reports.comparison import ComparisonReport, Curve
from advdl.reports.trained import Trained, given_files

MEASURED = 4000
"""Number of test examples, at most, that the figures are of."""
OTHER = {"a": "b", "b": "a"}
ERROR, DEVIATION = "translated/round_trip_error", "translated/deviation"
# Fixed before the runs that are recorded in experiments/README.md.
HIGHEST_ERROR, LEAST_DEVIATION = 0.2, 5.0
CLAIM = """Examples come back from the other domain as they were, and are translated more \
variously than by a plain GAN."""
ABOUT = """On examples of A of the test split. Round trip error: the root mean square of \
G_BA(G_AB(a)) − a, pixels in [−1, 1]. Deviation: of what is translated, over examples, which is \
near 0 where all give the same. What no loss asks for, such as the color, may or may not be kept; \
the correlations say. Where factors are known, those of a translated image are those of the \
nearest training image."""
TRANSLATED = """First seed, examples of the test split drawn at random. `back` has gone to the \
other side and back. The adversarial losses alone ask only that what is drawn looks like some of \
the other side."""
CLOUDS = """First seed. Each color is a mode of A, the rings are modes of B. Targets: how many \
modes of B are the main one of some mode of A."""


class DomainsReport:
    """What there is of images and of points alike. `report`, `snapshot` and `predict` are the
    experiment's.

    compared: the learners. The verdict is on the first of them.
    """

    key: str
    figures: Mapping[str, str] = {
        ERROR: "round trip error",
        DEVIATION: "deviation of what is translated",
    }

    def __init__(self, compared: train.Comparison, spec: data.DomainsSpec):
        self.compared, self.spec, self.names = compared, spec, list(compared.learners)
        rules: list[metrics.Rule] = [
            metrics.Bounds(at_most={ERROR: HIGHEST_ERROR}, names=self.names[:1])
        ]
        if "gan" in self.names[1:]:
            rules.append(metrics.Ratio(DEVIATION, "gan", self.names[0], LEAST_DEVIATION))
        self.report = ComparisonReport(
            compared,
            CLAIM,
            rules,
            self.labels(),
            sections=[self.pictures, self.training, self.floor],
            curves=[
                *(
                    Curve(
                        f"error of the round trip from {getattr(spec, side).name}",
                        {"": f"test/round_trip_{side}"},
                        log=True,
                    )
                    for side in OTHER
                ),
                Curve("V against B", {"": "test/b/value"}),
            ],
            measure=self.measure,
            about=ABOUT,
        )

    def labels(self) -> dict[str, str]:
        """Metric -> what it is in prose."""
        return dict(self.figures)

    def translate(self, trained: Trained, member: str, to: str, x: np.ndarray) -> np.ndarray:
        """Examples of `to`, made of examples x of the other domain."""
        return trained.apply(f"{member}/translate", {"x": x}, rows=100, to=to)

    def real(self, domains: data.UnpairedSource, side: str, count: int = MEASURED) -> np.ndarray:
        """Up to `count` examples of a domain, drawn at random, as networks see them."""
        source = getattr(domains, side)
        return self.floats(source.read(data.selected(source, count))[self.key])

    def floats(self, x: np.ndarray) -> np.ndarray:
        """Examples as networks see them."""
        return x

    def measure(self, trained: Trained, member: str) -> dict[str, float]:
        """The figures of a member."""
        x = self.real(test_of(trained), "a")
        made = self.translate(trained, member, "b", x)
        back = self.translate(trained, member, "a", made)
        found = {"deviation": deviation(made), "round_trip_error": root_mean_square(back - x)}
        found |= self.compare(trained, x, made)
        return {f"translated/{name}": value for name, value in found.items()}

    def compare(self, trained: Trained, x: np.ndarray, made: np.ndarray) -> dict[str, float]:
        """Figures of what was made of x."""
        raise NotImplementedError

    def snapshot(self, trained: Trained) -> None:
        """Draws the first seeds' translations of the same examples of A."""
        raise NotImplementedError

    def pictures(self, trained: Trained) -> present.Section:
        """Draws the first seeds' translations at the end."""
        raise NotImplementedError

    def training(self, trained: Trained) -> present.Section:
        """The snapshots."""
        text = "First seed, the same examples of the test split."
        return present.Section("In the course of training", text, [trained.animation()])

    def floor(self, trained: Trained) -> present.Section:
        """The figures of real examples of B in place of translated ones."""
        raise NotImplementedError

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Translates files, by the first learner's first seed."""
        raise UserError(
            "its examples are points; predict needs networks that were trained on images"
        )


class ImagesReport(DomainsReport):
    """Of images; pixels in [-1, 1]."""

    key = "image"

    def labels(self) -> dict[str, str]:
        known = {
            "translated/nearest_distance": "distance to the nearest real image",
            "translated/color_correlation": "correlation of mean colors",
        }
        if self.spec.factors:
            none = np.zeros((2, len(self.spec.factors)))
            names = metrics.factor_correlations(none, none, self.spec.factors)
            known |= {f"translated/{name}": name.replace("_", " ") for name in names}
            known["translated/counterpart_distance"] = "distance to the true counterpart"
        return dict(self.figures) | known

    def floats(self, x: np.ndarray) -> np.ndarray:
        """uint8 as float32 in [-1, 1]."""
        return data.to_float(-1.0, 1.0)({"image": x})["image"]

    def compare(self, trained: Trained, x: np.ndarray, made: np.ndarray) -> dict[str, float]:
        """Distances to real images, and what is kept of colors and of factors."""
        shades = (images.mean((1, 2)).T for images in (x, made))
        index, distance = self.near(trained, made)
        channels = [metrics.correlation(*pair) for pair in zip(*shades, strict=False)]
        found = {"nearest_distance": distance, "color_correlation": float(np.mean(channels))}
        if not self.spec.factors:
            return found
        test = test_of(trained)
        own = test.factors["a"][data.selected(test.a, MEASURED)]
        seen = trained.splits.train.source.factors["b"][index]
        found |= metrics.factor_correlations(own, seen, self.spec.factors)
        return found | {"counterpart_distance": root_mean_square(made - self.real(test, "b"))}

    def near(self, trained: Trained, images: np.ndarray) -> tuple[np.ndarray, float]:
        """Which of all training images of B is the nearest to each, and their root mean square
        distance."""
        blocks = data.read_blocks(trained.splits.train.source.b)
        index, distance = metrics.nearest_streamed(
            images, (self.floats(x["image"]) for x in blocks)
        )
        return index, float(np.sqrt(np.square(distance).mean() / images[0].size))

    def rows(self, trained: Trained, side: str, count: int = 12) -> dict[str, np.ndarray]:
        """Test examples of one side and what becomes of them, in [0, 1]."""
        test, other = test_of(trained), OTHER[side]
        x = self.real(test, side, count)
        found = {getattr(self.spec, side).name: x}
        for name in self.names:
            member = self.compared.members(name)[0]
            found[name] = self.translate(trained, member, other, x)
            found[f"{name}, back"] = self.translate(trained, member, side, found[name])
        if self.spec.factors:
            found["true counterpart"] = self.real(test, other, count)
        channels, times = max(x.shape[-1] for x in found.values()), max(1, 64 // max(x.shape[1:3]))
        shown = {}
        for label, images in found.items():
            wide = np.broadcast_to((images + 1) / 2, (*images.shape[:3], channels))
            shown[label] = wide.repeat(times, 1).repeat(times, 2)
        return shown

    def snapshot(self, trained: Trained) -> None:
        present.draw_rows(self.rows(trained, "a"), trained.frame(), 12)

    def pictures(self, trained: Trained) -> present.Section:
        """Draws both ways."""
        names = [f"from_{side}.png" for side in OTHER]
        for side, name in zip(OTHER, names, strict=True):
            present.draw_rows(self.rows(trained, side), trained.folder / name, 12)
        return present.Section(f"{self.spec.a.name} ↔ {self.spec.b.name}", TRANSLATED, names)

    def floor(self, trained: Trained) -> present.Section:
        test = test_of(trained)
        b = self.real(test, "b")
        index, distance = self.near(trained, b)
        found = {"deviation": deviation(b), "distance to the nearest real image": distance}
        if self.spec.factors:
            found["distance to another's counterpart"] = root_mean_square(b - np.roll(b, 1, 0))
            own = test.factors["a"][data.selected(test.a, MEASURED)]
            seen = trained.splits.train.source.factors["b"][index]
            kept = metrics.factor_correlations(own, seen, self.spec.factors)
            found |= {name.replace("_", " "): value for name, value in kept.items()}
        return present.Section("Real images", "Images of B in place of translated ones.", [], found)

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        side, answer = "b" if options.back else "a", {}
        member = self.compared.members(self.names[0])[0]
        own, other = getattr(self.spec, side), getattr(self.spec, OTHER[side])
        for path in given_files(options.files, "images"):
            x = self.floats(data.decode(path, own.shape)[None])
            made = self.translate(trained, member, OTHER[side], x)
            back = self.translate(trained, member, side, made)
            for name, image in ((other.name, made), ("back", back)):
                file = folder / f"{path.stem}_{name.replace(' ', '_')}.png"
                present.draw_grid(image, file, low=-1.0, margin=0)
            answer[str(path)] = {"round_trip_error": root_mean_square(back - x)}
        return answer


class PointsReport(DomainsReport):
    """Of points of known mixtures."""

    key = "point"

    def labels(self) -> dict[str, str]:
        known = {"targets": "modes of B that are targets", "modes": "modes of B that are reached"}
        known |= {"high_quality": "points near a mode", "reverse_kl": "reverse KL of the modes"}
        return dict(self.figures) | {f"translated/{name}": text for name, text in known.items()}

    def compare(self, trained: Trained, x: np.ndarray, made: np.ndarray) -> dict[str, float]:
        """How the modes of A are translated to those of B."""
        own, other = test_of(trained).mixtures
        targets = metrics.mode_targets(x, made, own.centers_KD, other.centers_KD)
        return {"targets": float(targets)} | modes_of(other, made)

    def clouds(self, trained: Trained, path: pathlib.Path, title: str) -> None:
        """Draws what each first seed makes of A, in colors of its modes."""
        test = test_of(trained)
        x, (own, other) = self.real(test, "a", 1000), test.mixtures
        mode = np.square(x[:, None] - own.centers_KD).sum(-1).argmin(1)
        panels = []
        for name in self.names:
            made = self.translate(trained, self.compared.members(name)[0], "b", x)
            targets = metrics.mode_targets(x, made, own.centers_KD, other.centers_KD)
            label = f"{name}\n{targets} of {len(other.centers_KD)} targets"
            panels.append(present.Cloud(label, made, mode))
        present.draw_clouds(other.centers_KD, panels, path, title)

    def snapshot(self, trained: Trained) -> None:
        self.clouds(trained, trained.frame(), f"step {trained.step:,}")

    def pictures(self, trained: Trained) -> present.Section:
        """Draws where the modes of A go."""
        self.clouds(trained, trained.folder / "clouds.png", "")
        return present.Section("Modes of A translated to modes of B", CLOUDS, ["clouds.png"])

    def floor(self, trained: Trained) -> present.Section:
        test = test_of(trained)
        known = modes_of(test.mixtures[1], self.real(test, "b"))
        found = {name.replace("_", " "): value for name, value in known.items()}
        return present.Section("Real points", "Points of B in place of translated ones.", [], found)


def test_of(trained: Trained) -> data.UnpairedSource:
    """The test split."""
    return trained.splits.evaluations["test"].source


def modes_of(mixture: data.Mixture, points: np.ndarray) -> dict[str, float]:
    """How points cover the modes of a mixture."""
    found = metrics.mode_metrics(jnp.asarray(points), mixture.centers_KD, mixture.deviation)
    return metrics.compute(found)


def deviation(x: np.ndarray) -> float:
    """Of examples (N, …) over examples: the root of the mean variance of their numbers."""
    return float(np.sqrt(x.astype(np.float64).var(0).mean()))


def root_mean_square(x: np.ndarray) -> float:
    """Over all numbers."""
    return float(np.sqrt(np.square(x).mean()))

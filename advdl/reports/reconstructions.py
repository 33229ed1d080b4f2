"""Reconstructions by an auto-encoder, and its codes: as a map, on lines, and drawn from a prior.

Axes: N images, Z numbers of a code. Pixels lie in [0, 1].
"""

import math
import pathlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from PIL import Image
from scipy.special import ndtri

from advdl import data, metrics, models, present, train
from advdl.errors import UserError
from advdl.nn import Corruption, replica
from advdl.reports.trained import Trained, given_files, learning_section

MOST = 10_000  # test images that are shown to the linear methods, and on the map
LARGEST = 2**28  # numbers of all training images that PCA is fitted on


@dataclass(frozen=True)
class ReconstructionsReport:
    """The report of an auto-encoder; it is called with a `Trained` and returns the page.

    The learner's functions are `encode`, `image` -> code (N, Z), and `decode`, `code` -> image.

    code: Z, which linear methods get too. variational: whether codes can be drawn from N(0, I).
    seed: that of the codes that are drawn. noise: that with which images are encoded.
    """

    code: int
    variational: bool = False
    seed: int = 0
    noise: Corruption = Corruption()

    def __call__(self, trained: Trained) -> present.Page:
        test = self.examples(trained.splits)
        codes = trained.apply("encode", {"image": test["given"]})
        names = {"pca": f"PCA of {self.code}", "wiener": "Wiener filter"}
        linear = self.linear(trained.splits, test)
        made = {"the network": trained.apply("decode", {"code": codes})}
        made |= {names[name]: images for name, images in linear.items() if name in names}
        given = {"noisy": test["given"]} if self.noise.amount else {}
        picture = self.rows({"original": test["image"], **given, **made}, trained.folder)

        labels = {
            "mse": "mean squared error of a pixel",
            "noisy_mse": "mean squared error of the noise",
            "elbo": "evidence lower bound, nats",
        }
        figures = {name: trained.figures.get(f"test/{name}") for name in (*labels, "kl")}
        figures = {name: figure for name, figure in figures.items() if figure is not None}
        errors = {name: mean_squared_error(images, test) for name, images in linear.items()}
        beside = {names[name]: error for name, error in errors.items() if name in names}
        sentence = f"The mean squared error of a pixel of test images is {figures['mse']:.4g}"
        if beside:
            best = min(beside, key=lambda name: beside[name])
            sentence += f", and that of the best linear method, {best}, {beside[best]:.4g}"
        trained.run.write("verdict.json", {"verdict": f"{sentence}.", **figures, "linear": errors})

        headlines = [
            present.Figure(labels[name], figures[name]) for name in labels if name in figures
        ]
        baseline = "; ".join(f"{error:.3g}, {name}" for name, error in beside.items())
        headlines[0] = headlines[0]._replace(baseline=baseline)
        table = {"the network": figures["mse"], "the noise": figures.get("noisy_mse")}
        table |= {"the mean image": errors.get("mean_image"), **beside}
        sections = [self.learning(trained, beside)]
        if self.code > 1:
            classes = trained.spec.label_names
            sections.append(self.map(codes, test["label"], classes, trained.folder))
        sections.append(self.line(trained, codes[data.selected(len(codes), 16)]))
        below = []
        if self.variational:
            drawn = self.samples(trained)
            picture, below = drawn.pop(), [picture]
            sections += [present.Section("Samples", "", drawn)] if drawn else []
        table = {name: error for name, error in table.items() if error is not None}
        sections.insert(0, present.Section("Mean squared errors", ERRORS, below, table))
        return present.Page(picture, headlines, f"{sentence}.", sections)

    def rows(self, versions: dict[str, np.ndarray], folder: pathlib.Path) -> present.Picture:
        """Draws some of the images in their versions, below one another."""
        shown = data.selected(len(versions["original"]), 32)
        rows = {name: images[shown] for name, images in versions.items()}
        present.draw_rows(rows, folder / "reconstructions.png")
        return present.Picture("reconstructions.png", f"{len(shown)} test images, drawn at random.")

    def examples(self, splits: data.Splits, count: int = MOST) -> dict[str, np.ndarray]:
        """Up to so many test images, drawn at random: `image`, `label`, `index`, and `given`, as
        they are encoded."""
        test = splits.evaluations["test"]
        found = test.examples(data.selected(test.source, count))
        given = replica.sample_by_index(self.noise, found["index"], found["image"])
        return {**found, "given": np.asarray(given)}

    def linear(self, splits: data.Splits, test: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What linear methods make of test images; nothing where there are too many pixels."""
        source = splits.train.source
        if len(source) * math.prod(source.image_shape) > LARGEST:
            return {}
        pixels = source.read(np.arange(len(source)))["image"]
        fit = data.to_float(0.0, 1.0)({"image": pixels})["image"]
        return metrics.linear_reconstructions(fit, test["given"], self.code, self.noise.deviation)

    def baselines(self, splits: data.Splits) -> dict[str, dict[str, float]]:
        """Errors of linear methods on the same test images, as noisy as the network's; of more than
        10,000, on so many drawn at random."""
        test = self.examples(splits)
        if not (found := self.linear(splits, test)):
            raise UserError(
                "the baselines fit PCA to all pixels in memory; give a smaller --image-size, or"
                " fewer images"
            )
        return {name: {"mse": mean_squared_error(made, test)} for name, made in found.items()}

    def learning(self, trained: Trained, references: dict[str, float]) -> present.Section:
        """Errors over training, beside those of linear methods."""
        logged, text = {name for line in trained.lines() for name in line}, ""

        def curves(name):
            every = {"training": f"train/{name}", "val": f"val/{name}", "test": f"test/{name}"}
            return {label: key for label, key in every.items() if key in logged}

        title = "mean squared error of a pixel"
        panels = [present.Panel(title, curves("mse"), references=references, log=True)]
        if self.variational:
            text = "The squared error is of codes drawn in training and of their means elsewhere."
            panels.append(present.Panel("evidence lower bound, nats", curves("elbo")))
        return learning_section(trained, *panels, text=text)

    def map(
        self, codes: np.ndarray, label: np.ndarray, names: tuple[str, ...], folder: pathlib.Path
    ) -> present.Section:
        """Where the test images lie, in the plane of the code's first principal components unless
        it is a plane."""
        points, text, axes = codes, "The codes of test images.", ("code 1", "code 2")
        if codes.shape[1] > 2:
            found = metrics.pca(codes, 2)
            points, share = found.transform(codes), found.explained_variance_ratio_
            text = (
                f"The codes of test images, {codes.shape[1]} numbers each, on their first two"
                f" principal components, which have {share.sum():.0%} of the variance. What is"
                " apart there is apart; what overlaps need not."
            )
            first, second = (f"component {n + 1}, {share[n]:.0%} of the variance" for n in (0, 1))
            axes = first, second
        present.draw_map(points, label, names, folder / "map.png", axes=axes)
        return present.Section("Where the classes lie", text, ["map.png"])

    def line(self, trained: Trained, ends: np.ndarray, columns: int = 12) -> present.Section:
        """Pictures on a line from each code of the first half to one of the second."""
        half = len(ends) // 2
        codes = models.interpolate(ends[:half], ends[half : 2 * half], columns)
        self.grid(trained, codes, "line.png", columns=columns)
        text = (
            "In each row the codes lie evenly on the straight line between those of two test"
            " images."
        )
        return present.Section("On a line between two codes", text, ["line.png"])

    def samples(self, trained: Trained) -> list[present.Picture]:
        """Codes from the prior; of two numbers, also a grid of its quantiles (Kingma & Welling
        2013, figure 4)."""
        key = jax.random.key(self.seed + 1)
        codes = replica.sample(lambda key: jax.random.normal(key, (self.code,)), key, 64)
        self.grid(trained, np.asarray(codes), "samples.png", columns=8, scale=6)
        about = "Codes from N(0, I), not picked; pixels are the decoder's means."
        pictures = [present.Picture("samples.png", about)]
        if self.code == 2:
            at = ndtri((np.arange(20) + 0.5) / 20).astype(np.float32)
            plane = np.stack(np.meshgrid(at, at[::-1]), -1).reshape(-1, 2)
            self.grid(trained, plane, "plane.png", columns=20, margin=2)
            about = (
                "The plane of codes at the quantiles of the prior, code 1 to the right and code"
                " 2 up."
            )
            pictures.append(present.Picture("plane.png", about))
        return pictures

    def grid(self, trained: Trained, codes: np.ndarray, name: str, **options: int) -> None:
        """Draws what codes are decoded to."""
        images = trained.apply("decode", {"code": codes})
        present.draw_grid(images, trained.folder / name, low=0.0, high=1.0, **options)

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Writes the reconstruction of each of `options.files`, and all codes as codes.npz; returns
        the mean squared error of each."""
        files = given_files(options.files, "images")
        pixels = np.stack([data.decode(path, trained.spec.shape) for path in files])
        given = data.to_float(0.0, 1.0)({"image": pixels})["image"]
        codes = trained.apply("encode", {"image": given})
        made = trained.apply("decode", {"code": codes})
        with train.os_errors_as_user_errors(f"folder {folder}"):
            for path, image in zip(files, data.to_uint8(made, 0.0, 1.0), strict=True):
                image = image[..., 0] if image.shape[-1] == 1 else image
                Image.fromarray(image).save(folder / f"{path.stem}_reconstruction.png")
            np.savez(folder / "codes.npz", **dict(zip(map(str, files), codes, strict=True)))
        error = np.square(made - given).mean((1, 2, 3))
        return {str(path): {"mse": float(e)} for path, e in zip(files, error, strict=True)}


def mean_squared_error(made: np.ndarray, test: dict[str, np.ndarray]) -> float:
    """That of a pixel, of images and what was made of them."""
    return float(np.square(made - test["image"]).mean())


ERRORS = """Of a pixel, black to white being 1. Linear methods are fitted on the training images \
and measured on the same test images."""

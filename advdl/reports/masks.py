"""Classes of pixels: a report over the test images, and predictions of a person's own.

Axes: N images, H height, W width, C channels, K classes.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from advdl import data, metrics, present, train
from advdl.reports.trained import Trained, course, given_files, learning_section

SHOWN = 256
"""Number of images, at most, of which the worst and the best are shown."""
HEADLINES = {
    "mean_iou": "mean IoU of test images",
    "pixel_accuracy": "share of test pixels",
    "class_accuracy": "mean of the classes' shares",
}


@dataclass(frozen=True)
class MasksReport:
    """The report of a network that gives each pixel a class; it is called with a `Trained` and
    returns the page.

    The learner has the functions `classes` and `sees`, from `image` to what
    `models.predict_classes` and `models.receptive_pixels` give. The spec is a `data.SceneSpec`, and
    the evaluation `test` has the metric `confusion`.

    samples: draws of dropout over which a Bayesian network is evaluated, and over which the report
      shows its classes and where it is uncertain. paper: published figures, by metric.
    """

    samples: int = 0
    paper: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, trained: Trained) -> present.Page:
        folder, names = trained.folder, trained.spec.label_names
        counts = trained.figures["test/confusion"]
        found = metrics.segmentation_figures(counts)
        constant = metrics.segmentation_figures(metrics.most_frequent_class(counts))
        holds = all(found[name] > constant[name] for name in ("mean_iou", "pixel_accuracy"))
        sentence = (
            f"The network has {'' if holds else 'not '}learned more than how frequent the classes"
            f" are: its mean IoU on test images is {found['mean_iou']:.1%} and"
            f" {found['pixel_accuracy']:.1%} of the pixels are right, with the most frequent class"
            f" everywhere {constant['mean_iou']:.1%} and {constant['pixel_accuracy']:.1%}."
        )
        verdict = {"verdict": sentence, "holds": holds}
        trained.run.write(
            "verdict.json", verdict | {"network": found, "most_frequent_class": constant}
        )
        present.draw_confusion(counts, folder / "confusion.png", names, "confusion of test pixels")
        return present.Page(
            "overlays.png",
            [
                present.Figure(
                    label,
                    f"{found[name]:.1%}",
                    f"{constant[name]:.1%} (most frequent class everywhere)",
                    f"{self.paper[name]:.1%}" if name in self.paper else "",
                )
                for name, label in HEADLINES.items()
            ],
            sentence,
            [
                *_extremes(trained, self.samples),
                _curves(trained),
                present.Section("Confusion", "", ["confusion.png"]),
                _classes(counts, names),
                _receptive_field(trained),
            ],
        )


def mask_baselines(splits: data.Splits) -> dict[str, dict[str, float]]:
    """Figures of methods that look at no image, on the test masks."""
    found = metrics.trivial_baselines(splits.train.source, splits.evaluations["test"].source)
    return {name: metrics.segmentation_figures(counts) for name, counts in found.items()}


def predict_masks(
    trained: Trained,
    files: Sequence[pathlib.Path],
    folder: pathlib.Path,
    transform: Callable[..., Mapping[str, np.ndarray]],
    samples: int = 0,
) -> dict[str, Any]:
    """Writes the mask (ids) and the overlay of each file, and of a Bayesian network with `samples`
    its uncertainty; returns by file the share that each class has of it, the largest first.

    transform: from bytes to what the network gets. samples: draws of dropout. Raises UserError
    where there are no files, or one is no image.
    """
    names, palette, answer = trained.spec.label_names, _palette(trained.spec), {}
    for path in given_files(files, "images"):
        shape = (*data.natural_size(path), trained.spec.shape[2])
        image = data.decode(path, shape)
        found = trained.apply(
            "classes", {"image": transform({"image": image[None]})["image"]}, 1, samples=samples
        )
        mask, color = found["class"][0], np.broadcast_to(image, (*image.shape[:2], 3))
        pictures = {"mask": mask, "overlay": present.overlay_mask(color, mask, palette)}
        if "uncertainty" in found:
            heat = found["uncertainty"][0]
            pictures["uncertainty"] = present.overlay(color, heat / max(heat.max(), 1e-12))
        with train.os_errors_as_user_errors(f"folder {folder}"):
            for name, picture in pictures.items():
                Image.fromarray(picture).save(folder / f"{path.stem}_{name}.png")
        shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        answer[str(path)] = {names[k]: float(shares[k]) for k in np.argsort(-shares) if shares[k]}
    return answer


def _palette(spec: data.SceneSpec) -> np.ndarray:
    """(K, 3) uint8."""
    if spec.palette is None:
        return present.default_palette(len(spec.label_names))
    return np.array(spec.palette, np.uint8)


def _extremes(trained: Trained, samples: int) -> list[present.Section]:
    """Draws the worst and the best of the test images, or of `SHOWN` drawn at random, and with
    `samples` where the network is uncertain."""
    spec, test = trained.spec, trained.splits.evaluations["test"]
    rows, parts = data.selected(test.source, SHOWN), []
    for part in np.array_split(rows, -(-len(rows) // test.batch_size)):
        inputs = {"image": test.examples(part)["image"]}
        parts.append(trained.apply("classes", inputs, test.batch_size, samples=samples))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    shown, names = test.source.read(rows), spec.label_names
    given = shown["image"], shown["mask"], found["class"]
    path = trained.folder / "overlays.png"
    present.draw_overlays(*given, path, names, palette=_palette(spec), void=spec.void)
    text = f"The picture above: of {len(rows)} test images, drawn at random."
    sections = [present.Section("Worst and best", text)]
    if "uncertainty" not in found:
        return sections
    accuracy = present.image_accuracy(*given[1:], len(names), spec.void)
    chosen, captions = present.extremes(accuracy, 4)
    heat = found["uncertainty"][chosen]
    images = np.broadcast_to(shown["image"][chosen], (*heat.shape, 3))
    pictures = [
        present.overlay(image, one / max(heat.max(), 1e-12))
        for image, one in zip(images, heat, strict=True)
    ]
    present.draw_grid(
        np.stack(pictures),
        trained.folder / "uncertainty.png",
        columns=4,
        scale=max(1, -(-128 // max(heat.shape[1:]))),
        captions=captions,
    )
    text = (
        "The same images, bright where the probabilities of the classes vary between"
        f" {samples} draws of dropout; all on one scale."
    )
    return [*sections, present.Section("Uncertainty", text, ["uncertainty.png"])]


def _curves(trained: Trained) -> present.Section:
    iou = {split: f"{split}/mean_iou" for split in trained.splits.evaluations}
    return learning_section(
        trained,
        present.Panel("cross-entropy", course(trained, "loss"), log=True),
        present.Panel("share of pixels", course(trained, "pixel_accuracy")),
        present.Panel("mean IoU", iou),
    )


def _classes(counts: np.ndarray, names: Sequence[str]) -> present.Section:
    """A table of the classes."""
    columns = {
        "IoU": metrics.class_iou(counts),
        "share that is found": metrics.Confusion(counts).recall(),
        "share of the pixels": counts.sum(1) / max(counts.sum(), 1),
    }
    rows = {
        name: {what: float(value[k]) for what, value in columns.items()}
        for k, name in enumerate(names)
    }
    return present.Section("Classes", "Of the test images.", [], rows)


def _receptive_field(trained: Trained) -> present.Section:
    """Draws the receptive field of the pixel in the middle, as far as the image goes."""
    test = trained.splits.evaluations["test"]
    row = data.selected(test.source, SHOWN)[:1]
    image = test.source.read(row)["image"][0]
    sees = trained.apply("sees", {"image": test.examples(row)["image"]}, 1)[0]
    rows, columns = np.flatnonzero(sees.any(1)), np.flatnonzero(sees.any(0))
    side = int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 0
    middle = (image.shape[0] // 2, image.shape[1] // 2)
    present.draw_receptive_field(
        image, side, 1, 0, trained.folder / "receptive_field.png", unit=middle
    )
    return present.Section(
        "What a pixel's score sees",
        "Every pixel whose change would change the score in the middle, measured:"
        f" {side} pixels wide at most.",
        ["receptive_field.png"],
    )

"""Images put into classes: what was taken for what, where the network looks, and predictions.

The learner's functions are `logits`, `{"image": (B, H, W, C)} -> (B, K)`; `heat`, which gives a
Grad-CAM map `heat` (B, h, w) and the class `label` (B,) that it is for; and `features`, the
intermediate named by the setting `layer`. Axes: N images, H height, W width, C channels, K classes.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from advdl import data, metrics, models, present, train, weights
from advdl.errors import UserError, nearest
from advdl.models import gradcam
from advdl.reports.trained import Trained, course, learning_section


def functions(network: nn.Module, crop: int = 0) -> dict[str, Any]:
    """The functions of a learner that a report of classes uses. crop: side of ten crops, of which
    `logits` are the mean; 0 takes images as they are."""

    def logits(variables, batch):
        return crop_logits(network, variables, batch["image"], crop)

    def heat(variables, batch):
        layer = gradcam.last_maps(network, variables, batch["image"].shape[1:])
        heat, logits = models.grad_cam(network, variables, batch["image"], layer)
        return {"heat": heat, "label": jnp.argmax(logits, -1)}

    def features(variables, batch, layer):
        return network.apply(variables, batch["image"], train=False)[1][layer]

    return {"logits": logits, "heat": heat, "features": features}


def crop_logits(network: Any, variables: Any, image_BHWC: jax.Array, size: int = 0) -> jax.Array:
    """Logits (B, K) of images; with a size, the logarithm of the mean probability of ten crops of
    that side (Krizhevsky et al. 2012, section 4.1)."""
    if not size:
        return network.apply(variables, image_BHWC, train=False)[0]
    crops = data.ten_crop(image_BHWC, size)
    logits, _ = network.apply(variables, crops.reshape(-1, *crops.shape[2:]), train=False)
    p_BCK = jax.nn.log_softmax(logits).reshape(len(image_BHWC), 10, -1)
    return jax.nn.logsumexp(p_BCK, 1) - jnp.log(10.0)


class ClassesReport:
    """Reports on a classifier of images.

    preprocessing: what the network is shown of an image. crop: the side of ten crops, as in
    `functions`. published: the paper's accuracy, empty where none belongs to the settings.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: data.Preprocessing,
        crop: int = 0,
        published: str = "",
    ):
        self.network, self.preprocessing = network, preprocessing
        self.crop, self.published = crop, published

    def middle(self, images: np.ndarray) -> np.ndarray:
        """What the network sees at once of images that ten crops are taken of: the one in the
        middle."""
        return np.asarray(data.ten_crop(images, self.crop)[:, 4]) if self.crop else images

    def report(self, trained: Trained) -> present.Page:
        """Predictions, learning curves, confusion, mistakes, the first layer, and heat maps."""
        split = list(trained.splits.evaluations)[-1]
        names, folder = trained.spec.label_names, trained.folder
        counts_KK = trained.figures[f"{split}/confusion"]
        likeliest, frequent = counts_KK.sum(1).argmax(), counts_KK.sum(1).max() / counts_KK.sum()
        accuracy = trained.figures[f"{split}/accuracy"]
        sections = [
            learning_section(
                trained,
                present.Panel("cross-entropy", course(trained, "loss"), log=True),
                present.Panel("accuracy", course(trained, "accuracy")),
            ),
            present.confusion_section(counts_KK, names, folder),
        ]
        if wrong := self.mistakes(trained, split):
            images, labels, p_NK = wrong
            total = int(counts_KK.sum())
            sections.append(present.mistaken_section(images, labels, p_NK, names, total, folder))
        sections.append(self.looks(trained, split))
        kernels = (leaf for leaf in jax.tree.leaves(trained.variables()["params"]) if leaf.ndim > 3)
        first = next(leaf for leaf in kernels if leaf.shape[-2] == trained.spec.shape[-1])
        if shown := present.filters_section(np.asarray(train.allgather(first)), folder):
            sections.append(shown)
        baseline = f"always {names[likeliest]}: {frequent:.1%}"
        figures = [
            present.Figure(f"accuracy, {split}", f"{accuracy:.2%}", baseline, self.published),
            present.Figure(
                "the class is among five", f"{trained.figures[f'{split}/top_5_accuracy']:.2%}"
            ),
            present.Figure("cross-entropy", trained.figures[f"{split}/loss"]),
        ]
        worked = "well above" if accuracy > 2 * frequent else "not far from"
        sentence = (
            f"The network names the class of {accuracy:.1%} of {int(counts_KK.sum()):,} {split}"
            f" images, {worked} the most frequent class ({frequent:.1%})."
        )
        return present.Page(self.predictions(trained, split), figures, sentence, sections)

    def predictions(self, trained: Trained, split: str, count: int = 16) -> present.Picture:
        """Images drawn at random with the class that the network names."""
        images = self.some(trained, split, count)
        logits = trained.apply("logits", {"image": images}, rows=count)
        names, p_NK = trained.spec.label_names, softmax(logits.astype(np.float64), -1)
        captions = [f"{names[p.argmax()]} {p.max():.0%}" for p in p_NK]
        scale = max(1, 96 // max(images.shape[1:3]))
        path = trained.folder / "predictions.png"
        shown = self.preprocessing.pixels.to_bytes(images)
        present.draw_grid(shown, path, columns=8, scale=scale, captions=captions)
        return present.Picture("predictions.png", f"Images of {split} and the class named for each")

    def some(self, trained: Trained, split: str, count: int) -> np.ndarray:
        """Images drawn at random, as the network gets them."""
        source = trained.splits.evaluations[split].source
        return self.preprocessing.normalize()(source.read(data.selected(source, count)))["image"]

    def mistakes(self, trained: Trained, split: str) -> list[np.ndarray]:
        """Images (N, H, W, C), labels (N,) and probabilities (N, K) of all that were taken for
        another class; empty where none was."""
        found: list[list[Any]] = [[], [], []]
        batches = trained.splits.evaluations[split]
        for number in range(len(batches)):
            batch = batches[number]
            logits = trained.apply("logits", {"image": batch["image"]}, len(batch["image"]))
            p_BK = softmax(logits, -1)
            wrong = (p_BK.argmax(1) != batch["label"]) & (batch["mask"] > 0)
            for row in np.flatnonzero(wrong):
                image = self.preprocessing.pixels.to_bytes(batch["image"][row])
                for part, value in zip(found, (image, batch["label"][row], p_BK[row]), strict=True):
                    part.append(value)
        return [np.stack(part) for part in found if part]

    def looks(self, trained: Trained, split: str) -> present.Section:
        """Grad-CAM of some images."""
        images = self.middle(self.some(trained, split, 16))
        seen = trained.apply("heat", {"image": images}, rows=16)
        captions = [trained.spec.label_names[k] for k in seen["label"]]
        layer = gradcam.last_maps(self.network, trained.variables(), images.shape[1:])
        shown = self.preprocessing.pixels.to_bytes(images)
        return present.heat_section(shown, seen["heat"], captions, layer, trained.folder)

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> Mapping[str, Any]:
        """Class and probability of each file; with `features`, an intermediate of each; with
        `export`, the weights."""
        if options.export:
            variables = jax.device_get(train.allgather(trained.variables()))
            weights.export(options.export, self.network, variables)
        elif not options.files:
            raise UserError(
                "predict needs image files: python experiments/classify.py predict photo.png"
            )
        written = (
            {options.export: f"weights under {weights.styles(self.network)[0]}'s names"}
            if options.export
            else {}
        )
        if not options.files:
            return written
        shape, names = trained.spec.shape, trained.spec.label_names
        view = self.preprocessing.test(bool(self.crop)) or data.cover(shape[:2])
        size = (*view.size, shape[2])
        images = np.stack([data.decode(path, size, view=view) for path in options.files])
        inputs = {"image": self.preprocessing.normalize()({"image": images})["image"]}
        rows = min(8, len(images))
        if options.features:
            middle = self.middle(inputs["image"])
            known = jax.eval_shape(
                lambda v, x: self.network.apply(v, x, train=False)[1], trained.variables(), middle
            )
            if options.features not in known:
                raise UserError(
                    f"no layer {options.features!r}; there are"
                    f" {', '.join(known)}{nearest(options.features, list(known))}"
                )
            found = trained.apply("features", {"image": middle}, rows, layer=options.features)
            file = folder / "features.npz"
            with train.os_errors_as_user_errors(str(file)):
                np.savez(file, **dict(zip(map(str, options.files), found, strict=True)))
        answer: dict[str, Any] = dict(written)
        for path, logits in zip(options.files, trained.apply("logits", inputs, rows), strict=True):
            p_K = softmax(logits)
            answer[str(path)] = {names[k]: float(p_K[k]) for k in np.argsort(-p_K)[: options.top]}
        return answer


def classic_baselines(splits: data.Splits, seed: int) -> Mapping[str, Any]:
    """Classic methods on the whole training set and the last of the evaluations."""
    evaluation = list(splits.evaluations.values())[-1]
    parts = []
    for source in (splits.train.source, evaluation.source):
        if source.draws or len(source) * int(np.prod(source.image_shape)) > 2**28:
            raise UserError(
                "--baselines fits scikit-learn on whole images in memory; give --view whole, and"
                " fewer images"
            )
        read = source.read(np.arange(len(source)))
        parts += [read["image"], read["label"]]
    return metrics.classic_methods(*parts, seed=seed)


def decoding(splits: data.Splits) -> Mapping[str, float]:
    """Images a second that one core decodes, as this pipeline does and as plain Pillow."""
    speed = data.decoding_speed()
    return {
        "JPEG to 224, images/s per core": speed["view"],
        "the same, plain Pillow": speed["pillow"],
    }

"""Scenes: images of which every pixel has a class, by name, and what a network must know of them.

Axes: N examples, H height, W width, C channels, K classes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from advdl.data.blank import blank_images
from advdl.data.class_weights import class_pixels, median_frequency_weights
from advdl.data.counters import DIGIT_SCENES, digit_scenes, of_digits
from advdl.data.scene_files import (
    CAMVID_NAMES,
    CAMVID_PALETTE,
    FolderScenes,
    TfdsScenes,
    mask_feature,
)
from advdl.data.source import IN_MEMORY, ArraySource, Source, in_memory
from advdl.data.spec import Spec
from advdl.data.tfds import Records, features_of, prepared
from advdl.data.views import View
from advdl.errors import UserError, nearest
from advdl.reading import expand, is_folder


@dataclasses.dataclass(frozen=True)
class SceneSpec(Spec):
    """Scenes, as a network gets them.

    shape: (height, width, channels) of the images. label_names: the K classes. void: the id of
      pixels that do not count, or None. palette: a color (r, g, b) for each class, or None.
      class_weights: what each class weighs in the loss; empty where all weigh the same.
    """

    shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    void: int | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    class_weights: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, scenes: Source, balance: bool = False, balance_void: bool = False, power: float = 1.0
    ) -> Self:
        """The spec of a source. balance, balance_void: with `median_frequency_weights`, for which
        all of its masks are read, each to the power `power`. Raises UserError for the last two
        without the first, and for the second without void."""
        if balance_void and (not balance or scenes.void is None):
            raise UserError("--balance-void is for --balance, and for data that have a void")
        if power != 1 and not balance:
            raise UserError("--balance-power is for --balance; give it too")
        colors = None if scenes.palette is None else tuple(map(tuple, scenes.palette.tolist()))
        weights = median_frequency_weights(class_pixels(scenes), balance_void) if balance else None
        known = () if weights is None else tuple((weights**power).tolist())
        height, width, channels = scenes.image_shape
        names = tuple(scenes.label_names)
        return cls((height, width, channels), names, scenes.void, colors, known)

    def accept(self, scenes: Source) -> Source:
        """The same source, which is made of these classes. Raises UserError for another."""
        if (tuple(scenes.label_names), scenes.void) != (self.label_names, self.void):
            raise UserError(
                f"{scenes.name} has other classes in {scenes.split} than the run was trained with:"
                f" {', '.join(scenes.label_names)} instead of {', '.join(self.label_names)}"
            )
        return scenes


def array_scenes(
    name: str,
    split: str,
    images: np.ndarray,
    masks: np.ndarray,
    label_names: Sequence[str],
    void: int | None = None,
    palette: np.ndarray | None = None,
) -> ArraySource:
    """Scenes in memory: images (N, H, W, C) uint8, masks (N, H, W) uint8 of 0 … K-1 and void.
    Raises ValueError where the shapes do not fit, or void is a class."""
    if images.ndim != 4 or masks.shape != images.shape[:3]:
        raise ValueError(f"masks {masks.shape} do not fit images {images.shape}")
    if void is not None and void < len(label_names):
        raise ValueError(f"void is {void}, one of {len(label_names)} classes")
    arrays = {"image": images, "mask": masks.astype(np.uint8)}
    return ArraySource(name, split, arrays, label_names, void, palette)


def open_scenes(
    spec: str,
    split: str,
    data_dir: str | None = None,
    size: tuple[int, int] | None = None,
    void: int | None = None,
) -> Source:
    """The source of images with masks that a person named; small ones are read once and kept.

    spec: `digit_scenes`, or `mnist_scenes` of MNIST's digits, each with `:DIAMETER` or without
    (function `digit_scenes`), `folder:PATH` (`FolderScenes`), `camvid:PATH`, the same with CamVid's
    classes, palette and void (11), `tfds:NAME` (`TfdsScenes`), or `blank:360x480x3:11`, made up.
    data_dir: where tensorflow-datasets keeps prepared data. size: (H, W) of every image, by default
    what they have.
    void: the id of pixels that do not count (see `coding`).

    Raises UserError for a name, folder, split or size that is not there, and on reading, naming the
    file, for what is wrong.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("folder", "camvid") and rest:
        names, palette = (CAMVID_NAMES, CAMVID_PALETTE) if kind == "camvid" else (None, None)
        return _kept(FolderScenes(rest, split, size, void, names, palette, kind))
    if kind == "tfds" and rest:
        builder = prepared(rest, split, data_dir)
        features = features_of(builder, rest)
        rows = Records(builder, rest, split, "image", mask_feature(rest, features))
        return _kept(TfdsScenes(rest, split, rows, features, size, void))
    if kind == "blank":
        view = View(size, 0, lambda height, width, u: (0, 0, height, width)) if size else None
        return blank_images(rest, split, view, scenes=True)
    made = of_digits(spec)
    if made is None:
        own = [form for name in DIGIT_SCENES for form in (name, f"{name}:DIAMETER")]
        known = [*own, "folder:PATH", "camvid:PATH", "tfds:NAME"]
        raise UserError(f"no scenes {spec!r}; there are {', '.join(known)}{nearest(spec, known)}")
    if void is not None:
        raise UserError(f"{kind} have a class for every pixel; leave void out")
    name, diameter = made
    return digit_scenes(split, size or (64, 64), diameter, name=name)


def scene_parts(spec: str) -> tuple[str, ...]:
    """The parts that scenes have, by the name of `open_scenes`: `val` too where a folder has it."""
    kind, _, rest = spec.partition(":")
    own = kind in ("folder", "camvid") and is_folder(expand(rest) / "val")
    return ("train", "val", "test") if own else ("train", "test")


def _kept(scenes: Source) -> Source:
    channels = scenes.image_shape[-1]  # and a mask is one more
    return in_memory(scenes, IN_MEMORY * channels // (channels + 1))

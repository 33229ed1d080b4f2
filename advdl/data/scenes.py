"""Scenes: images of which every pixel has a class; built in, in folders of a person's own, and
prepared data sets.

Axes: B batch, N examples, H height, W width, C channels, K classes.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from advdl.data.blank import blank_images
from advdl.data.decode import decode_view, natural_shape
from advdl.data.digits import BUILT_IN, SPLITS
from advdl.data.folder import image_files
from advdl.data.masks import Coding, coding, decode_mask
from advdl.data.source import IN_MEMORY, ArraySource, Source, in_memory
from advdl.data.spec import Spec
from advdl.data.tfds import Records, features_of, prepared
from advdl.data.views import View
from advdl.errors import UserError, nearest
from advdl.memory import check_fits
from advdl.ranges import Range, whole_number
from advdl.reading import exists, expand, folders, is_folder, read_text

CAMVID_NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
    "unlabelled",
)
CAMVID_PALETTE = np.array(  # of the SegNet tutorial
    [
        [128, 128, 128],
        [128, 0, 0],
        [192, 192, 128],
        [128, 64, 128],
        [60, 40, 222],
        [128, 128, 0],
        [192, 128, 128],
        [64, 64, 128],
        [64, 0, 128],
        [64, 64, 0],
        [0, 128, 192],
        [0, 0, 0],
    ],
    np.uint8,
)
LAYOUTS = ("{0}/images", "{0}/masks"), ("{0}", "{0}annot")  # ours, and that of the SegNet tutorial
DIGIT_SCENES = {"digit_scenes": "digits", "mnist_scenes": "mnist"}
"""Of which built-in digits (`digits.BUILT_IN`) the scenes of each name are made."""
TFDS_MASKS = ("segmentation_mask", "segmentation_label", "annotation", "mask")
TFDS_CLASSES = {"oxford_iiit_pet": (("pet", "background", "border"), 1)}  # and the id of the first


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


class _DecodedScenes(Source):
    """Scenes that are decoded when read, in parallel: `_files(rows)` gives (image, its name, mask,
    its name) of each."""

    def __init__(
        self,
        name: str,
        split: str,
        code: Coding,
        shape: tuple[int, int, int],
        size: tuple[int, int] | None,
    ):
        self.name, self.split, self._code, self._size = name, split, code, size
        self.label_names, self.void, self.palette = code.label_names, code.void, code.palette
        self.image_shape = (*(size or shape[:2]), shape[2])
        self._view = View(size, 0, lambda height, width, u: (0, 0, height, width)) if size else None
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`. Raises UserError, naming the file, for one that does not decode, a
        mask of another size than its image, or an id that is no class."""
        self.uniforms(rows, u)
        images, masks = zip(*self._pool.map(self._pair, self._files(rows)), strict=True)
        return {"image": np.stack(images), "mask": np.stack(masks)}

    def __len__(self) -> int:
        raise NotImplementedError

    def _files(self, rows: np.ndarray) -> Iterable[tuple[Any, str, Any, str]]:
        raise NotImplementedError

    def _pair(self, files) -> tuple[np.ndarray, np.ndarray]:
        image, image_name, mask, mask_name = files
        pixels = decode_view(image, image_name, self.image_shape, self._view)
        natural = natural_shape(image, image_name)[:2]
        return pixels, decode_mask(mask, mask_name, self._code, natural, self._size)


class FolderScenes(_DecodedScenes):
    """Scenes in `PATH/split/images/*.png|jpg|jpeg` and `PATH/split/masks/*.png` of the same stem,
    or in `PATH/split` and `PATH/splitannot`; rows are in the order of the names.

    `PATH/classes.txt` has a class a line, in the order of the ids (names: in its place), and
    `PATH/palette.txt`, where it is there, a color (r g b) a line, by which RGB masks are read.
    Masks as in `decode_mask`, void as in `coding`. size: (H, W) that images (antialiased bilinear)
    and masks (nearest neighbor) are stretched to; by default they have the first one's.

    Raises UserError for a folder, split or list that is not there or does not fit, an image without
    a mask, and a mask without an image.
    """

    def __init__(
        self,
        path: str,
        split: str,
        size: tuple[int, int] | None = None,
        void: int | None = None,
        names: Sequence[str] | None = None,
        palette: np.ndarray | None = None,
        kind: str = "folder",
    ):
        if not is_folder(root := expand(path)):
            raise UserError(
                f"no folder {root}; expected {root}/train/images/*.png and {root}/train/masks/*.png"
            )
        names = (
            _lines(root / "classes.txt", "the classes, a name a line in the order of their ids")
            if names is None
            else names
        )
        if palette is None and exists(root / "palette.txt"):
            palette = _colors(root / "palette.txt", names)
        code = coding(names, void, palette, name=str(root))
        pictures, masks = _layout(root, split)
        images, labels = (_by_stem(place, root) for place in (pictures, masks))
        for stem in sorted(images.keys() ^ labels.keys()):
            if stem in images:
                raise UserError(
                    f"image {images[stem]} has no mask {masks / stem}.png; add it or remove the"
                    " image"
                )
            raise UserError(
                f"mask {labels[stem]} has no image in {pictures}; add it or remove the mask"
            )
        if not images:
            raise UserError(
                f"{pictures} has no images; expected {pictures}/*.png and {masks}/*.png"
            )
        self._pairs = [(images[stem], labels[stem]) for stem in sorted(images)]
        first = pathlib.Path(self._pairs[0][0])
        super().__init__(f"{kind}:{root}", split, code, natural_shape(first, str(first)), size)

    def __len__(self) -> int:
        return len(self._pairs)

    def _files(self, rows: np.ndarray):
        pairs = (self._pairs[row] for row in rows)
        return [(pathlib.Path(image), image, pathlib.Path(mask), mask) for image, mask in pairs]


class TfdsScenes(_DecodedScenes):
    """A split of a prepared data set, records with `image` and a mask, both encoded files.

    Classes are those that the mask's feature (a `LabeledImage`) names; of `oxford_iiit_pet`, whose
    trimaps hold 1 … 3, they are 0 pet, 1 background and 2 border, the last of which is a class
    unless void is 2. Raises UserError for a set without a mask or without names, and for images of
    many sizes where `size` (H, W) is not given.
    """

    def __init__(
        self,
        name: str,
        split: str,
        records: Records,
        features: Mapping[str, Any],
        size: tuple[int, int] | None = None,
        void: int | None = None,
    ):
        self._records, self._key = records, mask_feature(name, features)
        height, width, depth = features["image"].shape
        if size is None and (height is None or width is None):
            raise UserError(f"tfds:{name} has images of many sizes; give --image-size")
        known, first = TFDS_CLASSES.get(name.partition("/")[0].partition(":")[0], (None, 0))
        names = known or getattr(features[self._key], "names", None)
        if not names:
            raise UserError(
                f"tfds:{name} names no classes of its {self._key}; write it as folder:PATH with"
                " classes.txt"
            )
        code = coding(names, void, first=first, name=f"tfds:{name}")
        super().__init__(f"tfds:{name}", split, code, (height, width, 1 if depth == 1 else 3), size)

    def __len__(self) -> int:
        return len(self._records)

    def _files(self, rows: np.ndarray):
        examples = self._records.read(rows)
        titles = [f"row {row} of {self.name} {self.split}" for row in rows]
        return [
            (e["image"], title, e[self._key], f"{self._key} of {title}")
            for e, title in zip(examples, titles, strict=True)
        ]


def mask_feature(name: str, features: Mapping) -> str:
    """Which feature of a data set is the mask. Raises UserError where there is none, or no
    image."""
    found = [key for key in TFDS_MASKS if key in features]
    if "image" not in features or not found:
        raise UserError(
            f"tfds:{name} has {', '.join(features)}; image and one of {', '.join(TFDS_MASKS)} are"
            " needed"
        )
    return found[0]


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


def of_digits(spec: str) -> tuple[str, int] | None:
    """(name in `DIGIT_SCENES`, diameter in pixels) of scenes of digits, by the name of
    `open_scenes`; None for others."""
    kind, colon, rest = spec.partition(":")
    diameter = whole_number(rest, Range(1, 8192, "[]")) if colon else 28
    return (kind, diameter) if kind in DIGIT_SCENES and diameter is not None else None


def scene_parts(spec: str) -> tuple[str, ...]:
    """The parts that scenes have, by the name of `open_scenes`: `val` too where a folder has it."""
    kind, _, rest = spec.partition(":")
    own = kind in ("folder", "camvid") and is_folder(expand(rest) / "val")
    return ("train", "val", "test") if own else ("train", "test")


@functools.lru_cache(4)
def digit_scenes(
    split: str,
    size: tuple[int, int] = (64, 64),
    diameter: int = 28,
    count: int | None = None,
    name: str = "digit_scenes",
) -> ArraySource:
    """Handwritten digits on round counters, some of them over others: images (H, W, 1), 11 classes.

    Class 0 is the background, a gradient with noise; class 1 + d is a counter with digit d on it,
    all of its pixels, so that a network must look past a pixel's surroundings to know them.
    Counters are `diameter` pixels wide, give or take 12 %, whole, and may lie over the rims of
    earlier ones, not over the middles of their digits; there are as many as would cover 35 to 60 %
    of the scene, as far as they find room.

    `train` is made of the training digits and `test` of the test digits; scene n is a function of
    the split, n, the size, the diameter and the kind of digits. count: by default 2,000 and 300.
    name: which digits, see `DIGIT_SCENES`. Raises UserError for another split, a diameter below 16
    pixels, or a scene that has no room for a counter.
    """
    if split not in SPLITS:
        raise UserError(
            f"{name} have no split {split!r}; there are {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    if diameter < 16 or min(size) < 1.25 * diameter:
        raise UserError(
            f"scenes of {size[1]} by {size[0]} pixels with digits of {diameter}; digits need 16,"
            " and scenes 1.25 times theirs"
        )
    pictures, label_N, names = _pictures(name, split)
    count = {"train": 2000, "test": 300}[split] if count is None else count
    check_fits(2.0 * count * size[0] * size[1], "the scenes", "take a smaller --size")
    images, masks = np.empty((count, *size, 1), np.uint8), np.empty((count, *size), np.uint8)
    for n in range(count):
        rng = np.random.default_rng([SPLITS.index(split), n, *size, diameter])
        counters = max(
            1, round(rng.uniform(0.35, 0.6) * size[0] * size[1] / (np.pi / 4 * diameter**2))
        )
        images[n, ..., 0], masks[n] = _scene(rng, size, diameter, counters, pictures, label_N)
    return array_scenes(name, split, images, masks, ("background", *names))


def single_digits(split: str, diameter: int = 28, name: str = "digit_scenes") -> ArraySource:
    """Scenes of one counter each, with its digit as the label: images (S, S, 1), S = 1.25
    diameters, rounded up to a multiple of 8; 6,000 and 1,000 of them. What an encoder can learn its
    first features from. name: which digits, see `DIGIT_SCENES`."""
    pictures, label_N, names = _pictures(name, split)
    side = -int(-1.25 * diameter // 8) * 8
    count = {"train": 6000, "test": 1000}[split]
    images, labels = np.empty((count, side, side, 1), np.uint8), np.empty(count, np.int64)
    for n in range(count):
        rng = np.random.default_rng([SPLITS.index(split), n, diameter])
        images[n, ..., 0], mask = _scene(rng, (side, side), diameter, 1, pictures, label_N)
        labels[n] = mask.max() - 1
    return ArraySource("single digits", split, {"image": images, "label": labels}, names)


def _pictures(name: str, split: str):
    source = BUILT_IN[DIGIT_SCENES[name]](split)
    found = source.read(np.arange(len(source)))
    return (
        [Image.fromarray(image[..., 0]) for image in found["image"]],
        found["label"],
        source.label_names,
    )


def _scene(
    rng: np.random.Generator, size, diameter, counters, pictures, label_N
) -> tuple[np.ndarray, np.ndarray]:
    image = ground(rng, size)
    mask = np.zeros(size, np.uint8)
    placed: list[tuple[float, float, float]] = []
    for n in rng.integers(len(pictures), size=counters):
        radius = rng.uniform(0.44, 0.56) * diameter
        for _ in range(20):
            y, x = (rng.uniform(radius + 1, side - radius - 1) for side in size)
            if all(
                np.hypot(y - v, x - u) > max(radius + 0.5 * r, r + 0.5 * radius)
                for v, u, r in placed
            ):
                break
        else:
            continue  # no room left
        placed.append((y, x, radius))
        paper, ink = rng.uniform(190, 250), rng.uniform(0, 40)
        mask[draw_counter(image, (y, x), radius, pictures[n], paper, ink)] = 1 + label_N[n]
    return grainy(rng, image), mask


def ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """What scenes lie on, (H, W) float64: a gradient."""
    down, across = (np.linspace(-0.5, 0.5, n) for n in size)
    slope = rng.uniform(-40, 40, 2)
    return rng.uniform(90, 140) + slope[0] * down[:, None] + slope[1] * across


def grainy(rng: np.random.Generator, image_HW: np.ndarray) -> np.ndarray:
    """With noise, as uint8."""
    return (image_HW + rng.normal(0, 5, image_HW.shape)).clip(0, 255).astype(np.uint8)


def draw_counter(
    image_HW: np.ndarray,
    middle: tuple[float, float],
    radius: float,
    picture: Image.Image,
    paper: float,
    ink: float,
) -> np.ndarray:
    """Draws a round counter with a picture of a digit on it into an image, in place; returns which
    pixels are its, (H, W) bool.
    middle: (y, x) in pixels. paper, ink: its gray levels."""
    y, x = middle
    box = tuple(slice(max(int(c - radius) - 1, 0), int(c + radius) + 3) for c in (y, x))
    part = image_HW[box]
    rows, columns = (np.arange(n)[s] + 0.5 for n, s in zip(image_HW.shape, box, strict=True))
    distance = np.hypot(rows[:, None] - y, columns - x)
    part += np.clip(radius - distance + 0.5, 0, 1) * (
        paper - part
    )  # a rim's pixel is covered in part
    part += np.clip(1 - np.abs(distance - radius + 0.5), 0, 1) * (ink - part)
    side = round(1.4 * radius)
    top, left = round(y - side / 2), round(x - side / 2)
    place = image_HW[top : top + side, left : left + side]
    place += (
        np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float64)
        / 255
        * (ink - place)
    )
    covered = np.zeros(image_HW.shape, bool)
    covered[box] = distance < radius
    return covered


class ClassPixels(NamedTuple):
    """Of each class: `pixels` (K,), how many there are, and `present` (K,), how many the images
    have in which there are any; int64. `void`: the same two figures of void."""

    pixels: np.ndarray
    present: np.ndarray
    void: tuple[int, int] = (0, 0)


def class_pixels(source: Source) -> ClassPixels:
    """Counted over all of a source. Raises ValueError for one that draws."""
    if source.draws:
        raise ValueError(f"{source.name} shows random parts of its images")
    classes = len(source.label_names)
    pixels, present = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for rows in np.array_split(np.arange(len(source)), len(source) // 64 + 1):
        for mask in source.read(rows)["mask"]:
            counts = np.bincount(mask.ravel(), minlength=256)
            pixels += counts
            present += (counts > 0) * mask.size
    void = (0, 0) if source.void is None else (int(pixels[source.void]), int(present[source.void]))
    return ClassPixels(pixels[:classes], present[:classes], void)


def median_frequency_weights(counts: ClassPixels, with_void: bool = False) -> np.ndarray:
    """median(f) / f_c, (K,) float32, where f_c = pixels of c / pixels of all images with c in them
    (Eigen & Fergus 2015, arXiv:1411.4734; SegNet, arXiv:1511.00561, section 4).

    with_void: void is among those of which the median is taken, as in SegNet's published weights. A
    class of which there is nothing weighs 0 and is not in the median.
    """
    frequency = np.divide(
        counts.pixels, counts.present, out=np.zeros(len(counts.pixels)), where=counts.present > 0
    )
    among = frequency[frequency > 0].tolist()
    if with_void and counts.void[1]:
        among.append(counts.void[0] / counts.void[1])
    middle = np.median(among) if among else 0.0
    weights = np.divide(middle, frequency, out=np.zeros_like(frequency), where=frequency > 0)
    return weights.astype(np.float32)


def _kept(scenes: Source) -> Source:
    channels = scenes.image_shape[-1]  # and a mask is one more
    return in_memory(scenes, IN_MEMORY * channels // (channels + 1))


def _lines(file: pathlib.Path, what: str) -> list[str]:
    if not exists(file):
        raise UserError(f"no file {file}; it has {what}")
    return list(filter(None, map(str.strip, read_text(file).splitlines())))


def _colors(file: pathlib.Path, names: Sequence[str]) -> np.ndarray:
    lines = _lines(file, "a color (r g b) a line")
    try:
        colors = np.array([[int(word) for word in line.split()] for line in lines])
        if colors.ndim != 2 or colors.shape[1] != 3 or colors.min() < 0 or colors.max() > 255:
            raise ValueError
    except ValueError:
        raise UserError(f"{file} is not three whole numbers of 0 … 255 (r g b) a line") from None
    if len(colors) != len(names) or len(np.unique(colors, axis=0)) != len(colors):
        raise UserError(
            f"{file} has {len(np.unique(colors, axis=0))} different colors for {len(names)} classes"
        )
    return colors.astype(np.uint8)


def _layout(root: pathlib.Path, split: str) -> tuple[pathlib.Path, pathlib.Path]:
    """The folders of a split's images and masks."""
    for pair in LAYOUTS:
        images, masks = (root / part.format(split) for part in pair)
        if is_folder(images) and is_folder(masks):
            return images, masks
    found = [place.name for place in folders(root)]
    if split not in found:
        raise UserError(
            f"no folder {root / split}; {root} has"
            f" {', '.join(found) or 'no folders'}{nearest(split, found)}"
        )
    place = root / split
    raise UserError(
        f"{place} has no images beside masks; expected {place}/images/*.png and {place}/masks/*.png"
    )


def _by_stem(place: pathlib.Path, root: pathlib.Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in image_files(place, root):
        stem = pathlib.Path(file).stem
        if stem in found:
            raise UserError(f"{found[stem]} and {file} have the same stem; remove one")
        found[stem] = file
    return found

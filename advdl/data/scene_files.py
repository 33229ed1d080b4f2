"""Scenes in files: images with masks in folders of a person's own, and in prepared data sets."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from advdl.data.decode import decode_view, natural_shape
from advdl.data.folder import image_files
from advdl.data.masks import Coding, coding, decode_mask
from advdl.data.source import Source
from advdl.data.tfds import Records
from advdl.data.views import View
from advdl.errors import UserError, nearest
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
TFDS_MASKS = ("segmentation_mask", "segmentation_label", "annotation", "mask")
TFDS_CLASSES = {"oxford_iiit_pet": (("pet", "background", "border"), 1)}  # and the id of the first


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

    Each line of `PATH/classes.txt` names a class, in the order of the ids; `names` replaces the
    file. Each line of `PATH/palette.txt`, if it exists, is a color (r g b) of RGB masks.
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

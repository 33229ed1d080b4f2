"""Images with sentences that say what they show: scenes of digits, whose sentence is a function of
the scene, and photographs with the captions of a JSON file as COCO has it.

Axes: B batch, N images, R captions of an image, T tokens, H height, W width, C channels.
"""

import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypedDict

import numpy as np
from PIL import Image

from advdl.data.counters import DIGIT_SCENES, draw_counter, grainy, ground
from advdl.data.decode import decode_view, natural_shape
from advdl.data.digits import BUILT_IN
from advdl.data.folder import ENDINGS, image_files
from advdl.data.sequences import pad
from advdl.data.source import ArraySource, Source, SourceWrapper, in_memory
from advdl.data.spec import Spec
from advdl.data.views import View, cover
from advdl.data.vocabulary import BEGIN, END, TextSpec
from advdl.errors import UserError, nearest
from advdl.memory import check_fits
from advdl.reading import expand, is_file, is_folder, read_json

PARTS = ("train", "val", "test")
NUMERALS = tuple(
    f"a{'n' * (word == 'eight')} {word}"
    for word in ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
)
COUNTS = {"train": 12_000, "val": 500, "test": 1000}
SIZE, DIAMETER = 64, 24


class CaptionedImages(NamedTuple):
    """images: a source of N images, `{"image": uint8 (B, H, W, C)}`. captions: of each, one or
    more, as they were written."""

    images: Source
    captions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CaptionSpec(Spec):
    """Images with captions, as a network gets them. shape: (H, W, C). text: the captions; of those
    with more than `text.longest` words as many are read."""

    shape: tuple[int, int, int]
    text: TextSpec

    def __post_init__(self):
        if min(self.shape) < 1 or not self.text.longest:
            raise ValueError("its images or captions have no size")

    @classmethod
    def of(cls, captioned: CaptionedImages, least: int, longest: int) -> Self:
        """The spec of these images. least: number of times that a word must occur to be known."""
        captions = (caption for own in captioned.captions for caption in own)
        text = TextSpec.of("captions", captions, least, longest=longest)
        height, width, channels = captioned.images.image_shape
        return cls((height, width, channels), text)


class CaptionSource(SourceWrapper):
    """A source of images with their captions as ids: the beginning, the words that are known or
    `UNKNOWN`, the end, and padding. Of captions longer than `longest` words as many are read, and
    no end. cut: how many of them there are.

    drawn: an image comes with one of its captions, chosen by the example's own number: `{"image",
    "caption" (B, longest + 2), "caption_length" (B,)}`, the beginning counted. Else with all:
    `{"image", "caption" (B, R, longest + 2), "caption_length" (B, R)}`, of length 0 where an image
    has fewer than another.
    """

    def __init__(self, captioned: CaptionedImages, spec: TextSpec, drawn: bool = False):
        super().__init__(captioned.images)
        self.images, self.captions = captioned.images, captioned.captions
        self.drawn, self.draws = drawn, captioned.images.draws + drawn
        self.longest, self.cut = spec.longest, 0
        self._ids, self._lengths = [], []
        for own in captioned.captions:
            spelled = [spec.encode(caption) for caption in own]
            self.cut += sum(len(ids) > self.longest for ids in spelled)
            rows = [
                [BEGIN, *ids, END][: self.longest + 1 if len(ids) > self.longest else None]
                for ids in spelled
            ]
            padded = pad(rows, self.longest + 2)
            self._ids.append(padded.ids)
            self._lengths.append(padded.lengths)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`, and above."""
        u = self.uniforms(rows, u)
        found = self._source.read(rows, u[:, : self._source.draws])
        ids, lengths = [self._ids[row] for row in rows], [self._lengths[row] for row in rows]
        if self.drawn:
            chosen = [int(own * len(length)) for own, length in zip(u[:, -1], lengths, strict=True)]
            ids = [own[place] for own, place in zip(ids, chosen, strict=True)]
            lengths = [own[place] for own, place in zip(lengths, chosen, strict=True)]
            return {
                "image": found["image"],
                "caption": np.stack(ids),
                "caption_length": np.stack(lengths),
            }
        most = max(map(len, self._lengths))
        caption = np.zeros((len(rows), most, self.longest + 2), np.int32)
        length = np.zeros((len(rows), most), np.int32)
        for row, (own, own_length) in enumerate(zip(ids, lengths, strict=True)):
            caption[row, : len(own)], length[row, : len(own)] = own, own_length
        return {"image": found["image"], "caption": caption, "caption_length": length}


class ImageFiles(Source):
    """Image files, all seen through `view`: uint8 (H, W, C). Raises UserError, on reading, for one
    that does not decode."""

    def __init__(self, name: str, split: str, files: Sequence[str], view: View, channels: int = 3):
        self.name, self.split, self.files, self.draws = name, split, tuple(files), view.draws
        self.image_shape, self._view = (*view.size, channels), view
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        return {"image": np.stack(list(self._pool.map(self._decode, rows, self.uniforms(rows, u))))}

    def _decode(self, row: int, u: np.ndarray) -> np.ndarray:
        file = self.files[row]
        return decode_view(pathlib.Path(file), file, self.image_shape, self._view, u)


def caption_parts(name: str) -> tuple[str, ...]:
    """The parts that there are of the data called so; nothing is read."""
    kind, _, rest = name.partition(":")
    there = kind != "folder" or is_file(expand(rest) / "captions_test.json")
    return PARTS if there else PARTS[:2]


def open_captions(name: str, part: str, size: int = 0) -> CaptionedImages:
    """The images and captions of a part that a person named.

    name: `digit_scenes` or `mnist_scenes` (see `captioned_digits`), or `folder:PATH` with
    PATH/captions_train.json and captions_val.json as COCO has them and the images in PATH/train and
    PATH/val, and the same of test if one likes. size: the side that images have, of photographs the
    middle square; by default 64 pixels.

    Raises UserError for what is not there or cannot be read.
    """
    kind, _, rest = name.partition(":")
    if kind == "folder" and rest:
        if not is_folder(root := expand(rest)):
            raise UserError(
                f"no folder {root}; expected {root}/captions_train.json and {root}/train/*.jpg, the"
                " same of val"
            )
        return _folder(root, part, size or SIZE)
    if name not in DIGIT_SCENES:
        known = [*DIGIT_SCENES, "folder:PATH"]
        raise UserError(f"no captions {name!r}; there are {', '.join(known)}{nearest(name, known)}")
    return captioned_digits(part, size or SIZE, name=name)


def captioned_digits(
    part: str, size: int = SIZE, count: int | None = None, name: str = "digit_scenes"
) -> CaptionedImages:
    """One or two handwritten digits on round counters (H, W, 1), and one sentence each that says
    which and how they lie: "a three", "a three left of a seven", "a two above a five".

    There is one right sentence: counters do not touch, and two of them lie apart along one axis at
    least twice as far as along the other; the one to the left, or above, is named first. A fifth of
    the scenes has one digit, the others are as often of either kind. The digits of `test` are the
    test digits, those of `val` every tenth of the training digits, those of `train` the others;
    scene n is a function of the part, n, the size and the kind of digits. count: by default 12,000,
    500 and 1,000. name: which digits, see `counters.DIGIT_SCENES`.

    Raises UserError for another part, or a size below 60 pixels.
    """
    if part not in PARTS:
        raise UserError(
            f"{name} have no part {part!r}; there are {', '.join(PARTS)}{nearest(part, PARTS)}"
        )
    if size < 60:
        raise UserError(f"scenes of {size} pixels have no room for two digits; expected 60 or more")
    pictures, labels = _digits(part, name)
    count = COUNTS[part] if count is None else count
    check_fits(float(count) * size**2, "the scenes", "take a smaller --image-size")
    images, captions = np.empty((count, size, size, 1), np.uint8), []
    for n in range(count):
        rng = np.random.default_rng([PARTS.index(part), n, size, 0x63617074])
        image = ground(rng, (size, size))
        chosen = rng.integers(len(pictures), size=2)
        relation = rng.choice(["", "left of", "above"], p=[0.2, 0.4, 0.4])
        radius = rng.uniform(0.44, 0.56, 2) * DIAMETER
        for picture, place in zip(chosen, _places(rng, size, radius, relation), strict=False):
            _draw(rng, image, place, pictures[picture])
        images[n, ..., 0] = grainy(rng, image)
        first, second = (NUMERALS[labels[picture]] for picture in chosen)
        captions.append((f"{first} {relation} {second}" if relation else first,))
    return CaptionedImages(
        ArraySource(name, part, {"image": images, "label": np.zeros(count)}),
        tuple(captions),
    )


def single_counters(
    part: str, size: int = SIZE, count: int = 6000, name: str = "digit_scenes"
) -> ArraySource:
    """Scenes as those of `captioned_digits` with one counter each, anywhere, and its digit as the
    label, (H, W, 1): what an encoder can learn its first features from. Their digits are those of
    the part, so what learns from `train` has seen none of `val` or `test`."""
    pictures, labels = _digits(part, name)
    images, label = np.empty((count, size, size, 1), np.uint8), np.empty(count, np.int64)
    for n in range(count):
        rng = np.random.default_rng([PARTS.index(part), n, size, 0x73696E67])
        image, picture = ground(rng, (size, size)), rng.integers(len(pictures))
        radius = rng.uniform(0.44, 0.56, 2) * DIAMETER
        _draw(rng, image, _places(rng, size, radius, "")[0], pictures[picture])
        images[n, ..., 0], label[n] = grainy(rng, image), labels[picture]
    names = tuple(map(str, range(len(NUMERALS))))
    return ArraySource("single counters", part, {"image": images, "label": label}, names)


def _draw(
    rng: np.random.Generator,
    image: np.ndarray,
    place: tuple[tuple[float, float], float],
    picture: Image.Image,
) -> None:
    """A counter with a digit, at a middle (y, x) and of a radius."""
    draw_counter(image, *place, picture, rng.uniform(190, 250), rng.uniform(0, 40))


def _digits(part: str, name: str) -> tuple[list[Image.Image], np.ndarray]:
    """The handwritten digits of a part and their labels."""
    source = BUILT_IN[DIGIT_SCENES[name]]("test" if part == "test" else "train")
    found = source.read(np.arange(len(source)))
    tenth = np.arange(len(source)) % 10 == 0
    own = np.flatnonzero({"train": ~tenth, "val": tenth, "test": tenth | True}[part])
    return [Image.fromarray(found["image"][n, ..., 0]) for n in own], found["label"][own]


def _places(
    rng: np.random.Generator, size: int, radius: np.ndarray, relation: str
) -> list[tuple[tuple[float, float], float]]:
    """Middles (y, x) and radii of the counters, that to the left or above first."""
    while True:
        places = (
            radius[:, None] + 1 + rng.random((64, 2, 2)) * (size - 2 * radius[:, None] - 2)
        )  # tries, counters, (y, x)
        apart = places[:, 1] - places[:, 0]
        along, across = (apart if relation == "above" else apart[:, ::-1]).T
        fits = (
            np.flatnonzero((along > radius.sum() + 1) & (np.abs(across) <= along / 2))
            if relation
            else [0]
        )
        if len(fits):
            return [(tuple(place), r) for place, r in zip(places[fits[0]], radius, strict=True)][
                : 1 + bool(relation)
            ]


def _folder(root: pathlib.Path, part: str, size: int) -> CaptionedImages:
    file, folder = root / f"captions_{part}.json", root / part
    captions = read_captions(file)
    if not is_folder(folder):
        raise UserError(f"no folder {folder}; expected the images that {file} names in it")
    there = {pathlib.Path(path).name: path for path in image_files(folder, root)}
    for name in captions:
        if name not in there:
            raise UserError(
                f"{file} names the image {name!r}, which is not in {folder}; expected a file"
                f" ({', '.join(ENDINGS)}) called so"
            )
    source = ImageFiles(f"folder:{root}", part, [there[name] for name in captions], cover(size))
    natural_shape(
        pathlib.Path(source.files[0]), source.files[0]
    )  # a broken first file is reported at once
    return CaptionedImages(in_memory(source), tuple(captions.values()))


def read_captions(file: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """File name of each image -> its captions, of a JSON file as COCO has it: an object with
    `images`, each with an id and a file_name, and `annotations`, each with an image_id and a
    caption; everything else in it is passed over. Images are in the order of the file, captions on
    one line.

    Raises UserError where it is something else, an annotation is of no image, or an image has no
    caption.
    """
    content = read_json(file, _Captions)
    images, annotations = content["images"], content["annotations"]
    names = {image["id"]: image["file_name"] for image in images}
    if len(names) < len(images) or len(set(names.values())) < len(images):
        raise UserError(f"{file} has an image twice, by its id or its file_name; remove one")
    found: dict[Any, list[str]] = {key: [] for key in names}
    for n, annotation in enumerate(annotations):
        key, caption = annotation["image_id"], annotation["caption"]
        if key not in found:
            raise UserError(
                f"{file}: annotations[{n}] is of image {key!r}, which is not among its images;"
                " mend or remove it"
            )
        if caption := " ".join(caption.split()):
            found[key].append(caption)
    for key, own in found.items():
        if not own:
            raise UserError(f"{file}: image {names[key]!r} has no caption; add one or remove it")
    if not names:
        raise UserError(f"{file} has no images; expected some with captions")
    return {names[key]: tuple(own) for key, own in found.items()}


class _Image(TypedDict):
    id: int | str
    file_name: str


class _Caption(TypedDict):
    image_id: int | str
    caption: str


class _Captions(TypedDict):
    images: list[_Image]
    annotations: list[_Caption]

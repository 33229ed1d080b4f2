"""Keypoints of persons as OpenPose and COCO write them, and pairs of photographs of one person in
two poses.

Keypoints are (18, 3), see `advdl.data.persons`: (x, y, seen), pixels from the upper left corner of
the image they belong to.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from advdl.data.decode import natural_size
from advdl.data.folder import FolderSource
from advdl.data.persons import PERSONS, figures
from advdl.data.selection import split_validation
from advdl.data.source import Source
from advdl.data.views import View, cover
from advdl.errors import UserError, as_user_error, nearest
from advdl.reading import convert, exists, expand, is_folder, read_json

LEAST = 4  # keypoints that make a pose
FARTHEST = 1e6  # pixels; places beyond are damage
COCO = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""Which of COCO's 17 keypoints each of ours is; it has no neck, which is put between the
shoulders."""
BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""Which of OpenPose's 25."""


def parse_keypoints(values: Any, name: str) -> np.ndarray:
    """(18, 3) float32 of a list of x, y, confidence for each keypoint: COCO's 17, OpenPose's 18 or
    25. A confidence of 0 says that the keypoint was not found. Raises UserError, about `name`, for
    another skeleton, or what are not finite numbers."""
    with as_user_error(f"see the keypoints of {name}"):
        flat = np.array(convert(list[float], values, f"{name}: keypoints"))
    order = {51: COCO, 54: tuple(range(18)), 75: BODY_25}.get(flat.size)
    if order is None:
        raise UserError(
            f"{name} has {flat.size / 3:g} keypoints of x, y, confidence; expected 17 as COCO has"
            " them, or OpenPose's 18 or 25"
        )
    if np.abs(flat).max() > FARTHEST:
        raise UserError(f"{name} has a keypoint at {np.abs(flat).max():g}; expected pixels")
    given = flat.reshape(-1, 3)
    found = np.stack([given[n] if n is not None else np.zeros(3) for n in order])
    if order is COCO:
        right, left = found[2], found[5]
        found[1] = [*(right[:2] + left[:2]) / 2, min(right[2], left[2])]
    found[:, 2] = found[:, 2] > 0
    found[found[:, 2] == 0] = 0
    if found[:, 2].sum() < LEAST:
        raise UserError(
            f"{name} has {found[:, 2].sum():.0f} keypoints that were found; at least {LEAST} make a"
            " pose"
        )
    return found.astype(np.float32)


def read_pose(path: str | pathlib.Path) -> np.ndarray:
    """The first person's keypoints of a file that OpenPose wrote (`people`, `pose_keypoints_2d`) or
    of one in the manner of COCO (`annotations`, `keypoints`). Raises UserError for what cannot be
    read, has nobody, or has another skeleton."""
    content = read_json(path, _People)
    for people, values in (("people", "pose_keypoints_2d"), ("annotations", "keypoints")):
        if people in content:
            for person in content[people]:
                if values in person:
                    return parse_keypoints(person[values], str(path))
            raise UserError(f"{path} has nobody in it: {people} has no {values}")
    raise UserError(
        f"{path} has neither people, as OpenPose writes them, nor annotations, as COCO has them"
    )


def view_keypoints(view: View, keypoints_K3: np.ndarray, height: int, width: int) -> np.ndarray:
    """Keypoints of an image of this size where a view without randomness puts them; what falls
    outside is not seen."""
    top, left, tall, wide = view.box(height, width, np.empty(0))
    found = np.array(keypoints_K3, np.float32)
    found[:, 0] = (found[:, 0] - left) * view.size[1] / wide
    found[:, 1] = (found[:, 1] - top) * view.size[0] / tall
    inside = (
        (found[:, :2] >= 0).all(1) & (found[:, 0] <= view.size[1]) & (found[:, 1] <= view.size[0])
    )
    found[~inside] = 0
    return np.where(found[:, 2:] > 0, found, 0)


class PosePairs(Source):
    """Photographs of persons, two by two: `{"image", "target"}` uint8 (B, H, W, 3) and
    `{"keypoints", "target_keypoints"}` float32 (B, 18, 3); a row for each ordered pair of images of
    one person.

    `PATH/split/PERSON/*.jpg|png`, and the keypoints of each image either in `NAME_keypoints.json`
    beside it, as OpenPose writes them, or in `PATH/split/keypoints.json` in the manner of COCO,
    whose `file_name` is `PERSON/NAME.jpg`. Images in which nobody was found (no such file or
    annotation) are left out. Raises UserError for what is not there, for another skeleton, and
    where no person has two images.
    """

    def __init__(self, path: str, split: str, size: tuple[int, int]):
        view = cover(size)
        self._persons = FolderSource(path, split, view=view, channels=3)
        self.name, self.split, self.image_shape, self.broken = (
            self._persons.name,
            split,
            (*size, 3),
            self._persons.broken,
        )
        root = expand(path) / split
        listed = _listed(root / "keypoints.json") if exists(root / "keypoints.json") else None
        self._keypoints, members = {}, {}
        for row, (file, person) in enumerate(
            zip(self._persons.files, self._persons.labels, strict=True)
        ):
            found = _keypoints(pathlib.Path(file), root, listed)
            if found is not None:
                self._keypoints[row] = view_keypoints(view, found, *natural_size(file))
                members.setdefault(int(person), []).append(row)
        self._pairs = np.array(
            [(a, b) for own in members.values() for a in own for b in own if a != b], np.int64
        )
        if not len(self._pairs):
            raise UserError(
                f"{root} has no person with two images whose keypoints are known; see `PosePairs`"
            )

    @property
    def persons(self) -> np.ndarray:
        """Whom each pair is of, (N,)."""
        return np.asarray(self._persons.labels)[self._pairs[:, 0]]

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        self.uniforms(rows, u)
        image, target = self._pairs[rows].T

        def of(rows):
            return np.stack([self._keypoints[row] for row in rows])

        found = {
            "image": self._persons.read(image)["image"],
            "target": self._persons.read(target)["image"],
        }
        return {**found, "keypoints": of(image), "target_keypoints": of(target)}


def _listed(path: pathlib.Path) -> dict[str, Any]:
    """file_name -> keypoints, of a file in the manner of COCO."""
    content = read_json(path, _Listed)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for n, one in enumerate(content["annotations"]):
        if one["image_id"] not in names:
            raise UserError(f"{path}: annotations[{n}] is of an image that is not among its images")
    return {names[one["image_id"]]: one["keypoints"] for one in reversed(content["annotations"])}


class _Person(TypedDict, total=False):
    pose_keypoints_2d: list[float]
    keypoints: list[float]


class _People(TypedDict, total=False):
    people: list[_Person]
    annotations: list[_Person]


class _Image(TypedDict):
    id: int | str
    file_name: str


class _Annotation(TypedDict):
    image_id: int | str
    keypoints: list[float]


class _Listed(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]


def _keypoints(
    file: pathlib.Path, root: pathlib.Path, listed: Mapping[str, Any] | None
) -> np.ndarray | None:
    """Of one image; None where nobody was found in it."""
    if listed is not None:
        name = file.relative_to(root).as_posix()
        return parse_keypoints(listed[name], f"keypoints of {name}") if name in listed else None
    beside = file.with_name(f"{file.stem}_keypoints.json")
    return read_pose(beside) if exists(beside) else None


def open_pairs(spec: str, split: str, size: tuple[int, int]) -> Source:
    """Pairs that a person named: `figures`, drawn persons, or `folder:PATH` (`PosePairs`); images
    of this size (H, W). The splits are train, val and test. Where there is no `PATH/val`, a tenth
    of the persons of `PATH/train` are held out for it.

    Raises UserError for a name, folder, split or size that is not there.
    """
    kind, _, rest = spec.partition(":")
    if split not in PERSONS:
        raise UserError(
            f"no split {split!r}; there are {', '.join(PERSONS)}{nearest(split, PERSONS)}"
        )
    if kind == "folder" and rest:
        if split == "test" or is_folder(expand(rest) / "val"):
            return PosePairs(rest, split, size)
        pairs = PosePairs(rest, "train", size)
        return split_validation(pairs, 0.1, groups=pairs.persons)[split == "val"]
    if spec != "figures":
        known = ["figures", "folder:PATH"]
        raise UserError(f"no pairs {spec!r}; there are {', '.join(known)}{nearest(spec, known)}")
    return figures(split, size)

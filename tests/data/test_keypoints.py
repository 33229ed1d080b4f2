"""Keypoints as OpenPose and COCO write them, and pairs of photographs of one person."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from advdl import data
from advdl.data.keypoints import parse_keypoints
from advdl.data.persons import KEYPOINTS
from advdl.errors import UserError

COCO_NAMES = (
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
)
BODY_25_NAMES = (
    *KEYPOINTS[:8],
    "middle of the hips",
    *KEYPOINTS[8:18],
    "left big toe",
    "left small toe",
    "left heel",
    "right big toe",
    "right small toe",
    "right heel",
)


def written(names):
    """Each name at a place of its own."""
    place = {name: (10 * n + 1, 10 * n + 2) for n, name in enumerate(KEYPOINTS)}
    return [number for name in names for number in (*place.get(name, (7, 7)), 1)]


@pytest.mark.parametrize("names", [KEYPOINTS, COCO_NAMES, BODY_25_NAMES], ids=len)
def test_every_skeleton_becomes_ours_by_name(names):
    found = parse_keypoints(written(names), "here")
    for n, name in enumerate(KEYPOINTS):
        if name in names:
            assert tuple(found[n]) == (10 * n + 1, 10 * n + 2, 1), name
    if "neck" not in names:
        np.testing.assert_allclose(found[1, :2], (found[2, :2] + found[5, :2]) / 2)


def test_what_was_not_found_is_not_seen():
    values = written(COCO_NAMES)
    values[3 * COCO_NAMES.index("left shoulder") + 2] = 0
    found = parse_keypoints(values, "here")
    assert (
        not found[5].any() and not found[1].any() and found[2, 2] == 1
    )  # no neck without a shoulder


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1.0] * 63, "has 21 keypoints.*expected 17"),
        ([0.0] * 54, "0 keypoints that were found"),
        ([float("inf")] * 54, r"keypoints\[0\] is inf; expected a finite number"),
        (["x"] * 54, r"keypoints\[0\] is 'x'; expected a finite number"),
        ([10**400] * 54, r"keypoints\[0\] is"),
        ([1e30] * 54, "a keypoint at 1e.30"),
        ({}, "keypoints is an object; expected a list"),
    ],
)
def test_another_skeleton_is_told(values, line):
    with pytest.raises(UserError, match=f"^here.*{line}"):
        parse_keypoints(values, "here")


def test_files_of_both_kinds_are_read(tmp_path):
    path = tmp_path / "pose.json"
    for content in (
        {"people": [{"pose_keypoints_2d": written(KEYPOINTS)}]},
        {"annotations": [{"keypoints": written(COCO_NAMES)}]},
    ):
        path.write_text(json.dumps(content))
        assert data.read_pose(path)[3, 0] == 31
    for content, line in (
        ({"people": []}, "has nobody"),
        ({"x": 1}, "neither people"),
        ([], "it is a list; expected an object"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=line):
            data.read_pose(path)


@pytest.fixture
def photographs(tmp_path):
    """Three images of one person and two of another, each of one gray and with its keypoints; and
    one without."""
    images, annotations = [], []
    for person, count in (("0001", 3), ("0002", 2)):
        (tmp_path / "train" / person).mkdir(parents=True)
        for n in range(count):
            Image.new("RGB", (40, 60), (60 * n + 20,) * 3).save(
                tmp_path / "train" / person / f"{n}.png"
            )
            images.append({"id": len(images), "file_name": f"{person}/{n}.png"})
            annotations.append({"image_id": len(images) - 1, "keypoints": [10 + n, 30, 2] * 17})
    Image.new("RGB", (40, 60)).save(tmp_path / "train" / "0001" / "nobody.png")
    (tmp_path / "train" / "keypoints.json").write_text(
        json.dumps({"images": images, "annotations": annotations})
    )
    return tmp_path


def test_pairs_are_of_one_person_in_two_images(photographs):
    pairs = data.PosePairs(str(photographs), "train", (30, 20))
    assert len(pairs) == 3 * 2 + 2 * 1 and pairs.image_shape == (30, 20, 3)
    found = pairs.read(np.arange(len(pairs)))
    assert (found["image"] != found["target"]).any((1, 2, 3)).all()
    for image, keypoints in (("image", "keypoints"), ("target", "target_keypoints")):
        n = (found[image][:, 0, 0, 0].astype(int) - 20) // 60
        np.testing.assert_allclose(
            found[keypoints][:, 3], np.stack([(10 + n) / 2, 15 + 0 * n, 1 + 0 * n], 1)
        )


def test_a_person_is_either_trained_on_or_validated_on(photographs):
    spec, parts = f"folder:{photographs}", {}
    for part in ("train", "val"):
        pairs = data.open_pairs(spec, part, (30, 20))
        parts[part] = pairs.read(np.arange(len(pairs)))["keypoints"]
    assert sorted(map(len, parts.values())) == [2, 6]
    shutil.copytree(photographs / "train", photographs / "val")
    assert len(data.open_pairs(spec, "val", (30, 20))) == 8
    assert len(data.open_pairs(spec, "train", (30, 20))) == 8


def test_keypoints_lie_beside_the_images_as_openpose_writes_them(photographs):
    (photographs / "train" / "keypoints.json").unlink()
    for n in range(2):
        people = [{"pose_keypoints_2d": [10 + n, 30, 0.5] * 18}]
        (photographs / "train" / "0002" / f"{n}_keypoints.json").write_text(
            json.dumps({"people": people})
        )
    assert len(data.PosePairs(str(photographs), "train", (30, 20))) == 2


def test_what_a_view_leaves_out_is_not_seen():
    keypoints = np.array([[5.0, 5, 1], [50, 5, 1], [95, 5, 1]])
    found = data.view_keypoints(data.cover((10, 10)), keypoints, 10, 100)
    np.testing.assert_allclose(found, [[0, 0, 0], [5, 5, 1], [0, 0, 0]])


def test_pairs_that_are_not_there_are_told(photographs):
    for spec, split, line in (
        ("figurs", "train", "nearest: figures"),
        ("figures", "dev", "no split 'dev'"),
        (f"folder:{photographs}", "test", "no folder"),
    ):
        with pytest.raises(UserError, match=line):
            data.open_pairs(spec, split, (32, 32))
    (photographs / "train" / "keypoints.json").write_text(
        json.dumps({"images": [], "annotations": []})
    )
    with pytest.raises(UserError, match="no person with two images"):
        data.open_pairs(f"folder:{photographs}", "train", (32, 32))
    (photographs / "train" / "keypoints.json").write_text(json.dumps({"images": 3}))
    with pytest.raises(UserError, match="keypoints.json: annotations is missing"):
        data.open_pairs(f"folder:{photographs}", "train", (32, 32))

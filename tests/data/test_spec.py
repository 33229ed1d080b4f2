"""A spec comes back as it was stored, and whatever else lies in its file is refused in one line."""

import dataclasses

import numpy as np
import pytest

from advdl import data
from advdl.errors import UserError

SPEC = data.ImageSpec((8, 6, 1), ("a", "b"), low=0.0)


@dataclasses.dataclass(frozen=True)
class NestedSpec(data.Spec):
    image: data.ImageSpec
    words: tuple[str, ...]
    rate: float | None = None


@pytest.mark.parametrize(
    "spec", [SPEC, NestedSpec(SPEC, ("x",)), NestedSpec(SPEC, (), 2.0)], ids=str
)
def test_a_spec_comes_back_equal(spec):
    import json

    assert data.Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "change, said",
    [
        ({"kind": "Nothing"}, "Nothing"),
        ({"shape": [8, 6]}, "shape"),
        ({"shape": [8, 6, "1"]}, "shape"),
        ({"shape": [8, 6, True]}, "shape"),
        ({"label_names": "ab"}, "label_names"),
        ({"label_names": [1]}, "label_names"),
        ({"low": "0"}, "low"),
        ({"low": None}, "low"),
        ({"low": 10**400}, "low"),
        ({"low": float("nan")}, "low"),
        ({"shape": [8, 6, 2**60]}, "shape"),
    ],
)
def test_what_is_no_spec_is_refused(change, said):
    with pytest.raises(UserError, match=f"F.json describes no data.*{said}"):
        data.Spec.from_json(SPEC.to_json() | change, "F.json")


@pytest.mark.parametrize(
    "image",
    [
        None,
        {},
        {"shape": [1, 1, 1], "more": 1},
        {"shape": [1, 1, 1], "kind": "NestedSpec"},
        {"shape": [1, 1, "x"]},
        {"_kinds": {}},
    ],
)
def test_a_part_that_is_no_spec_is_refused(image):
    stored = NestedSpec(SPEC, ()).to_json()
    with pytest.raises(UserError, match="F.json describes no data: image"):
        NestedSpec.from_json(stored | {"image": image}, "F.json")


def test_a_spec_of_another_kind_is_refused():
    with pytest.raises(UserError, match="its kind is 'ImageSpec'"):
        NestedSpec.from_json(SPEC.to_json())


@pytest.mark.parametrize("stored", [None, 3, [], "x", {}, {"kind": "ImageSpec"}])
def test_another_json_value_is_refused(stored):
    with pytest.raises(UserError):
        data.Spec.from_json(stored)


def test_a_batch_of_the_stored_shapes_has_them():
    batch = {"image": np.zeros((6, 4, 4, 1), np.float32), "label": np.zeros(6, np.int32)}
    shapes = data.shapes_of(batch, 2)
    made = data.batch_of(shapes, 4)
    assert made["image"].shape == (12, 4, 4, 1) and made["image"].dtype == np.float32
    assert made["label"].shape == (12,) and made["label"].dtype == np.int32
    for broken in (None, {"image": 3}, {"image": [1, "x", "float32"]}, {"image": [1, [2], "no"]}):
        with pytest.raises(UserError):
            data.batch_of(broken, 4)


def test_splits_open_what_is_asked_for_once():
    opened = []

    def part(name):
        return lambda spec: opened.append((name, spec)) or name

    def splits():
        opened.clear()
        return data.Splits(lambda: opened.append("spec") or SPEC, part("train"), {"val": part("v")})

    own = splits()
    assert own.train == own.train == "train" and opened == ["spec", ("train", SPEC)]
    own = splits().given(SPEC)
    assert own.evaluations["val"] == own.evaluations["val"] == "v"
    assert opened == [("v", SPEC)] and list(own.evaluations) == ["val"]


def test_splits_of_sources_train_on_one_and_evaluate_on_every_example_of_the_others():
    def source(name, count):
        return lambda: data.ArraySource(name, name, {"x": np.arange(count)})

    sources = {"train": source("train", 6), "val": source("val", 5), "test": source("test", 4)}
    splits = data.Splits.of_sources(lambda: SPEC, sources, 3, 0)
    assert sorted(np.concatenate([splits.train(t)["x"] for t in range(2)])) == list(range(6))
    assert list(splits.evaluations) == ["val", "test"] and splits.spec is SPEC
    batches = [splits.evaluations["val"][n] for n in range(2)]
    assert np.concatenate([batch["x"][batch["mask"] > 0] for batch in batches]).tolist() == [
        *range(5)
    ]

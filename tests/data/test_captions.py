"""Captions: scenes with one right sentence, COCO's JSON as it is and as it should not be, one
caption a draw."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from advdl import data
from advdl.errors import UserError

SENTENCE = re.compile(
    rf"({'|'.join(data.captions.NUMERALS)})(?: (left of|above)"
    rf" ({'|'.join(data.captions.NUMERALS)}))?"
)


def write(root, part="train", captions=(("a cat", "the cat sits"), ("two dogs",)), **changes):
    """A folder as COCO's; changes: of the JSON's parts."""
    (root / part).mkdir(parents=True, exist_ok=True)
    images = [{"id": 10 * n, "file_name": f"{n}.png", "license": 3} for n in range(len(captions))]
    notes = [
        {"id": m, "image_id": 10 * n, "caption": text}
        for n, own in enumerate(captions)
        for m, text in enumerate(own)
    ]
    for n in range(len(captions)):
        pixels = np.full((9, 12, 3), 40 * (n + 1), np.uint8)
        Image.fromarray(pixels).save(root / part / f"{n}.png")
    content = {"info": {}, "images": images, "annotations": notes} | changes
    (root / f"captions_{part}.json").write_text(json.dumps(content))
    return root


def test_a_scene_has_one_right_sentence_and_is_a_function_of_its_number():
    album = data.captioned_digits("val")
    assert len(album.captions) == len(album.images) == 500
    found = [SENTENCE.fullmatch(own[0]) for own in album.captions]
    assert all(found) and all(len(own) == 1 for own in album.captions)
    relations = [match[2] for match in found]
    assert set(relations) == {None, "left of", "above"} and 50 < relations.count(None) < 150
    again = data.captioned_digits("val", count=3)
    np.testing.assert_array_equal(
        again.images.read(np.arange(3))["image"], album.images.read(np.arange(3))["image"]
    )
    assert (
        again.captions == album.captions[:3]
        and data.captioned_digits("test", count=3).captions != again.captions
    )


def test_a_sentence_says_what_was_drawn_and_where(monkeypatch):
    """From the counters as they are drawn, by the rule in the other direction."""
    found = data.digits("train").read(np.arange(1433))
    label = {
        image.tobytes(): int(k) for image, k in zip(found["image"], found["label"], strict=True)
    }
    scenes, (draw, finish) = [[]], (data.captions.draw_counter, data.captions.grainy)

    def drawn(image, middle, radius, picture, *rest):
        scenes[-1].append((*middle, radius, label[picture.tobytes()]))
        return draw(image, middle, radius, picture, *rest)

    monkeypatch.setattr(data.captions, "draw_counter", drawn)
    monkeypatch.setattr(
        data.captions, "grainy", lambda rng, image: (scenes.append([]), finish(rng, image))[1]
    )
    album = data.captioned_digits("train", count=80)
    for counters, (sentence,) in zip(scenes[:-1], album.captions, strict=True):
        assert all(r <= side <= 64 - r for y, x, r, _ in counters for side in (y, x))
        if len(counters) == 2:
            (y, x, first, _), (v, u, second, _) = counters
            assert np.hypot(y - v, x - u) > first + second  # they do not touch
            assert max(abs(x - u), abs(y - v)) >= 2 * min(abs(x - u), abs(y - v))  # nor lie askew
            beside = abs(x - u) > abs(y - v)
            counters = sorted(counters, key=lambda one: one[1] if beside else one[0])
        words = [data.captions.NUMERALS[counter[3]] for counter in counters]
        assert sentence == (
            words[0] if len(words) == 1 else f" {'left of' if beside else 'above'} ".join(words)
        )


def test_single_counters_are_one_each_with_its_digit(monkeypatch):
    found = data.digits("train").read(np.arange(1433))
    label = {
        image.tobytes(): int(k) for image, k in zip(found["image"], found["label"], strict=True)
    }
    drawn, draw = [], data.captions.draw_counter

    def spy(image, middle, radius, picture, *rest):
        drawn.append((*middle, radius, label[picture.tobytes()]))
        return draw(image, middle, radius, picture, *rest)

    monkeypatch.setattr(data.captions, "draw_counter", spy)
    source = data.single_counters("train", count=60)
    batch = source.read(np.arange(60))
    assert batch["image"].shape == (60, 64, 64, 1) and len(drawn) == 60
    assert (
        batch["label"].tolist() == [digit for *_, digit in drawn] and len(set(batch["label"])) == 10
    )
    assert all(r <= side <= 64 - r for y, x, r, _ in drawn for side in (y, x))
    middles = np.array(drawn)[:, :2]
    assert middles.min() < 20 and middles.max() > 44  # anywhere
    again = data.single_counters("train", count=3).read(np.arange(3))["image"]
    np.testing.assert_array_equal(again, batch["image"][:3])


def test_digits_of_the_parts_have_none_in_common(monkeypatch):
    used = {}
    draw = data.captions.draw_counter
    for part, count in (("train", 150), ("val", 150), ("test", 150)):
        seen = used[part] = set()

        def drawn(image, middle, radius, picture, *rest, seen=seen):
            seen.add(picture.tobytes())
            return draw(image, middle, radius, picture, *rest)

        monkeypatch.setattr(data.captions, "draw_counter", drawn)
        data.captioned_digits(part, count=count)
        data.single_counters(part, count=count)
    assert min(map(len, used.values())) > 50
    assert not (
        used["train"] & used["val"] or used["train"] & used["test"] or used["val"] & used["test"]
    )


def spec(album, longest):
    return data.CaptionSpec.of(album, 1, longest).text


def test_a_folder_is_read_with_all_its_captions(tmp_path):
    write(tmp_path), write(tmp_path, "val", (("a  cat\n",),))
    name = f"folder:{tmp_path}"
    assert data.caption_parts(name) == ("train", "val")
    album, held_out = (data.open_captions(name, part, 6) for part in ("train", "val"))
    write(tmp_path, "test")
    assert data.caption_parts(name) == data.caption_parts("digit_scenes") == data.captions.PARTS
    assert held_out.captions == (("a cat",),) and album.captions == (
        ("a cat", "the cat sits"),
        ("two dogs",),
    )
    words = spec(album, 2)
    source = data.CaptionSource(album, words, False)
    batch = data.EvalBatches(source, 4)[0]
    assert batch["image"].shape == (4, 6, 6, 3) and (batch["image"][:2, 0, 0, 0] == [40, 80]).all()
    assert (
        batch["caption"].shape == (4, 2, 4)
        and batch["mask"].tolist() == [1, 1, 0, 0]
        and source.cut == 1
    )
    a, cat, the, two, dogs = words.encode("a cat the two dogs")
    assert batch["caption"][0].tolist() == [
        [data.BEGIN, a, cat, data.END],
        [data.BEGIN, the, cat, 0],
    ]  # cut: no end is taught
    assert batch["caption"][1].tolist() == [[data.BEGIN, two, dogs, data.END], [0] * 4]
    assert batch["caption_length"][:2].tolist() == [[4, 3], [4, 0]]


def test_a_draw_has_one_caption_by_its_own_number_and_a_batch_is_a_function_of_seed_and_step():
    captions = tuple(tuple(f"word{n} is{m}" for m in range(n % 3 + 1)) for n in range(6))
    images = data.ArraySource(
        "x", "train", {"image": np.zeros((6, 2, 2, 1), np.uint8), "label": np.zeros(6)}
    )
    album = data.CaptionedImages(images, captions)

    def make():
        return data.TrainBatches(data.CaptionSource(album, spec(album, 3), drawn=True), 6, seed=1)

    first, second = make(), make()
    words, seen = spec(album, 3), set()
    for t in range(40):
        batch = first(t)
        for row, ids in zip(batch["index"], batch["caption"], strict=True):
            text = words.decode(ids)
            assert text in captions[row]
            seen.add(text)
    assert seen == {text for own in captions for text in own}
    for name, value in second(7).items():
        np.testing.assert_array_equal(value, first(7)[name])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"images": 3}, "images is 3; expected a list"),
        ({"images": [{"id": 1}]}, "images[0].file_name is missing"),
        ({"images": [7]}, "images[0] is 7; expected an object"),
        (
            {"images": [{"id": [1], "file_name": "0.png"}]},
            "images[0].id is a list; expected a whole number or a text",
        ),
        (
            {"images": [{"id": 1, "file_name": "0.png"}, {"id": 1, "file_name": "1.png"}]},
            "has an image twice",
        ),
        ({"images": [], "annotations": []}, "has no images"),
        ({"annotations": [{"image_id": 4, "caption": "a"}]}, "annotations[0] is of image 4"),
        (
            {"annotations": [{"image_id": 0, "caption": 5}]},
            "annotations[0].caption is 5; expected a text",
        ),
        ({"annotations": [{"image_id": 0, "caption": "a"}]}, "image '1.png' has no caption"),
        ({"annotations": [{"image_id": 0, "caption": " \n"}]}, "image '0.png' has no caption"),
        (
            {
                "images": [{"id": 0, "file_name": "../captions_train.json"}],
                "annotations": [{"image_id": 0, "caption": "a"}],
            },
            "names the image '../captions_train.json', which is not in",
        ),
    ],
)
def test_what_is_not_cocos_json_is_told_in_one_line(tmp_path, changes, line):
    write(tmp_path, "val")
    with pytest.raises(UserError, match=re.escape(line)) as told:
        data.open_captions(f"folder:{write(tmp_path, **changes)}", "train")
    assert "\n" not in str(told.value) and "captions_train.json" in str(told.value)


def test_broken_files_are_told_in_one_line(tmp_path):
    write(tmp_path), write(tmp_path, "val")
    file = tmp_path / "captions_train.json"
    whole = file.read_text()
    wrong = {
        b"{": "is not JSON",
        b"\xff\xfe": "is not JSON",
        b"[" * 100_000: "is not JSON",
        b"[]": "it is a list; expected an object",
    }
    for damage, line in wrong.items():
        file.write_bytes(damage)
        with pytest.raises(UserError, match=line):
            data.open_captions(f"folder:{tmp_path}", "train")
    file.write_text(whole)
    (tmp_path / "train" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    source = data.open_captions(f"folder:{tmp_path}", "train").images
    with pytest.raises(UserError, match="1.png does not decode"):
        source.read(np.arange(2))
    (tmp_path / "train" / "0.png").unlink()
    with pytest.raises(UserError, match="'0.png', which is not in"):
        data.open_captions(f"folder:{tmp_path}", "train")
    file.unlink()
    with pytest.raises(UserError, match="cannot read .*captions_train.json"):
        data.open_captions(f"folder:{tmp_path}", "train")


@pytest.mark.parametrize(
    ("name", "size", "line"),
    [
        ("digit_scene", 0, "nearest: digit_scenes"),
        ("folder:/nowhere", 0, "no folder /nowhere"),
        ("digit_scenes", 32, "no room for two digits"),
    ],
)
def test_what_is_not_there_is_told(name, size, line):
    with pytest.raises(UserError, match=line):
        data.open_captions(name, "train", size)

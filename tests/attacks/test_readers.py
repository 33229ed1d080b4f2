"""Whatever bytes say, a reader gives what they mean or one line, and nothing else.

Each kind of file is tried with bytes of no meaning, with whole files in which a few bytes were
changed, taken out or doubled, and with JSON of any structure.
"""

import contextlib
import io
import json
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from advdl import data, reading, train, weights
from advdl.data.captions import read_captions
from advdl.data.keypoints import PosePairs
from advdl.data.masks import coding, decode_mask
from advdl.errors import UserError
from advdl.weights.vectors import read_vectors

pytestmark = pytest.mark.scale
fuzzed = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
RNG = np.random.default_rng(0)
STROKE = {"kind": "color", "color": [255, 0, 0], "points": [[1, 2], [5, 2]], "radius": 1}
POSE = [10.0, 30.0, 2.0] * 17
CAPTIONS = {
    "images": [{"id": 1, "file_name": "1.png"}],
    "annotations": [{"image_id": 1, "caption": "a"}],
}


def image(form, mode="RGB", **options):
    content = io.BytesIO()
    pixels = RNG.integers(0, 4, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(content, form, **options)
    return content.getvalue()


def exif():
    found = Image.Exif()
    found[0x0112], found[0x8298] = 6, "a text"
    return found.tobytes()


def wav(bits, kind=1):
    body = RNG.integers(0, 256, 16 * bits // 8, dtype=np.uint8).tobytes()
    form = struct.pack("<HHIIHH", kind, 1, 8000, 8000 * bits // 8, bits // 8, bits)
    parts = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WAVE" + parts


def archive():
    """As torch.save writes it, with a state dictionary of no tensor and one of plain values."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        file.writestr("net/data.pkl", pickle.dumps({"state_dict": {"a": [1, 2.5, "x"]}}, 2))
        file.writestr("net/byteorder", "little")
        file.writestr("net/data/0", bytes(24))
    return content.getvalue()


def sequence():
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"a": 1}, [])
    return b"".join(pickle.dumps(part, 2) for part in parts)


def poses(path):
    """Keypoints of a whole folder, in the manner of COCO."""
    person = path.parent / "train" / "person"
    if not person.exists():
        person.mkdir(parents=True)
        for n in range(2):
            (person / f"{n}.png").write_bytes(IMAGES[0])
    (path.parent / "train" / "keypoints.json").write_bytes(path.read_bytes())
    PosePairs(str(path.parent), "train", (8, 8))


IMAGES = [
    *(image(form) for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "EPS")),
    image("JPEG", exif=exif()),
    image("PNG", exif=exif()),
    image("WEBP", exif=exif()),
    image("JPEG", "CMYK"),
    image("PNG", "P", transparency=0),
    image("PNG", "I;16"),
    image("GIF", "P", save_all=True, append_images=[Image.new("P", (8, 9))] * 2),
]
CODE = coding(["a", "b", "c", "d"])
JSON = {
    "strokes": (lambda path: data.read_strokes(path, (8, 10, 3)), {"strokes": [STROKE]}),
    "pose": (data.read_pose, {"annotations": [{"keypoints": POSE}]}),
    "OpenPose": (data.read_pose, {"people": [{"pose_keypoints_2d": POSE + POSE[:3]}]}),
    "keypoints": (
        poses,
        {
            "images": [{"id": n, "file_name": f"person/{n}.png"} for n in range(2)],
            "annotations": [{"image_id": n, "keypoints": POSE} for n in range(2)],
        },
    ),
    "captions": (read_captions, CAPTIONS),
    "spec": (
        lambda path: data.Spec.from_json(reading.read_json(path)),
        data.ImageSpec((8, 8, 1), ("a", "b")).to_json(),
    ),
    "config": (
        lambda path: train.Run(path.parent).config("classify"),
        {"experiment": "classify", "config": {"steps": 3, "betas": [0.5, 0.9], "remat": "none"}},
    ),
    "metrics": (train.read_metrics, {"step": 1, "train/loss": 0.5, "note": "nan"}),
}
NAMES = {"config": "config.json"}
FILES = {
    **{name: (read, [json.dumps(whole).encode()]) for name, (read, whole) in JSON.items()},
    "image": (lambda path: data.decode(path, (8, 8, 3)), IMAGES),
    "image's size": (data.natural_size, IMAGES),
    "mask": (lambda path: decode_mask(path, "mask", CODE, (9, 8)), IMAGES),
    "WAV": (
        lambda path: data.read_wav(path, 8000),
        [wav(8), wav(16), wav(24), wav(32), wav(32, 3), wav(64, 3)],
    ),
    "CSV": (
        lambda path: data.read_series(str(path)),
        [b"date,value\n2000-01-01,1\n2000-01-02,2.5\n", b"1\n2\n3\n", b'"a";"b"\r\n"x";1e3\r\n'],
    ),
    "text": (data.read_lines, ["ein Satz\nfünf\r\n".encode()]),
    "vectors": (lambda path: read_vectors(path, ["a", "b"]), [b"a 1 2\nb 3 4\n"]),
    "safetensors": (
        weights.read,
        [safetensors.numpy.save({"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.int8)})],
    ),
    "archive": (weights.read, [archive()]),
    "pickles": (weights.read, [sequence()]),
}
ENDINGS = {"safetensors": ".safetensors", "archive": ".pth", "pickles": ".th", "CSV": ".csv"}


@st.composite
def damaged(draw, wholes):
    """A whole file in which a few bytes are changed, taken out, doubled or cut off."""
    content = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["change", "take", "double", "cut", "put"])):
            case "change" if content:
                content[at] = draw(st.integers(0, 255))
            case "take":
                del content[at : at + draw(st.integers(1, 8))]
            case "double":
                content[at:at] = content[at : at + 8]
            case "cut":
                del content[max(at, len(content) // 2) :]
            case "put":
                content[at:at] = draw(st.binary(max_size=8))
    return bytes(content)


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(2**63), 1e308, 0, -1]),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=5),
    st.sampled_from(["color", "sketch", "warp", "a", "classify", "ImageSpec", "~x", "a\0b"]),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@st.composite
def altered(draw, whole):
    """JSON in which one value at some depth is another, is gone, or has another name."""
    whole = json.loads(json.dumps(whole))
    place, value = None, whole
    while isinstance(value, dict | list) and value and (place is None or draw(st.booleans())):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        place, key = value, draw(st.sampled_from(keys))
        value = place[key]
    if place is None or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    match draw(st.sampled_from(["other", "gone", "renamed"])):
        case "gone":
            del place[key]
        case "renamed" if isinstance(place, dict):
            place[draw(st.text(max_size=4))] = place.pop(key)
        case _:
            place[key] = draw(VALUES)
    return whole


@contextlib.contextmanager
def written(name, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAMES.get(name, f"in{ENDINGS.get(name, '.x')}")
        path.write_bytes(content)
        yield path


def tried(name, content):
    """Whether a reader reads a file; whatever it says otherwise is one line."""
    with written(name, content) as path:
        try:
            FILES[name][0](path)
        except UserError as error:
            line = str(error)
            assert line and "\n" not in line and len(line) < 1000
            line.encode()  # it can be printed
            return False
    return True


@pytest.mark.parametrize("name", FILES)
def test_a_reader_takes_any_bytes_and_gives_one_line(name):
    assert name in ("archive", "pickles") or any(tried(name, whole) for whole in FILES[name][1])

    @fuzzed
    @given(st.binary(max_size=64) | damaged(FILES[name][1]))
    def attempt(content):
        tried(name, content)

    attempt()


@pytest.mark.parametrize("name", JSON)
def test_a_reader_takes_any_json_and_gives_one_line(name):
    @fuzzed
    @given(altered(JSON[name][1]))
    def attempt(content):
        tried(name, json.dumps(content).encode())

    attempt()

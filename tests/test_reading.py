"""What others wrote: files of every kind, folders, and JSON against the kinds that are expected."""

import ast
import contextlib
import dataclasses
import io
import os
import pathlib
import socket
import sys
import threading
from typing import Annotated, Literal, TypedDict

import numpy as np
import pytest
from PIL import Image

import advdl
from advdl import data, reading
from advdl.data.decode import FORMATS, opened
from advdl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str
    sizes: tuple[int, ...] = ()
    rate: Annotated[float, "range"] = 0.5
    kind: Literal["a", 1] = "a"
    much: int | None = None
    pair: tuple[float, str] = (0.0, "")


class Listed(TypedDict, total=False):
    settings: list[Settings]
    figures: dict[str, bool]


def test_json_becomes_what_its_kind_says():
    found = reading.parse_json(
        b'\xef\xbb\xbf{"settings": [{"name": "x", "sizes": [1, 2], "rate": 1, "kind": 1, "pair":'
        b' [1, "p"]}], "figures": {"f": true}, "more": [{}]}',
        "here",
        Listed,
    )
    (settings,) = found["settings"]
    assert settings == Settings("x", (1, 2), 1.0, 1, None, (1.0, "p"))
    assert isinstance(settings.rate, float) and found["figures"] == {"f": True}
    assert "more" not in found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"settings": NaN}', "NaN is not a number"),
        ('{"settings": -Infinity}', "-Infinity is not a number"),
        ("[" * 100_000, "nests too deeply"),
        ('{"settings":' * 100_000, "nests too deeply"),
        ("9" * 5000, "is not JSON"),
        ("[]", "it is a list; expected an object"),
        ('{"settings": {}}', "settings is an object; expected a list"),
        ('{"settings": [{}]}', r"settings\[0\].name is missing"),
        ('{"settings": [{"name": "x", "nam": 1}]}', r"\[0\].nam is unknown \(nearest: name"),
        ('{"settings": [{"name": 1}]}', "name is 1; expected a text"),
        ('{"settings": [{"name": "\\ud800"}]}', "name is .*; expected a text"),
        ('{"settings": [{"name": "x", "sizes": [1, "2"]}]}', r"sizes\[1\] is '2'.*whole number"),
        ('{"settings": [{"name": "x", "sizes": [true]}]}', "True; expected a whole number"),
        ('{"settings": [{"name": "x", "sizes": [9007199254740992]}]}', "expected a whole number"),
        ('{"settings": [{"name": "x", "rate": 1e999}]}', "rate is inf; expected a finite number"),
        ('{"settings": [{"name": "x", "rate": 1' + 400 * "0" + "}]}", "expected a finite number"),
        ('{"settings": [{"name": "x", "kind": true}]}', "True; expected one of a, 1"),
        ('{"settings": [{"name": "x", "much": "1"}]}', "expected a whole number or null"),
        ('{"settings": [{"name": "x", "pair": [1]}]}', "pair is a list; expected a list of 2"),
        ('{"figures": {"f": 1}}', "figures.f is 1; expected true or false"),
    ],
)
def test_json_of_another_kind_is_told_with_its_place(text, line):
    with pytest.raises(UserError, match=line) as told:
        reading.parse_json(text.encode(), "here", Listed)
    assert str(told.value).startswith("here") and len(str(told.value)) < 300


def loop(path):
    path.symlink_to(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(os.path.relpath(path))


def sparse(path):
    with path.open("wb") as file:
        file.truncate(reading.MOST_BYTES + 1)


UNREADABLE = {
    "loop": (loop, "symbolic links"),
    "pipe": (os.mkfifo, "named pipe"),
    "socket": (listening, "No such device or address"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "device"),
    "folder": (pathlib.Path.mkdir, "folder"),
    "huge": (sparse, "bytes, over"),
    "absent": (lambda path: None, "No such file"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize(
    "read",
    [reading.read_bytes, data.natural_size, data.read_series, data.read_strokes],
    ids=lambda read: read.__name__,
)
def test_what_is_no_file_of_bytes_is_refused_and_never_waited_for(
    tmp_path, monkeypatch, kind, read
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.csv"
    make, line = UNREADABLE[kind]
    make(path)
    with pytest.raises(UserError, match=f"in.csv.*{line}"):
        read(path, (8, 8, 3)) if read is data.read_strokes else read(str(path))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("~nosuchuser/x", "home of nobody"),
        ("x" * 300, "File name too long"),
        ("a\0b", "can be no file's name"),
        ("\udcff", "can be no file's name"),
    ],
)
def test_a_name_that_no_file_has_is_told(name, line):
    for read in (reading.read_bytes, reading.is_folder, reading.files, reading.folders):
        with pytest.raises(UserError, match=line):
            read(*((name, [".png"]) if read is reading.files else (name,)))
    for spec in (f"folder:{name}", f"folder:{name}/x"):
        for find in (data.open_source, data.open_scenes, data.open_domains):
            with pytest.raises(UserError, match=line):
                find(spec, "train")
        for find in (data.open_text, data.open_sentences):
            with pytest.raises(UserError, match=line):
                find(spec)


def test_a_name_that_is_not_utf_8_is_told_with_its_folder(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(UserError, match="not UTF-8"):
        reading.folders(tmp_path)


def test_links_out_of_a_folder_and_hidden_files_are_passed_over(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for place in (inside, outside):
        place.mkdir()
        (place / "own.PNG").write_bytes(b"")
    (inside / ".hidden.png").write_bytes(b"")
    (inside / "folder.png").mkdir()
    (inside / "out.png").symlink_to(outside / "own.PNG")
    (inside / "own.png").symlink_to(inside / "own.PNG")
    found = reading.files(inside, [".png"], inside)
    assert [pathlib.Path(path).name for path in found] == ["own.PNG", "own.png"]
    assert len(reading.files(inside, [".png"])) == 3
    assert reading.files(outside, [".png"], inside) == []


def test_text_that_is_not_utf_8_is_refused_with_its_place(tmp_path):
    (tmp_path / "text").write_bytes("fünf\n".encode() + b"caf\xe9\n")
    with pytest.raises(UserError, match=r"byte 9 \(0xe9\), line 2, begins no character"):
        reading.read_text(tmp_path / "text")


@pytest.mark.parametrize("mode", ["EPS", "TIFF", "PPM", "TGA", "ICO", "PDF"])
def test_an_image_of_another_format_is_refused_whatever_it_is_called(tmp_path, monkeypatch, mode):
    """PostScript is handed to no other program."""
    content = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(content, mode)
    (tmp_path / "photo.png").write_bytes(content.getvalue())
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(UserError, match="photo.png does not decode.*expected PNG, JPEG"):
        data.decode(tmp_path / "photo.png", (16, 16, 3))
    with pytest.raises(UserError, match="the page's does not decode"):
        data.decode_view(content.getvalue(), "the page's", (16, 16, 3), None)


@pytest.mark.parametrize("mode", FORMATS)
def test_the_formats_that_are_named_are_read(tmp_path, mode):
    content, red = io.BytesIO(), Image.new("RGB", (16, 16), "red")
    more = {"append_images": [Image.new("RGB", (16, 16))]} if mode == "GIF" else {}
    red.save(content, mode, **more)
    found = data.decode_view(content.getvalue(), "it", (16, 16, 3), None)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() < 10


@pytest.mark.slow
def test_every_image_is_opened_with_the_formats_named():
    root = pathlib.Path(advdl.__file__).parent
    calls = [
        (file, {keyword.arg for keyword in node.keywords})
        for file in [*root.rglob("*.py"), *(root.parent / "experiments").glob("*.py")]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert calls and all("formats" in given for _, given in calls), calls


def test_so_many_pixels_are_decoded_at_a_time_over_all_threads(tmp_path, monkeypatch):
    decode = sys.modules[opened.__module__]
    monkeypatch.setattr(decode, "_left", 500)
    lock, now, most = threading.Lock(), 0, 0
    path = tmp_path / "in.png"
    Image.new("L", (20, 10)).save(path)

    def look(image):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        if threading.current_thread().name.endswith("3"):
            raise ValueError("what fails gives its room back")

    def decoded():
        with contextlib.suppress(UserError):
            opened(path, "in", look)

    threads = [threading.Thread(target=decoded, name=str(n)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2 and decode._left == 500


def test_standard_input_is_utf_8_whatever_its_encoding_is_said_to_be(monkeypatch):
    def given(content):
        stream = io.TextIOWrapper(io.BytesIO(content), encoding="ascii")
        monkeypatch.setattr("sys.stdin", stream)
        return reading.standard_input()

    assert given("fünf\r\nsechs \u2028\n".encode()) == ["fünf", "sechs \u2028"]
    with pytest.raises(UserError, match="standard input is not UTF-8: byte 5 .*line 2"):
        given(b"four\n\xff")

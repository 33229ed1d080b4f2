"""The page says what it was given and nothing else; the reader of metrics forgives a kill and
nothing else."""

import html.parser
import json
import math
import urllib.parse

import numpy as np
import pytest

from advdl import present
from advdl.errors import UserError
from advdl.present import Picture, Section

NASTY = "<script>alert('x')</script> & \"quotes\""


class Page(html.parser.HTMLParser):
    """Tags in order, texts, attributes; refuses tags that do not match."""

    VOID = {"meta", "img", "br"}

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.images, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data)


@pytest.fixture
def folder(tmp_path):
    present.draw_grid(np.ones((1, 8, 8, 1)), tmp_path / "report" / "deep er" / "50 % #1.png")
    present.draw_grid(np.zeros((2, 8, 8, 1)), tmp_path / "report" / "plain.png")
    return tmp_path / "report"


def test_everything_given_is_on_the_page_and_escaped(folder):
    summary = {
        NASTY: NASTY,
        "nested": {"loss": 0.123456, "inner": {"steps": 12345}},
        "none": None,
        "list": [1, 2.5],
    }
    sections = [
        Section(NASTY, f"first\n\n{NASTY}", ["plain.png"]),
        Section("B", "", [Picture("plain.png", NASTY)], {"accuracy": 0.98765}),
    ]
    page = Page(present.write_report(folder, NASTY, summary, sections))
    assert "script" not in page.tags
    assert page.texts == [
        *(NASTY, NASTY, NASTY, NASTY),  # title, heading, a name and its value
        *("nested loss", "0.1235", "nested inner steps", "12,345", "none", "–", "list", "1, 2.5"),
        *(NASTY, "first", NASTY),
        *("B", "accuracy", "0.9877", NASTY),
    ]
    assert [image["alt"] for image in page.images] == ["plain", NASTY]


def test_pictures_are_linked_from_the_page_by_any_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    pictures = ["deep er/50 % #1.png", folder / "deep er" / "50 % #1.png", "report/plain.png"]
    page = Page(present.write_report("report", "A", {}, [Section("B", pictures=pictures)]))
    sources = [urllib.parse.unquote(image["src"]) for image in page.images]
    assert sources == ["deep er/50 % #1.png", "deep er/50 % #1.png", "plain.png"]
    assert all("#" not in image["src"] and " " not in image["src"] for image in page.images)
    assert (page.images[2]["width"], page.images[2]["height"]) == ("108", "56")


def test_missing_and_foreign_pictures_are_refused_and_the_old_page_stays(folder):
    path = present.write_report(folder, "old", {}, [])
    with pytest.raises(ValueError, match="no picture nowhere.png"):
        present.write_report(folder, "new", {}, [Section("A", pictures=["nowhere.png"])])
    outside = present.draw_grid(np.ones((1, 8, 8, 1)), folder.parent / "outside.png")
    with pytest.raises(ValueError, match="outside the report's folder"):
        present.write_report(folder, "new", {}, [Section("A", pictures=[outside])])
    assert "old" in Page(path).texts


def test_the_page_stands_alone_and_is_the_same_bytes_again(folder):
    sections = [Section(f"S{n}", "text", ["plain.png"]) for n in range(3)]
    path = present.write_report(folder, "A", {"a": 1}, sections)
    first = path.read_bytes()
    assert b"http" not in first and b"<script" not in first and b"@import" not in first
    assert Page(path).tags.count("a") == 3  # contents, once there are several sections
    assert present.write_report(folder, "A", {"a": 1}, sections).read_bytes() == first
    assert not list(folder.glob(".*"))


def write(path, text):
    path.write_text(text)
    return path


def test_metrics_come_back_as_they_were_logged(tmp_path):
    lines = [{"step": 1, "train/loss": 0.5}, {"step": 2, "note": "a"}]
    path = write(tmp_path / "m.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert present.read_metrics(path) == lines


def test_numbers_that_json_has_not_are_numbers_again(tmp_path):
    path = write(tmp_path / "m.jsonl", '{"step": 1, "a": "nan", "b": "inf", "c": "-inf"}\n')
    (line,) = present.read_metrics(path)
    assert math.isnan(line["a"]) and line["b"] == math.inf and line["c"] == -math.inf


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path, cut):
    whole = '{"step": 1, "a": "2\u00b5"}\n'.encode()
    path = tmp_path / "m.jsonl"
    path.write_bytes(whole + whole[:-cut])
    lines = present.read_metrics(path)
    assert lines[0] == {"step": 1, "a": "2µ"} and len(lines) == (2 if cut == 1 else 1)


def test_no_lines_are_no_metrics(tmp_path):
    assert present.read_metrics(write(tmp_path / "m.jsonl", "")) == []


def test_other_damage_is_told(tmp_path):
    with pytest.raises(UserError, match="line 1 is not a JSON object"):
        present.read_metrics(write(tmp_path / "m.jsonl", '{"step": \n{"step": 2}\n'))
    with pytest.raises(UserError, match="cannot read .*none.jsonl"):
        present.read_metrics(tmp_path / "none.jsonl")

"""The page says what it was given and nothing else; the reader of metrics forgives a kill and
nothing else."""

import html.parser
import urllib.parse

import numpy as np
import pytest

from advdl import present
from advdl.present import Figure, Page, Picture, Section

NASTY = "<script>alert('x')</script> & \"quotes\""


class Parsed(html.parser.HTMLParser):
    """Tags in order, texts, attributes; refuses tags that do not match."""

    VOID = {"meta", "img", "br"}

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.images, self.open = [], [], [], []
        self.attributes, self.found = [], {}
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data)

    def with_tag(self, tag):
        """Attributes of all elements of this tag."""
        return [a for t, a in zip(self.tags, self.attributes, strict=True) if t == tag]


@pytest.fixture
def folder(tmp_path):
    present.draw_grid(np.ones((1, 8, 8, 1)), tmp_path / "report" / "deep er" / "50 % #1.png")
    for name in ("plain.png", "opening.png"):
        present.draw_grid(np.zeros((2, 8, 8, 1)), tmp_path / "report" / name)
    return tmp_path / "report"


FIGURES = [
    Figure("accuracy", 0.98765, "10 % (most frequent class)", 0.9125),
    Figure("loss", np.float32(0.5), "noise: 3.2"),
    Figure("copies", 0),
]


def whole(text="text", count=3):
    """A page with everything, whose texts are all `text`."""
    sections = [
        Section(text, f"first\n\n{text}", ["plain.png"]),
        Section("B", "", [Picture("plain.png", text)], {text: text, "steps": 12345}),
        *(Section(f"S{n}") for n in range(count - 2)),
    ]
    figures = [Figure(text, text, text, text), *FIGURES[1:]]
    return Page(Picture("opening.png", text), figures, text, sections)


def test_everything_given_is_on_the_page_in_order_and_escaped(folder):
    details = {
        "Settings": {NASTY: NASTY, "nested": {"loss": 0.123456, "inner": {"steps": 12345}}},
        NASTY: {"none": None, "list": [1, 2.5], "empty": "", "flag": True},
        "Nothing": {},
    }
    page = Parsed(present.write_report(folder, NASTY, whole(NASTY, 2), details))
    assert "script" not in page.tags
    assert page.texts == [
        *(NASTY, "Skip to the sections", NASTY, NASTY),  # title, link, heading, caption
        *(NASTY, NASTY, "Baseline", NASTY, "Paper", NASTY),
        *("loss", "0.5", "Baseline", "noise: 3.2"),
        *("copies", "0"),
        NASTY,  # the sentence
        *("Contents", NASTY, "B"),
        *(NASTY, "first", NASTY),
        *("B", NASTY, NASTY, "steps", "12,345", NASTY),
        f"Details: settings, {NASTY.lower()}",
        *("Settings", NASTY, NASTY, "nested loss", "0.1235", "nested inner steps", "12,345"),
        *(NASTY, "none", "–", "list", "1, 2.5", "empty", "–", "flag", "yes"),
    ]
    assert [image["alt"] for image in page.images] == [NASTY, "plain", NASTY]


def test_the_opening_picture_is_shown_once(folder):
    sections = [Section("A", "", ["plain.png", Picture(folder / "opening.png", "again")])]
    page = Page("opening.png", FIGURES, "It works.", sections)
    shown = Parsed(present.write_report(folder, "Title", page)).images
    assert [image["src"] for image in shown] == ["opening.png", "plain.png"]


def test_sections_alone_are_a_page(folder):
    sections = [Section("A", "text", ["plain.png"]), Section("B")]
    page = Parsed(present.write_report(folder, "T", sections))
    assert page.texts == ["T", "Skip to the sections", "T", "Contents", "A", "B", "A", "text", "B"]


def test_rows_with_the_same_figures_are_a_table_with_columns(folder):
    figures = {f"net {n}": {"depth": n, "loss": n / 10} for n in (1, 2)}
    page = Parsed(present.write_report(folder, "T", [Section("A", figures=figures)]))
    at = page.texts.index("A") + 1
    assert page.texts[at:] == ["depth", "loss", "net 1", "1", "0.1", "net 2", "2", "0.2"]
    assert [a.get("scope") for a in page.with_tag("th")] == ["col", "col", "row", "row"]
    uneven = {"net 1": {"depth": 1}, "net 2": {"loss": 2}}
    page = Parsed(present.write_report(folder, "T", [Section("A", figures=uneven)]))
    assert page.texts[at:] == ["net 1 depth", "1", "net 2 loss", "2"]


def test_headings_are_nested_and_links_lead_somewhere(folder):
    page = Parsed(present.write_report(folder, "T", whole(), {"Settings": {"a": 1}}))
    levels = [int(tag[1]) for tag in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1 and levels[-1] == 3
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    named = [a["id"] for a in page.attributes if "id" in a]
    assert len(set(named)) == len(named)
    links = [a["href"] for a in page.with_tag("a")]
    assert links[0] == "#sections"
    assert {link[1:] for link in links if link.startswith("#")} <= set(named)
    assert page.with_tag("html") == [{"lang": "en"}] and page.tags.count("main") == 1
    assert all(image["alt"] for image in page.images)
    assert page.with_tag("details") == [{}]  # closed


def test_what_a_picture_shows_may_be_told_apart_from_its_caption(folder):
    picture = Picture("plain.png", "Figure 1.", "Two black squares.")
    page = Parsed(present.write_report(folder, "T", [Section("A", pictures=[picture])]))
    assert page.images[0]["alt"] == "Two black squares." and page.texts[-1] == "Figure 1."


def test_pictures_are_linked_from_the_page_by_any_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    pictures = ["deep er/50 % #1.png", folder / "deep er" / "50 % #1.png", "report/plain.png"]
    sections = [Section("B", pictures=pictures)]
    page = Parsed(present.write_report("report", "A", Page("opening.png", [], "", sections)))
    sources = [urllib.parse.unquote(image["src"]) for image in page.images]
    assert sources == ["opening.png", *["deep er/50 % #1.png"] * 2, "plain.png"]
    assert all("#" not in image["src"] and " " not in image["src"] for image in page.images)
    assert [a["href"] for a in page.with_tag("a")[1:]] == [image["src"] for image in page.images]
    assert (page.images[3]["width"], page.images[3]["height"]) == ("108", "56")


def test_missing_and_foreign_pictures_are_refused_and_the_old_page_stays(folder):
    path = present.write_report(folder, "old", [])
    with pytest.raises(ValueError, match="no picture nowhere.png"):
        present.write_report(folder, "new", [Section("A", pictures=["nowhere.png"])])
    with pytest.raises(ValueError, match="no picture nowhere.png"):
        present.write_report(folder, "new", Page("nowhere.png", FIGURES, "It worked."))
    outside = present.draw_grid(np.ones((1, 8, 8, 1)), folder.parent / "outside.png")
    with pytest.raises(ValueError, match="outside the report's folder"):
        present.write_report(folder, "new", [Section("A", pictures=[outside])])
    assert "old" in Parsed(path).texts


def test_the_page_stands_alone_and_is_the_same_bytes_again(folder):
    path = present.write_report(folder, "A", whole(), {"Settings": {"a": 1}})
    first = path.read_bytes()
    assert b"http" not in first and b"<script" not in first and b"@import" not in first
    again = present.write_report(folder, "A", whole(), {"Settings": {"a": 1}})
    assert again.read_bytes() == first
    assert not list(folder.glob(".*"))


@pytest.mark.scale
@pytest.mark.parametrize("width, height", [(360, 740), (1920, 1080)])
def test_in_a_browser_it_fits_phone_and_projector_and_obeys_the_keyboard(folder, width, height):
    wide = {f"net {n}": {f"a long name {k}": 1.0 for k in range(9)} for n in range(3)}
    present.draw_grid(np.zeros((64, 28, 28, 1)), folder / "large.png", columns=16)
    page = whole()._replace(picture="large.png", figures=FIGURES)
    page = page._replace(sections=[*page.sections, Section("Wide", "x" * 500, figures=wide)])
    path = present.write_report(folder, "T", page, {"Settings": {"--digest": "ab" * 99}})
    with present.browser() as browser:
        if browser is None:
            pytest.skip("needs Playwright and a Chromium")
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto(path.as_uri())
        focus = "document.activeElement.{}"
        tab.keyboard.press("Tab")
        assert tab.evaluate(focus.format("textContent")) == "Skip to the sections"
        assert tab.evaluate(focus.format("getBoundingClientRect().top")) >= 0
        seen = set()
        for _ in range(20):
            tab.keyboard.press("Tab")
            seen.add(tab.evaluate(focus.format("tagName")))
            if tab.evaluate(focus.format("tagName")) == "SUMMARY":
                break
        assert {"A", "DIV", "SUMMARY"} <= seen  # links and pictures, the wide table, the fold
        assert not tab.is_visible("text=--digest")
        tab.keyboard.press("Enter")
        assert tab.is_visible("text=--digest")
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        picture = tab.locator("img").first.bounding_box()
        assert picture["width"] > 0.85 * width or picture["height"] > 0.5 * height
        if width > 1000:
            card = tab.locator(".cards").bounding_box()
            assert card["y"] + card["height"] < height  # on the first screen
        tab.emulate_media(media="print")
        tab.keyboard.press("Enter")
        assert (
            tab.evaluate(
                "getComputedStyle(document.querySelector('details'), '::details-content')"
                ".contentVisibility"
            )
            == "visible"
        )

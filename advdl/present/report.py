"""The page that shows a run."""

import html
import os
import pathlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from advdl.data.decode import opened
from advdl.present import files


class Picture(NamedTuple):
    """A picture in the report's folder.

    caption: what it shows, printed below it. alternative: the text for a reader who does not see
      it (default: the caption, or else the file's name).
    """

    path: str | os.PathLike[str]
    caption: str = ""
    alternative: str = ""


class Section(NamedTuple):
    """A part of the report.

    text: plain text, paragraphs separated by an empty line. pictures: paths, within the report's
    folder or relative to it, or `Picture`s with captions. figures: name -> value, shown as a table;
    where every value is a mapping with the same names, these are the table's columns.
    """

    title: str
    text: str = ""
    pictures: Sequence[str | os.PathLike[str] | Picture] = ()
    figures: Mapping[str, Any] = {}


class Figure(NamedTuple):
    """A figure that a report opens with, beside what it is to be compared with.

    label: what it is, such as "accuracy on test digits". value: a number, or text. baseline: the
      trivial method's, with its name. paper: the published one, with where it stands. What is empty
      is left out.
    """

    label: str
    value: Any
    baseline: Any = ""
    paper: Any = ""


class Page(NamedTuple):
    """What report.html shows, in this order.

    picture: the one that the course's slide has in mind. figures: at most three. sentence: whether
      it worked. sections: everything else.
    """

    picture: str | os.PathLike[str] | Picture
    figures: Sequence[Figure]
    sentence: str
    sections: Sequence[Section] = ()


def write_report(
    folder: str | os.PathLike[str],
    title: str,
    page: Page | Sequence[Section],
    details: Mapping[str, Mapping[str, Any]] = {},
) -> pathlib.Path:
    """Writes `folder`/report.html, a page without scripts that works from the disk; returns its
    path.

    page: what it shows, the opening picture once; of a list of sections alone, nothing stands above
    them. details: settings,
    versions and other figures, title -> name -> value, in a fold at the end that is closed at
    first. All text is escaped; pictures are linked relative to the page, so the folder can be moved
    as a whole.

    Raises ValueError for a picture that is missing or lies outside the folder.
    """
    folder = pathlib.Path(folder)
    if not isinstance(page, Page):
        sections, opening = page, ""
    else:
        opening = _opening(folder, page)
        shown = _source(folder, page.picture)
        sections = [
            one._replace(pictures=[p for p in one.pictures if _source(folder, p) != shown])
            for one in page.sections
        ]
    parts = [
        *(_section(folder, n, section) for n, section in enumerate(sections, 1)),
        _fold(details),
    ]
    content = _PAGE.format(
        title=_text(title),
        style=resources.files("advdl.present").joinpath("report.css").read_text(),
        opening=opening,
        contents=_contents(sections),
        body="\n".join(filter(None, parts)),
    )
    return files.write(folder / "report.html", content.encode())


def _text(text: Any) -> str:
    return html.escape(str(text))


def _opening(folder: pathlib.Path, page: Page) -> str:
    """The picture, and below it, or beside one that is not wide, the figures and the sentence."""
    picture = page.picture if isinstance(page.picture, Picture) else Picture(page.picture)
    width, height = _open(folder, picture).size
    cards = "\n".join(map(_card, page.figures))
    return "\n".join(
        (
            f'<div class="opening{" beside" if width < 1.6 * height else ""}">',
            _picture(folder, picture, f' style="--width: {2 * width}px"'),
            f'<div>\n<ul class="cards">\n{cards}\n</ul>',
            f'<p class="sentence">{_text(page.sentence)}</p>\n</div>\n</div>',
        )
    )


def _card(figure: Figure) -> str:
    beside = "".join(
        f"<div><dt>{name}</dt><dd>{_text(_value(value))}</dd></div>"
        for name, value in (("Baseline", figure.baseline), ("Paper", figure.paper))
        if value not in ("", None)
    )
    return (
        f'<li><p class="label">{_text(figure.label)}</p>'
        f'<p class="value{" long" if len(_value(figure.value)) > 12 else ""}">'
        f"{_text(_value(figure.value))}</p>"
        f"{f'<dl>{beside}</dl>' if beside else ''}</li>"
    )


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 2:
        return ""
    links = "\n".join(
        f'<li><a href="#s{n}">{_text(section.title)}</a></li>'
        for n, section in enumerate(sections, 1)
    )
    return (
        '<nav aria-labelledby="contents">\n<h2 id="contents">Contents</h2>\n'
        f"<ol>\n{links}\n</ol>\n</nav>"
    )


def _section(folder: pathlib.Path, number: int, section: Section) -> str:
    paragraphs = (text for text in section.text.split("\n\n") if text.strip())
    return "\n".join(
        (
            f'<section aria-labelledby="s{number}">',
            f'<h2 id="s{number}">{_text(section.title)}</h2>',
            *(f"<p>{_text(paragraph)}</p>" for paragraph in paragraphs),
            _table(section.figures, section.title),
            *(
                _picture(folder, one if isinstance(one, Picture) else Picture(one))
                for one in section.pictures
            ),
            "</section>",
        )
    )


def _fold(details: Mapping[str, Mapping[str, Any]]) -> str:
    tables = "\n".join(
        f"<h3>{_text(title)}</h3>\n{_table(figures, title)}"
        for title, figures in details.items()
        if figures
    )
    if not tables:
        return ""
    titles = ", ".join(title.lower() for title, figures in details.items() if figures)
    return f"<details>\n<summary><h2>Details: {_text(titles)}</h2></summary>\n{tables}\n</details>"


def _table(figures: Mapping[str, Any], title: str) -> str:
    """Two columns, which wrap; or several, which scroll by themselves where the page is narrow."""
    if not figures:
        return ""
    rows = list(figures.values())
    columns = list(rows[0]) if isinstance(rows[0], Mapping) else []
    head = ""
    if len(rows) > 1 and all(isinstance(row, Mapping) and list(row) == columns for row in rows):
        names = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
        head = f"<thead><tr><td></td>{names}</tr></thead>\n"
        lines = [(name, list(row.values())) for name, row in figures.items()]
    else:
        lines = [(name, [value]) for name, value in _flat(figures)]
    cells = "".join(
        f'<tr><th scope="row">{_text(name)}</th>'
        + "".join(f"<td>{_text(_value(value))}</td>" for value in values)
        + "</tr>\n"
        for name, values in lines
    )
    table = f"<table>\n{head}<tbody>\n{cells}</tbody>\n</table>"
    if not head:
        return table
    attributes = f'class="wide" role="region" aria-label="{_text(title)}" tabindex="0"'
    return f"<div {attributes}>\n{table}\n</div>"


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _value(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


class _Image(NamedTuple):
    source: str
    size: tuple[int, int]


def _open(folder: pathlib.Path, picture: Picture) -> _Image:
    """The picture's address relative to the page, and its width and height."""
    path = folder / picture.path  # an absolute path stays as it is
    path = path if path.is_file() else pathlib.Path(picture.path)
    if not path.is_file():
        raise ValueError(f"no picture {picture.path} in {folder}")
    try:
        relative = path.resolve().relative_to(folder.resolve())
    except ValueError:
        raise ValueError(
            f"picture {picture.path} lies outside the report's folder {folder}"
        ) from None
    size = opened(path, str(path), lambda image: image.size)
    return _Image(urllib.parse.quote(relative.as_posix()), size)


def _source(folder: pathlib.Path, picture: str | os.PathLike[str] | Picture) -> str:
    return _open(folder, picture if isinstance(picture, Picture) else Picture(picture)).source


def _picture(folder: pathlib.Path, picture: Picture, attributes: str = "") -> str:
    """A picture that links to itself, so that a phone shows it at its full size."""
    source, (width, height) = _open(folder, picture)
    alternative = (
        picture.alternative or picture.caption or pathlib.Path(picture.path).stem.replace("_", " ")
    )
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure{attributes}><a href="{source}"><img src="{source}" width="{width}"'
        f' height="{height}" alt="{_text(alternative)}"></a>{caption}</figure>'
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#sections">Skip to the sections</a>
<header>
<h1>{title}</h1>
{opening}</header>
{contents}
<main id="sections">
{body}
</main>
</body>
</html>
"""

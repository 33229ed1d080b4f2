"""The page that shows a run, and the reader of its metrics."""

import html
import json
import math
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from advdl.errors import UserError
from advdl.present import files


class Picture(NamedTuple):
    """A picture in the report's folder and what it shows."""

    path: str | os.PathLike
    caption: str = ""


class Section(NamedTuple):
    """A part of the report.

    text: plain text, paragraphs separated by an empty line. pictures: paths, within the report's
    folder or relative to it, or `Picture`s with captions. figures: name -> value, shown as a table.
    """

    title: str
    text: str = ""
    pictures: Sequence[str | os.PathLike | Picture] = ()
    figures: Mapping[str, Any] = {}


class Figure(NamedTuple):
    """A figure that a report opens with, beside what it is to be compared with.

    label: what it is, such as "accuracy on test digits". value: a number, or text. baseline: the
      trivial method's, with its name. paper: the published one, with where it stands.
    """

    label: str
    value: Any
    baseline: str = ""
    paper: str = ""


class Page(NamedTuple):
    """What report.html shows, in this order.

    picture: the one that the course's slide has in mind. figures: at most three. sentence: whether
      it worked. sections: everything else.
    """

    picture: str | os.PathLike | Picture
    figures: Sequence[Figure]
    sentence: str
    sections: Sequence[Section] = ()


def write_report(
    folder: str | os.PathLike,
    title: str,
    summary: Mapping[str, Any],
    page: Page | Sequence[Section],
) -> pathlib.Path:
    """Writes `folder`/report.html, a page without scripts that works from the disk; returns its
    path.

    summary: the run's figures, name -> value, shown first as a table (nested mappings with joined
    names). All text is escaped; pictures are linked relative to the page, so the folder can be
    moved as a whole.

    Raises ValueError for a picture that is missing or lies outside the folder.
    """
    folder = pathlib.Path(folder)
    parts = [f"<h1>{_text(title)}</h1>"]
    sections = page.sections if isinstance(page, Page) else page
    if isinstance(page, Page):
        picture = page.picture
        parts += [
            _figure(folder, picture if isinstance(picture, Picture) else Picture(picture)),
            *(_table(one._asdict()) for one in page.figures),
            f"<p>{_text(page.sentence)}</p>",
        ]
    parts.append(_table(summary))
    if len(sections) > 2:
        links = (
            f'<li><a href="#s{n}">{_text(section.title)}</a></li>'
            for n, section in enumerate(sections, 1)
        )
        parts.append(f"<nav><ul>{''.join(links)}</ul></nav>")
    for number, section in enumerate(sections, 1):
        shown = (p if isinstance(p, Picture) else Picture(p) for p in section.pictures)
        parts += [
            f'<section id="s{number}">\n<h2>{_text(section.title)}</h2>',
            *(
                f"<p>{_text(paragraph)}</p>"
                for paragraph in section.text.split("\n\n")
                if paragraph.strip()
            ),
            _table(section.figures),
            *(_figure(folder, picture) for picture in shown),
            "</section>",
        ]
    page = _PAGE.format(
        title=_text(title), style=_CSS, body="\n".join(part for part in parts if part)
    )
    return files.write(folder / "report.html", page.encode())


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, in order; figures written as "nan" or "inf" are numbers again.

    A last line that a kill cut off is left out. Raises UserError where there is no such file, or
    where another line is damaged.
    """
    path = pathlib.Path(path)
    try:
        rows = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; is it a run's metrics.jsonl?"
        ) from error
    lines = []
    for number, row in enumerate(rows, 1):
        try:
            line = json.loads(row)
            if not isinstance(line, dict):
                raise ValueError
        except ValueError as error:
            if number == len(rows):
                break
            raise UserError(
                f"{path}, line {number} is not a JSON object; mend or remove that line"
            ) from error
        lines.append({k: _NUMBERS.get(v, v) if isinstance(v, str) else v for k, v in line.items()})
    return lines


_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _text(text: Any) -> str:
    return html.escape(str(text))


def _table(figures: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><th>{_text(name)}</th><td>{_text(_value(value))}</td></tr>\n"
        for name, value in _flat(figures)
    ]
    return f"<table>\n{''.join(rows)}</table>" if rows else ""


def _flat(figures: Mapping[str, Any], prefix: str = ""):
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _value(value: Any) -> str:
    if value is None:
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


def _figure(folder: pathlib.Path, picture: Picture) -> str:
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
    with Image.open(path) as image:
        width, height = image.size
    source = urllib.parse.quote(relative.as_posix())
    alternative = _text(picture.caption or relative.stem.replace("_", " "))
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}"'
        f' alt="{alternative}">{caption}</figure>'
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

_CSS = """
:root { color-scheme: light; }
body { margin: 2.5rem auto 4rem; padding: 0 1.25rem; max-width: 66rem;
  background: #fff; color: #1c1c1c;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1.25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 0.5rem;
  padding-top: 1rem; border-top: 1px solid #d9d9d9; }
p { max-width: 46rem; margin: 0.6rem 0; white-space: pre-line; }
table { border-collapse: collapse; margin: 0.9rem 0; font-size: 0.92rem; }
th, td { text-align: left; vertical-align: top; padding: 0.28rem 1.5rem 0.28rem 0.4rem;
  border-bottom: 1px solid #e6e6e6; }
th { font-weight: 500; color: #4a4a4a; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
nav ul { padding: 0; margin: 1.2rem 0 0; list-style: none;
  display: flex; flex-wrap: wrap; gap: 0.3rem 1.4rem; }
a { color: #0059a0; }
figure { margin: 1.1rem 0; }
img { max-width: 100%; height: auto; border: 1px solid #ececec; }
figcaption { max-width: 46rem; margin-top: 0.35rem; font-size: 0.9rem; color: #4a4a4a; }
@media print { body { margin: 0; max-width: none; } figure { break-inside: avoid; } }
"""

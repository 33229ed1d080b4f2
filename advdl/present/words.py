"""Texts whose words or characters are colored. Axes: T words or characters."""

import os
import pathlib
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from advdl.present import figure

_COLUMNS, _SIZE = 96, 9  # characters a line, points
_WIDTH, _HEIGHT = 0.602 * _SIZE / 72, 1.9 * _SIZE / 72  # inches of a character and of a line


def draw_words(
    sentences: Sequence[tuple[str, Sequence[str], np.ndarray]],
    path: str | os.PathLike,
    note: str = "",
) -> pathlib.Path:
    """Draws sentences, each (caption, T words, (T,) weights), as text into a PNG; returns its path.

    A word is red the more its weight is above zero and blue the more below, by the largest of its
    sentence. note: what the colors mean. Raises ValueError where a sentence has not one weight for
    each word.
    """
    lines: list[tuple[str, list[tuple[int, str, float]]]] = []
    for caption, words, weights in sentences:
        weights = np.asarray(weights, np.float64)
        if weights.shape != (len(words),):
            raise ValueError(f"{len(words)} words with weights of shape {weights.shape}")
        most = max(float(np.abs(weights).max(initial=0)), 1e-12)
        lines += [(part, []) for part in textwrap.wrap(caption, _COLUMNS) or [""]]
        lines.append(("", []))
        column = 0
        for word, weight in zip(words, weights, strict=True):
            word = word if len(word) <= _COLUMNS else word[: _COLUMNS - 1] + "…"
            if column and column + len(word) > _COLUMNS:
                lines.append(("", []))
                column = 0
            lines[-1][1].append((column, word, weight / most))
            column += len(word) + 1
        lines.append(("", []))
    return _draw(lines, path, note, 0.3)


def draw_characters(
    texts: Sequence[tuple[str, str, np.ndarray]], path: str | os.PathLike
) -> pathlib.Path:
    """As `draw_words`, of texts (caption, T characters, (T,) weights) with their line ends and
    spaces."""
    lines: list[tuple[str, list[tuple[int, str, float]]]] = []
    for caption, text, weights in texts:
        weights = np.asarray(weights, np.float64)
        if weights.shape != (len(text),):
            raise ValueError(f"{len(text)} characters with weights of shape {weights.shape}")
        most = max(float(np.abs(weights).max(initial=0)), 1e-12)
        lines += [(part, []) for part in textwrap.wrap(caption, _COLUMNS) or [""]]
        lines.append(("", []))
        for character, weight in zip(text, weights, strict=True):
            if len(lines[-1][1]) == _COLUMNS:
                lines.append(("", []))
            shown = {"\n": "↵", "\t": "→"}.get(character, character)
            lines[-1][1].append((len(lines[-1][1]), shown, weight / most))
            if character == "\n":
                lines.append(("", []))
        lines.append(("", []))
    return _draw(lines, path, "", 0.0)


def _draw(
    lines: Sequence[tuple[str, Sequence[tuple[int, str, float]]]],
    path: str | os.PathLike,
    note: str,
    around: float,
) -> pathlib.Path:
    """Lines, each a caption or parts (column, text, weight in [-1, 1]), whose color goes so far
    `around` them."""
    notes = textwrap.wrap(note, _COLUMNS)
    with figure.style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # shown as an empty box
        height = (len(lines) + len(notes) + bool(notes)) * _HEIGHT
        drawing, (axis,) = figure.panels(1, 1, (_COLUMNS + 4) * _WIDTH, height)
        drawing.set_layout_engine("none")
        axis.set_position((0, 0, 1, 1))
        axis.set_axis_off()
        axis.set(xlim=(-2, _COLUMNS + 2), ylim=(height / _HEIGHT, 0))
        at: dict[str, Any] = dict(va="center", family="DejaVu Sans Mono", fontsize=_SIZE)
        row = 0.5
        for text in notes:
            axis.text(0, row, text, color=figure.GRAY, **at)
            row += 1
        row += bool(notes)
        for caption, words in lines:
            if caption:
                axis.text(0, row, caption, color=figure.GRAY, **at)
            for column, word, weight in words:
                color = matplotlib.colormaps["RdBu_r"](0.5 + 0.4 * weight)
                corner, width = (column - around, row - 0.42), len(word) + 2 * around
                axis.add_patch(Rectangle(corner, width, 0.84, color=color, linewidth=0))
                axis.text(column, row, word, color="white" if abs(weight) > 0.75 else "black", **at)
            row += 1
        return figure.save(drawing, path)


def draw_weighed(
    weights: Mapping[str, Mapping[str, float]], path: str | os.PathLike
) -> pathlib.Path:
    """Draws label -> (word -> weight) as horizontal bars, a panel a label, into a PNG; returns its
    path."""
    most = max((abs(x) for words in weights.values() for x in words.values()), default=0) or 1.0
    rows = max(1, *(len(words) for words in weights.values()))
    with figure.style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        drawing, axes = figure.panels(1, len(weights), 4.6, 0.22 * rows + 0.9)
        for number, (axis, (label, words)) in enumerate(zip(axes, weights.items(), strict=True)):
            place, color = np.arange(len(words)), figure.COLORS[number % len(figure.COLORS)]
            axis.barh(place, list(words.values()), 0.75, color=color)
            axis.set_yticks(place, list(words))
            axis.grid(False, axis="y")
            xlim = min(0.0, *words.values(), 0.0), 1.05 * most
            axis.set(xlim=xlim, ylim=(rows - 0.4, -0.6), xlabel="mean weight", title=label)
        return figure.save(drawing, path)

"""Time series: where they come from, how they are parted by time, windows of them.

Axes: N values of the series, B batch, T values of history, H values of the horizon. A window's
origin is the place of the first value that is forecast: its history ends just before.
"""

import csv
import dataclasses
import datetime
import importlib.util
import io
import math
import pathlib
from typing import NamedTuple

import numpy as np

from advdl.data.source import Source
from advdl.data.spec import Spec
from advdl.errors import UserError, nearest
from advdl.ranges import Range, whole_number
from advdl.reading import is_file, read_text

LARGEST = 1e30
"""No value of a series is larger: what is computed of them, in float32, stays finite."""


class Series(NamedTuple):
    """values: (N,) float64, evenly spaced in time. labels: their dates as they were written, N or
    none. unit: of the values.
    step: from one value to the next, as in "week". season: values after which it comes around, 0
      where that is not known."""

    name: str
    values: np.ndarray
    labels: tuple[str, ...] = ()
    unit: str = ""
    step: str = "step"
    season: int = 0

    def label(self, place: int) -> str:
        """The date of a value, or its place, counted from 1."""
        return self.labels[place] if self.labels else str(place + 1)

    def end(self, first: int) -> "Series":
        """The same from this place on, with the labels that the values have here."""
        labels = tuple(self.label(place) for place in range(first, len(self.values)))
        return self._replace(values=self.values[first:], labels=labels)


def open_series(spec: str, season: int = 0) -> Series:
    """The series that a person named.

    spec: `co2`, `elnino` or `sunspots`, which are measured and read from the files of statsmodels
    (without importing it); `waves`, which is made; or `csv:PATH[:COLUMN]`, see `read_series`.
    season: takes the place of the series' own.

    Raises UserError for another name, for what a file must not have, and where a season is neither
    known nor given.
    """
    kind, _, rest = spec.partition(":")
    if kind == "csv" and rest:
        series = read_series(rest)
        if not season:
            raise UserError(
                f"{spec} does not tell its season; give --season, such as 12 for months (1: there"
                " is none)"
            )
    elif spec in BUILT_IN:
        series = BUILT_IN[spec]()
    else:
        known = [*BUILT_IN, "csv:PATH[:COLUMN]"]
        raise UserError(f"no series {spec!r}; there are {', '.join(known)}{nearest(spec, known)}")
    return series._replace(season=season) if season else series


def read_series(where: str) -> Series:
    """A CSV of one's own: `PATH` or `PATH:COLUMN`, one value a row, the oldest first.

    COLUMN is a name of the header or a number from 1; without it there is one column, or two of
    which the second is read. The first column, where it is another, are the labels. A first row
    without a number in the column is a header. Cells are parted by commas, semicolons or tabs.

    Raises UserError that names the line for a cell that is missing or no finite number and for ISO
    dates that do not rise.
    """
    path, column = where, ""
    if ":" in where and not is_file(where):
        path, column = where.rsplit(":", 1)
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    while rows and not any(rows[-1][1]):
        rows.pop()
    while rows and not any(rows[0][1]):
        rows.pop(0)
    if not rows:
        raise UserError(f"{path} is empty; expected one value a row")
    place = _column(path, column, rows[0][1])
    header = (
        rows[0][1]
        if place < len(rows[0][1]) and _number(rows[0][1][place]) is None and rows[0][1][place]
        else []
    )
    width = len(rows[0][1])
    values, labels = [], []
    for line, row in rows[1:] if header else rows:
        if len(row) != width:
            raise UserError(
                f"{path}, line {line}: {_cells(len(row))} where the first line has {width}"
            )
        value = _number(row[place])
        if value is None or not abs(value) <= LARGEST:
            finite = value is not None and math.isfinite(value)
            fault = (
                f"{row[place]!r} is {f'larger than {LARGEST:g}' if finite else 'no finite number'}"
                if row[place]
                else f"the value in column {place + 1} is missing"
            )
            raise UserError(
                f"{path}, line {line}: {fault}; fill it in or leave out what is before it"
            )
        if place and labels and not _rises(labels[-1], row[0]):
            raise UserError(
                f"{path}, line {line}: {row[0]} comes after {labels[-1]}; sort the rows, the oldest"
                " first"
            )
        values.append(value)
        labels += [row[0]] if place else []
    if not values:
        raise UserError(f"{path} has a header and no values; expected one value a row")
    return Series(
        pathlib.Path(path).stem, np.array(values), tuple(labels), header[place] if header else ""
    )


def _column(path: str, column: str, first: list[str]) -> int:
    """The place of a column by its name or number, or of the only one."""
    if not column:
        if len(first) > 2:
            raise UserError(f"{path} has {len(first)} columns; say which, as in {path}:2")
        return len(first) - 1
    if column in first:
        return first.index(column)
    if (number := whole_number(column, Range(1, len(first), "[]"))) is not None:
        return number - 1
    raise UserError(
        f"{path} has no column {column!r}; its first row is"
        f" {', '.join(first)[:80]}{nearest(column, first)}"
    )


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"


def _number(cell: str) -> float | None:
    try:
        return float(cell.replace("_", "?"))  # which Python takes for parts of a number
    except ValueError:
        return None


def _rises(before: str, after: str) -> bool:
    """Whether one date is later than another; True for what are no ISO dates."""
    try:
        return datetime.datetime.fromisoformat(before) < datetime.datetime.fromisoformat(after)
    except (ValueError, TypeError):
        return True


def _table(name: str) -> list[list[str]]:
    """The rows of a data set of statsmodels, without its header. Raises UserError where the package
    is not there."""
    found = importlib.util.find_spec("statsmodels")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"{name} is read from statsmodels, which is not installed; pip install '.[series]', or"
            " --data waves"
        )
    path = pathlib.Path(found.submodule_search_locations[0]) / "datasets" / name / f"{name}.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]
    except OSError as error:
        raise UserError(
            f"{path} of statsmodels cannot be read: {error.strerror}; pip install --upgrade"
            " statsmodels"
        ) from None


def co2() -> Series:
    """Carbon dioxide in the air of Mauna Loa, weekly means of 1958 to 2001 (Keeling & Whorf 2004;
    in the public domain). For a week without a measurement, of which there are 59 of 2,284, stands
    the last one before it."""
    values, labels = [], []
    for date, value in _table("co2"):
        values.append(float(value) if value else values[-1])
        labels.append(f"{date[:4]}-{date[4:6]}-{date[6:]}")
    return Series("co2", np.array(values), tuple(labels), "ppm", "week", 52)


def elnino() -> Series:
    """Temperature of the sea's surface off Peru (Niño 1+2), monthly means of 1950 to 2010 (NOAA; in
    the public domain)."""
    rows = _table("elnino")
    labels = (f"{row[0]}-{month:02}" for row in rows for month in range(1, 13))
    return Series(
        "elnino",
        np.array([float(cell) for row in rows for cell in row[1:]]),
        tuple(labels),
        "°C",
        "month",
        12,
    )


def sunspots() -> Series:
    """Sunspot numbers of the years 1700 to 2008 (NOAA; in the public domain). Their cycle is 11
    years on the mean only."""
    rows = _table("sunspots")
    return Series(
        "sunspots",
        np.array([float(row[1]) for row in rows]),
        tuple(row[0] for row in rows),
        "sunspots",
        "year",
        11,
    )


def waves(count: int = 1200) -> Series:
    """Made: a wave of 24 steps and its first harmonic, on a level that strays (a random walk), with
    noise; always the same."""
    random, t = np.random.default_rng(0x77617665), np.arange(count)
    season = np.sin(2 * np.pi * t / 24) + 0.4 * np.cos(4 * np.pi * t / 24)
    level = np.cumsum(random.normal(0, 0.03, count))
    return Series("waves", 10 + season + level + random.normal(0, 0.1, count), (), "", "step", 24)


BUILT_IN = {"co2": co2, "elnino": elnino, "sunspots": sunspots, "waves": waves}


@dataclasses.dataclass(frozen=True)
class SeriesSpec(Spec):
    """What a forecaster must know of its series.

    name, unit, step, season: see `Series`. history, horizon: numbers of values that are read and
    that are forecast. mean, scale: of the training part. naive_scale: mean absolute error of
    seasonal-naive there, by which errors are scaled. values, labels: the end of the series, from
    which a forecast goes on, with the date or the place of each.
    """

    name: str
    unit: str
    step: str
    season: int
    history: int
    horizon: int
    mean: float
    scale: float
    naive_scale: float
    values: tuple[float, ...]
    labels: tuple[str, ...]

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """float32, by the training part's mean and standard deviation."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def denormalize(self, values: np.ndarray) -> np.ndarray:
        """float64, in the unit of the series."""
        return values.astype(np.float64) * self.scale + self.mean

    def end(self) -> Series:
        """The end of the series."""
        values = np.array(self.values)
        return Series(self.name, values, self.labels, self.unit, self.step, self.season)


class SeriesSplits:
    """A series in three parts, one after another in time, and windows of it.

    history, horizon: T and H; by default (0) two seasons and at least 24 values, and a season or 12
    values where there is none. val, test: shares of the series, at its end. Values are normalized
    by the mean and the standard deviation of the training part alone. Targets of a window lie in
    its part, all of them; the histories of val and test reach back into the part before, which is
    past when they are forecast.

    Raises UserError for a history of less than a season, and for a series that is too short for
    this, or constant where it is trained on.
    """

    def __init__(
        self,
        series: Series,
        history: int = 0,
        horizon: int = 0,
        val: float = 0.15,
        test: float = 0.2,
    ):
        self.series, season, count = series, series.season, len(series.values)
        history = history or max(2 * season, 24)
        horizon = horizon or (season if season > 1 else 12)
        if history < season:
            raise UserError(
                f"--history is {history}; expected a season at least, which is {season}, for"
                " seasonal-naive"
            )
        val_begin, test_begin = round(count * (1 - val - test)), round(count * (1 - test))
        self.spans = {
            "train": (0, val_begin),
            "val": (val_begin, test_begin),
            "test": (test_begin, count),
        }
        for name, (first, last) in self.spans.items():
            needed = horizon + (history if name == "train" else 0)
            if last - first < needed:
                raise UserError(
                    f"{series.name} is too short: {last - first} of its {count} values are its"
                    f" {name} part, which needs {needed}; take a longer series, or less --history"
                    " and --horizon"
                )
        training = series.values[:val_begin]
        mean, scale = float(training.mean()), float(training.std())
        if not scale > 1e-9 * max(1.0, abs(mean)):
            raise UserError(
                f"{series.name} is {mean:g} throughout its training part; there is nothing to learn"
            )
        end = series.end(max(0, count - max(history, 3 * horizon)))
        self.spec = SeriesSpec(
            series.name,
            series.unit,
            series.step,
            season,
            history,
            horizon,
            mean,
            scale,
            float(np.abs(training[season:] - training[:-season]).mean()),
            tuple(end.values.tolist()),
            end.labels,
        )

    def source(self, part: str) -> "WindowSource":
        """All windows of `val` or `test` in the order of time, or random ones of `train`."""
        first, last = self.spans[part]
        first += self.spec.history if part == "train" else 0
        return WindowSource(self, part, np.arange(first, last - self.spec.horizon + 1))


class WindowSource(Source):
    """A source: `{"history": float32 (B, T), "future": float32 (B, H)}`, normalized. In `train`
    every example draws its origin among these, whatever its row."""

    def __init__(self, parts: SeriesSplits, split: str, origins: np.ndarray):
        self.name, self.split, self.origins = parts.series.name, split, origins
        self.series, self.spec, self.draws = parts.series, parts.spec, int(split == "train")

    def __len__(self) -> int:
        return len(self.origins)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        u = self.uniforms(rows, u)
        origins = self.origins[(u[:, 0] * len(self)).astype(int) if self.draws else rows]
        history, future = map(self.spec.normalize, self.values(origins))
        return {"history": history, "future": future}

    def values(self, origins: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(histories (B, T), futures (B, H)) at these origins (B,), by default all, float64 in the
        unit of the series."""
        origins = self.origins if origins is None else origins
        history, horizon = self.spec.history, self.spec.horizon
        both = self.series.values[origins[:, None] + np.arange(-history, horizon)]
        return both[:, :history], both[:, history:]

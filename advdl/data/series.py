"""Time series: where they come from, how they are parted by time, windows of them.

Axes: N values of the series, B batch, T values of history, H values of the horizon. A window's
origin is the place of the first value that is forecast: its history ends just before.
"""

import csv
import datetime
import importlib.util
import io
import math
import pathlib
from typing import NamedTuple

import numpy as np

from advdl.data.source import Bare, numbers
from advdl.errors import UserError, nearest


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
    path, column = (
        (where, "")
        if pathlib.Path(where).is_file() or ":" not in where
        else tuple(where.rsplit(":", 1))
    )
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (
            "is no text in UTF-8"
            if isinstance(error, UnicodeDecodeError)
            else f"cannot be read: {error.strerror}"
        )
        raise UserError(f"{path} {reason}") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    while rows and not any(rows[-1][1]):
        rows.pop()
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
        if value is None or not math.isfinite(value):
            fault = (
                f"{row[place]!r} is no finite number"
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
    if column.isdecimal() and 1 <= int(column) <= len(first):
        return int(column) - 1
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


class Parts:
    """A series in three parts, one after another in time, and windows of it.

    history, horizon: T and H. validation, test: shares of the series, at its end. normalized: (N,)
    float32, the series less `mean`, over `scale`, both of the training part alone. Targets of a
    window lie in its part, all of them; the histories of validation and test reach back into the
    part before, which is past when they are forecast.

    Raises UserError for a series that is too short for this, or constant where it is trained on.
    """

    def __init__(
        self,
        series: Series,
        history: int,
        horizon: int,
        validation: float = 0.15,
        test: float = 0.2,
    ):
        self.series, self.history, self.horizon = series, history, horizon
        count = len(series.values)
        self.end = round(count * (1 - validation - test))
        """Of the training part."""
        self.begin = round(count * (1 - test))
        """Of the test part."""
        spans = {
            "training": self.end,
            "validation": self.begin - self.end,
            "test": count - self.begin,
        }
        needed = {"training": history + horizon, "validation": horizon, "test": horizon}
        for name, length in spans.items():
            if length < needed[name]:
                raise UserError(
                    f"{series.name} is too short: {length} of its {count} values are its {name}"
                    f" part, which needs {needed[name]}; take a longer series, or less --history"
                    " and --horizon"
                )
        training = series.values[: self.end]
        self.mean, self.scale = float(training.mean()), float(training.std())
        if not self.scale > 1e-9 * max(1.0, abs(self.mean)):
            raise UserError(
                f"{series.name} is {self.mean:g} throughout its training part; there is nothing to"
                " learn"
            )
        self.normalized = self.normalize(series.values)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """float32, by the training part's mean and standard deviation."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def training(self) -> "Windows":
        """Windows at random origins."""
        return Windows(
            self, "train", np.arange(self.history, self.end - self.horizon + 1), random=True
        )

    def held_out(self) -> "Windows":
        """All windows of the validation part, then all of the test part."""
        return Windows(
            self, "test", np.concatenate([self.origins("validation"), self.origins("test")])
        )

    def origins(self, part: str) -> np.ndarray:
        """Of all windows of `validation` or `test`, in the order of time."""
        begin, end = (
            (self.end, self.begin)
            if part == "validation"
            else (self.begin, len(self.series.values))
        )
        return np.arange(begin, end - self.horizon + 1)

    def windows(self, values: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(histories (B, T), futures (B, H)) of values (N,) at these origins (B,)."""

        def at(first, count):
            return values[origins[:, None] + np.arange(first, first + count)]

        return at(-self.history, self.history), at(0, self.horizon)


class Windows(Bare):
    """A source: `{"history": float32 (B, T), "future": float32 (B, H), "test": bool (B,)}`,
    normalized; `test` is whether the window is of the test part. random: every example draws its
    origin among these, whatever its row."""

    def __init__(self, parts: Parts, split: str, origins: np.ndarray, random: bool = False):
        self.name, self.split, self.draws, self.origins = (
            parts.series.name,
            split,
            int(random),
            origins,
        )
        self._parts = parts

    def __len__(self) -> int:
        return len(self.origins)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        u = numbers(self, rows, u)
        origins = self.origins[(u[:, 0] * len(self)).astype(int) if self.draws else rows]
        history, future = self._parts.windows(self._parts.normalized, origins)
        return {"history": history, "future": future, "test": origins >= self._parts.begin}

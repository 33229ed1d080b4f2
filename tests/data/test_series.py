"""Series: what a file may hold, and that nothing later leaks into what is earlier."""

import importlib.util
import json

import numpy as np
import pytest

from advdl import data
from advdl.errors import UserError


def written(tmp_path, text, name="own.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "column", "labels", "unit"),
    [
        ("1\n2.5\n-3e1\n\n", "", (), ""),
        ("ppm\n1\n2.5\n-30\n", "", (), "ppm"),
        (
            "date,ppm\n2001-01-01,1\n2001-02-01, 2.5\n2001-03-01,-30\n",
            "",
            ("2001-01-01", "2001-02-01", "2001-03-01"),
            "ppm",
        ),
        ("2001;1\r\n2002;2.5\r\n2003;-30\r\n", "", ("2001", "2002", "2003"), ""),
        ("\ufeffa\tb\tc\nx\t1\t7\ny\t2.5\t8\nz\t-30\t9\n", ":b", ("x", "y", "z"), "b"),
        ("x,7,1\ny,8,2.5\nz,9,-30\n", ":3", ("x", "y", "z"), ""),
    ],
    ids=["bare", "header", "dates", "semicolons", "named", "numbered"],
)
def test_a_file_of_ones_own_is_read(tmp_path, text, column, labels, unit):
    series = data.read_series(f"{written(tmp_path, text)}{column}")
    np.testing.assert_array_equal(series.values, [1, 2.5, -30])
    assert series.labels == labels and series.unit == unit and series.name == "own"
    assert series.label(1) == (labels[1] if labels else "2")


WRONG = [
    ("1\nx\n", "", "line 2: 'x' is no finite number"),
    ("value\n1\nnan\n", "", "line 3: 'nan' is no finite number"),
    ("1\n1_000\n", "", "line 2: '1_000' is no finite number"),
    ("a,1\nb,\n", "", "line 2: the value in column 2 is missing"),
    ("1\n\n2\n", "", "line 2: 0 cells where the first line has 1"),
    ("a,1\nb,2,3\n", "", "line 2: 3 cells where the first line has 2"),
    (
        "2001-02-01,1\n2001-01-01,2\n",
        "",
        "line 2: 2001-01-01 comes after 2001-02-01; sort the rows",
    ),
    ("a,b,c\n1,2,3\n", "", "has 3 columns; say which"),
    (
        "date,level\n1,2\n",
        ":levle",
        "no column 'levle'; its first row is date, level (nearest: level)",
    ),
    ("date,level\n1,2\n", ":3", "no column '3'"),
    ("\n\n", "", "is empty"),
]


@pytest.mark.parametrize(("text", "column", "line"), WRONG, ids=[line for _, _, line in WRONG])
def test_what_a_file_must_not_have_is_told_by_its_line(tmp_path, text, column, line):
    with pytest.raises(UserError) as told:
        data.read_series(f"{written(tmp_path, text)}{column}")
    assert line in str(told.value) and "own.csv" in str(told.value)


@pytest.mark.parametrize("text", ["\n1\n2\n", "\n\x00", "\n\n", ",\n"])
def test_blank_lines_before_the_first_value_are_no_row(tmp_path, text):
    (tmp_path / "own.csv").write_text(text)
    if "1" in text:
        assert data.read_series(str(tmp_path / "own.csv")).values.tolist() == [1, 2]
    else:
        with pytest.raises(UserError, match="own.csv"):
            data.read_series(str(tmp_path / "own.csv"))


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.csv: No such file"):
        data.read_series(str(tmp_path / "none.csv"))
    (tmp_path / "photo.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not UTF-8: byte 0"):
        data.read_series(str(tmp_path / "photo.csv"))


def test_series_are_opened_by_name(tmp_path, monkeypatch):
    assert data.open_series("waves").season == 24 and data.open_series("waves", 12).season == 12
    np.testing.assert_array_equal(
        data.open_series("waves").values, data.open_series("waves").values
    )
    spec = f"csv:{written(tmp_path, '1')}"
    assert data.open_series(spec, 1).season == 1
    with pytest.raises(UserError, match="give --season"):
        data.open_series(spec)
    with pytest.raises(UserError, match="nearest: sunspots"):
        data.open_series("sunspot")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="statsmodels, which is not installed"):
        data.open_series("co2")


@pytest.mark.skipif(
    importlib.util.find_spec("statsmodels") is None,
    reason="series are read from statsmodels' files",
)
@pytest.mark.parametrize(
    ("name", "count", "first", "last", "labels"),
    [
        ("co2", 2284, 316.1, 371.5, ("1958-03-29", "2001-12-29")),
        ("elnino", 732, 23.11, 22.07, ("1950-01", "2010-12")),
        ("sunspots", 309, 5, 2.9, ("1700", "2008")),
    ],
)
def test_measured_series_are_those_of_statsmodels(name, count, first, last, labels):
    series = data.open_series(name)
    assert len(series.values) == len(series.labels) == count and np.isfinite(series.values).all()
    assert (series.values[0], series.values[-1]) == (first, last) and (
        series.labels[0],
        series.labels[-1],
    ) == labels


def line(count):
    return data.Series("line", np.arange(count, dtype=np.float64), season=2)


def test_parts_follow_one_another_and_windows_keep_to_them():
    parts = data.SeriesSplits(line(100), 6, 3, 0.2, 0.3)
    assert parts.spans == {"train": (0, 50), "val": (50, 70), "test": (70, 100)}

    def own(found):
        return np.rint(parts.spec.denormalize(found))

    training = parts.source("train")
    u = np.linspace(0, 1, 2000, endpoint=False)[:, None]
    found = training.read(np.zeros(2000, int), u)
    assert found["history"].shape == (2000, 6) and found["future"].shape == (2000, 3)
    assert own(found["history"]).min() == 0 and own(found["future"]).max() == 49
    assert len(np.unique(found["history"][:, 0])) == len(training) == 50 - 6 - 3 + 1
    for part, (first, last) in {"val": (50, 69), "test": (70, 99)}.items():
        source = parts.source(part)
        assert source.draws == 0 and len(source) == last - first + 1 - 2
        found = source.read(np.arange(len(source)))
        both = own(np.concatenate([found["history"], found["future"]], 1))
        np.testing.assert_array_equal(np.diff(both), 1)
        assert (both[:, 6:].min(), both[:, 6:].max()) == (first, last)
        np.testing.assert_array_equal(np.concatenate(source.values(), 1), both)


def test_a_spec_has_the_end_of_the_series_and_is_stored(tmp_path):
    spec = data.SeriesSplits(line(100), 6, 3, 0.2, 0.3).spec
    assert spec == data.Spec.from_json(json.loads(json.dumps(spec.to_json())))
    end = spec.end()
    assert end.values.tolist() == list(range(91, 100)) and end.label(8) == "100"
    assert spec.naive_scale == 2  # of a season of 2 on a slope of 1


def test_normalization_sees_the_training_part_alone():
    series = data.open_series("waves")
    parts = data.SeriesSplits(series, 48, 24)
    changed = series.values.copy()
    _, end = parts.spans["train"]
    changed[end:] = 1e6
    other = data.SeriesSplits(series._replace(values=changed), 48, 24)
    assert (other.spec.mean, other.spec.scale) == (parts.spec.mean, parts.spec.scale)
    training = parts.spec.normalize(series.values[:end]).astype(np.float64)
    assert training.mean() == pytest.approx(0, abs=1e-5) and training.std() == pytest.approx(
        1, abs=1e-5
    )


def test_history_and_horizon_follow_the_season_where_they_are_not_given():
    def sizes(season, *given):
        spec = data.SeriesSplits(data.open_series("waves", season), *given).spec
        return spec.history, spec.horizon

    assert sizes(0) == (48, 24) and sizes(1) == (24, 12) and sizes(30, 40) == (40, 30)
    with pytest.raises(UserError, match="expected a season at least, which is 24"):
        sizes(24, 20)


def test_a_series_that_does_not_do_is_refused():
    with pytest.raises(
        UserError, match="too short: 32 of its 50 values are its train part, which needs 40"
    ):
        data.SeriesSplits(line(50), 30, 10)
    with pytest.raises(UserError, match="its val part, which needs 10"):
        data.SeriesSplits(line(60), 20, 10)
    with pytest.raises(UserError, match="nothing to learn"):
        data.SeriesSplits(data.Series("flat", np.full(100, 3.0)), 6, 3)

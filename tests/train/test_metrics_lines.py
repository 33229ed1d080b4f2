"""The lines of metrics.jsonl: as they were logged, and damaged."""

import json
import math

import pytest

from advdl import train
from advdl.errors import UserError


def write(path, text):
    path.write_text(text)
    return path


def test_metrics_come_back_as_they_were_logged(tmp_path):
    lines = [{"step": 1, "train/loss": 0.5}, {"step": 2, "note": "a"}]
    path = write(tmp_path / "m.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert train.read_metrics(path) == lines


def test_numbers_that_json_has_not_are_numbers_again(tmp_path):
    path = write(tmp_path / "m.jsonl", '{"step": 1, "a": "nan", "b": "inf", "c": "-inf"}\n')
    (line,) = train.read_metrics(path)
    assert math.isnan(line["a"]) and line["b"] == math.inf and line["c"] == -math.inf


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path, cut):
    whole = '{"step": 1, "a": "2\u00b5"}\n'.encode()
    path = tmp_path / "m.jsonl"
    path.write_bytes(whole + whole[:-cut])
    lines = train.read_metrics(path)
    assert lines[0] == {"step": 1, "a": "2µ"} and len(lines) == (2 if cut == 1 else 1)


def test_no_lines_are_no_metrics(tmp_path):
    assert train.read_metrics(write(tmp_path / "m.jsonl", "")) == []


def test_other_damage_is_told(tmp_path):
    with pytest.raises(UserError, match="line 1 is not JSON"):
        train.read_metrics(write(tmp_path / "m.jsonl", '{"step": \n{"step": 2}\n'))
    with pytest.raises(UserError, match="cannot read .*none.jsonl"):
        train.read_metrics(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        "[1]",
        "3",
        "null",
        "{}",
        '{"step": "1"}',
        '{"step": 1.5}',
        '{"step": 1, "a": [2]}',
        '{"step": 1, "a": NaN}',
        '{"step": 1, "a": 1e999}',
        '{"step": 1, "a": "\\ud800"}',
        '{"step": 1, "a": ' + "9" * 5000 + "}",
        '{"a":' * 100_000,
        "\0\0\0",
    ],
)
def test_a_damaged_line_is_told_with_its_number(tmp_path, row):
    path = write(tmp_path / "m.jsonl", f'{{"step": 1}}\n{row}\n{{"step": 2}}\n')
    with pytest.raises(UserError, match="m.jsonl, line 2"):
        train.read_metrics(path)

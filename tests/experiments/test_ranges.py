"""Every number that an experiment can be told has a range, and another number is refused."""

import dataclasses
import itertools
import pathlib
import typing

import pytest

from advdl import cli
from advdl.cli.config import flag
from advdl.errors import UserError
from advdl.ranges import Range, check_ranges, whole_number

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))
WRONG = ["1" + 30 * "0", "1" + 5000 * "0", "inf", "nan", "-1e39", "1e39", "²", "", "0x10"]
FLOATS = [1e39, -1e39, float("inf"), float("-inf"), float("nan")]


def numbers(hint, ranges=()):
    """(int or float, its ranges) for every number in an annotation."""
    if hint in (int, float):
        return [(hint, ranges)]
    if typing.get_origin(hint) is typing.Literal:
        return []
    ranges += tuple(one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range))
    return [found for inner in typing.get_args(hint) for found in numbers(inner, ranges)]


def fields(load, name):
    """(verb, default settings, field, its numbers) for every number of `train` and `predict`."""
    module = load(name)
    for word, kind in (
        ("train", module.Config),
        ("predict", getattr(module, "Predict", cli.Predict)),
    ):
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            if found := numbers(hints[field.name]):
                yield word, kind(), field.name, found


def beyond(kind, allowed):
    """Numbers below and above a range: the nearest whole numbers, or for floats nearly the ends."""
    low, high = (
        end + sign * (0 if open_ in allowed.closed else 1 if kind is int else 1e-6 * max(1, end))
        for end, sign, open_ in ((allowed.low, -1, "("), (allowed.high, 1, ")"))
    )
    return kind(low), kind(high)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_number_has_a_range_that_is_obeyed(load, name):
    for preset in load(name).PRESETS.values():
        check_ranges(preset)
    for _, default, field, found in fields(load, name):
        check_ranges(default)
        for place, (kind, ranges) in enumerate(found):
            assert len(ranges) == 1, f"{field} has no range, or several"
            inside = getattr(default, field)
            for wrong in (*beyond(kind, ranges[0]), 10**30, -(10**30), *FLOATS):
                value = wrong
                if len(found) > 1:
                    value = [1] * len(found) if inside is None else list(inside)
                    value[place] = wrong
                    value = tuple(value)
                with pytest.raises(
                    UserError, match=f"^{flag(field)} is .*; expected at least|more"
                ):
                    check_ranges(dataclasses.replace(default, **{field: value}))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_number_out_of_its_range_is_refused_in_a_line(verb, load, tmp_path, name):
    """Of the settings that all experiments have, on the command line of one of them."""
    wrong = itertools.cycle(WRONG)
    for word, default, field, found in fields(load, name):
        if name != "classify" and isinstance(default, cli.Config) and hasattr(cli.Config, field):
            continue
        text = next(wrong)
        status, out, err = verb(name, word, flag(field), *[text] * len(found))
        assert (status, out, len(err.strip().splitlines())) == (2, "", 1), (field, text, out, err)
        assert flag(field) in err, (field, text, err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), (" 7 ", 7), ("", None), ("²", None), ("٣", None), ("1_0", None), ("-1", None)]
    + [("1" + 5000 * "0", None), ("2147483647", 2**31 - 1), ("2147483648", None)],
)
def test_a_whole_number_is_of_ascii_digits_and_32_bits(text, number):
    assert whole_number(text) == number

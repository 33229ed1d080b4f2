"""Numbers in a range, as annotations: `dropout: Rate = 0.0`. The parser checks every setting."""

import dataclasses
import typing
from typing import Annotated, Any, NamedTuple

from advdl.errors import UserError


class Range(NamedTuple):
    """Numbers from `low` to `high`. `closed` says which ends belong to it, such as "[)"."""

    low: float
    high: float
    closed: str = "[)"

    def holds(self, value: float) -> bool:
        """Whether the value is a number in this range."""
        above = value >= self.low if self.closed[0] == "[" else value > self.low
        below = value <= self.high if self.closed[1] == "]" else value < self.high
        return above and below

    def __str__(self) -> str:
        low = "at least" if self.closed[0] == "[" else "more than"
        high = "at most" if self.closed[1] == "]" else "less than"
        return f"{low} {self.low:.10g} and {high} {self.high:.10g}"


LIMIT = 2**31
"""Whole numbers are less than this: they are 32 bits wide on the devices."""
LARGE = 1e20
"""Numbers are less than this, far below the largest of float32, 3.4e38."""

COUNTS, NATURALS = Range(1, LIMIT), Range(0, LIMIT)
Count = Annotated[int, COUNTS]
"""A whole number, 1 or more."""
Natural = Annotated[int, NATURALS]
"""A whole number, 0 or more."""
Few = Annotated[int, Range(1, 1000, "[]")]
"""Number of things that are made or traced one after the other, such as layers or threads."""
Length = Annotated[int, Range(1, 10_000, "[]")]
"""Length of a sequence to which all are padded."""
Many = Annotated[int, Range(1, 100_000, "[]")]
"""Number of things that are kept in memory together, such as samples."""
Side = Annotated[int, Range(0, 8192, "[]")]
"""Height or width of an image in pixels, where 0 is the one that it has."""
Border = Annotated[int, Range(0, 256, "[]")]
"""Width of a border around an image in pixels."""
NonNegative = Annotated[float, Range(0, LARGE)]
"""A finite number, 0 or more."""
Positive = Annotated[float, Range(0, LARGE, "()")]
"""A finite number above 0."""
Rate = Annotated[float, Range(0, 1)]
"""At least 0 and less than 1, such as the rate of dropout."""
Share = Annotated[float, Range(0, 1, "[]")]
"""From 0 to 1, both included."""


def check_ranges(settings: Any) -> None:
    """Raises UserError for the first field that is outside of the range of its annotation."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for allowed in _ranges(hints[field.name]):
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None and not allowed.holds(one):
                    name = "--" + field.name.replace("_", "-")
                    raise UserError(f"{name} is {one}; expected {allowed}")


def whole_number(text: str, allowed: Range = NATURALS) -> int | None:
    """The number that a text of ASCII digits writes, spaces around it aside; None where there is
    none, or none in the range."""
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        return None
    return int(text) if allowed.holds(int(text)) else None


def _ranges(hint: Any) -> list[Range]:
    """The ranges in an annotation, also of what a tuple or an optional holds."""
    own = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
    return own + [one for inner in typing.get_args(hint) for one in _ranges(inner)]

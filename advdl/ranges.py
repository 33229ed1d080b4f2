"""Numbers in a range, as annotations: `dropout: Rate = 0.0`. The parser checks every setting."""

import dataclasses
import typing
from typing import Annotated, Any, NamedTuple

from advdl.errors import UserError


class Range(NamedTuple):
    """Numbers from `low` to `high`. `closed` says which ends belong to it, such as "[)"."""

    low: float = float("-inf")
    high: float = float("inf")
    closed: str = "[)"

    def holds(self, value: float) -> bool:
        """Whether the value is a number in this range."""
        above = value >= self.low if self.closed[0] == "[" else value > self.low
        below = value <= self.high if self.closed[1] == "]" else value < self.high
        return above and below

    def __str__(self) -> str:
        low = f"at least {self.low:g}" if self.closed[0] == "[" else f"more than {self.low:g}"
        high = f"at most {self.high:g}" if self.closed[1] == "]" else f"less than {self.high:g}"
        known = (low, abs(self.low)), (high, abs(self.high))
        return " and ".join(text for text, end in known if end != float("inf"))


Count = Annotated[int, Range(1)]
"""A whole number, 1 or more."""
Natural = Annotated[int, Range(0)]
"""A whole number, 0 or more."""
NonNegative = Annotated[float, Range(0)]
"""A finite number, 0 or more."""
Positive = Annotated[float, Range(0, closed="()")]
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


def _ranges(hint: Any) -> list[Range]:
    """The ranges in an annotation, also of what a tuple or an optional holds."""
    own = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
    return own + [one for inner in typing.get_args(hint) for one in _ranges(inner)]

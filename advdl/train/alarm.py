"""Alarms: what goes wrong in a run without stopping it, noticed in its metrics and named."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Alarm(NamedTuple):
    """name: what has happened. trips: figures of a logged line -> the statistics that say so, in
    words, or None.
    steps: over how many steps they have to say so without a break."""

    name: str
    trips: Callable[[Mapping[str, float]], str | None]
    steps: int


class Watch:
    """`watch(step, figures)` -> a line for each alarm that trips there: once, until it has been
    quiet again. standing: by name, the lines of the alarms that have not been quiet since."""

    def __init__(self, alarms: Sequence[Alarm]):
        self._alarms = alarms
        self._since: dict[str, int] = {}
        self.standing: dict[str, str] = {}
        self._last = 0

    def __call__(self, step: int, figures: Mapping[str, Any]) -> list[str]:
        said = []
        for alarm in self._alarms:
            try:
                statistic = alarm.trips(figures)
            except KeyError:  # a line of another kind
                continue
            if statistic is None:
                self._since.pop(alarm.name, None)
                self.standing.pop(alarm.name, None)
                continue
            since = self._since.setdefault(alarm.name, self._last)
            if step - since >= alarm.steps and alarm.name not in self.standing:
                self.standing[alarm.name] = f"{alarm.name} since step {since}: {statistic}"
                said.append(self.standing[alarm.name])
        if any(name.startswith("train/") for name in figures):
            self._last = step
        return said

    def over(self, lines: Iterable[Mapping[str, Any]]) -> list[str]:
        """What is said of lines of metrics.jsonl in turn."""
        return [said for line in lines for said in self(line["step"], line)]

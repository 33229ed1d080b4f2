"""What a person sees of a run that goes on: a bar in a terminal, lines in a log."""

import functools
import io
import time

import pytest
from rich.console import Console

from advdl.cli import progress

FIGURES = {"train/loss": 0.25, "train/steps_per_second": 2.0, "train/examples_per_second": 64.0}


def test_a_log_gets_a_line_of_the_last_step_and_one_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress.Progress(0, 20_000) as show:
        for step, at in ((10, 1.0), (20, progress.QUIET_SECONDS + 1), (30, 12.0), (20_000, 13.0)):
            now[0] = at
            show(step, FIGURES)
    lines = capsys.readouterr().err.splitlines()
    rate = "2.0 steps/s, 64 examples/s"
    assert lines == [
        f"step 20/20000 {rate}, 2:46:30 left, loss 0.25",
        f"step 20000/20000 {rate}, 0:00 left, loss 0.25",
    ]


@pytest.mark.parametrize(("process", "bar"), [(0, True), (1, False)])
def test_a_terminal_gets_a_bar_of_the_main_process(monkeypatch, capsys, process, bar):
    screen = io.StringIO()
    terminal = functools.partial(Console, file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal())
    monkeypatch.setattr(progress.jax, "process_index", lambda: process)
    with progress.Progress(5, 10) as show:
        show(8, FIGURES)
    assert ("step 8/10" in screen.getvalue() and "0:01 left" in screen.getvalue()) == bar
    assert capsys.readouterr().err == ""

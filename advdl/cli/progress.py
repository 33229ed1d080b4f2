"""What a person sees while a run goes on; all of it on standard error."""

import time
from collections.abc import Mapping

import jax
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from advdl.train import log

QUIET_SECONDS = 10.0


class Progress:
    """Step, rate, examples per second and time left: a bar in a terminal, a line now and then in a
    log.

    The rate is the loop's, without compilation and evaluation; so is the time left.
    """

    def __init__(self, start: int, steps: int):
        self._steps, self._start, self._spoke = steps, start, time.monotonic()
        self._bar = None
        console = Console(stderr=True)
        if console.is_terminal and jax.process_index() == 0:
            columns = (
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Bar(*columns, console=console)
            self._task = self._bar.add_task("compiling", total=steps, completed=start)

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """figures: those of training, `"train/loss"`."""
        rate = figures["train/steps_per_second"]
        left = (self._steps - step) / max(rate, 1e-9)
        losses = " ".join(
            f"{name.removeprefix('train/')} {value:.4g}"
            for name, value in figures.items()
            if name.endswith("loss")
        )
        text = (
            f"{rate:.1f} steps/s, {figures['train/examples_per_second']:.0f} examples/s,"
            f" {_clock(left)} left, {losses}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)
        elif time.monotonic() - self._spoke > QUIET_SECONDS or step == self._steps:
            self._spoke = time.monotonic()
            log(f"step {step}/{self._steps} {text}")

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

"""What a report is given: a trained state in its place, and what belongs to it."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from advdl import present, train
from advdl.errors import UserError


class Trained(NamedTuple):
    """A trained state, which stays where its placement put it, and what it was made of.

    Every process has one and calls the same functions of it, since a state may be spread over all
    of them. What a process other than the first writes goes to a folder that is thrown away.

    run: the run's folder. spec: what the networks know of their data. splits: the data, which is
      opened when it is first asked for; a prediction should do without. placed, state: the learner
      in its place and the state. step: updates done. figures: those of the last evaluation,
      `"test/accuracy"`; single numbers and arrays.
    """

    run: train.Run
    spec: Any
    splits: Any
    placed: train.CompiledLearner
    state: train.State
    step: int
    figures: Mapping[str, Any] = {}

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the pictures."""
        return self.run.report

    def apply(
        self, name: str, inputs: Mapping[str, np.ndarray], rows: int = 64, **settings: Any
    ) -> Any:
        """The learner's function of this name, of all examples, (N, …); see `train.apply`."""
        return train.apply(self.placed, self.state, name, inputs, rows, **settings)

    def variables(self, player: str = "model") -> train.Variables:
        """What this player is evaluated with, laid out as the state is."""
        return self.state[player].average

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the run's metrics.jsonl."""
        return train.read_metrics(self.run.folder / "metrics.jsonl")

    def frame(self, folder: str = "frames") -> pathlib.Path:
        """Where a snapshot of this step goes, for `animation`."""
        return self.folder / folder / f"{self.step:07}.png"

    def animation(self, folder: str = "frames", milliseconds: int = 300) -> str:
        """The name of an animation of the snapshots that were taken in training."""
        frames = sorted((self.folder / folder).glob("*.png"))
        if frames:  # processes other than the first keep none
            present.animate(frames, self.folder / "training.gif", milliseconds=milliseconds)
        return "training.gif"


def given_files(files: Sequence[pathlib.Path], what: str) -> Sequence[pathlib.Path]:
    """The files that `predict` was given. Raises UserError where there are none, and for two of
    which one would be written over the other, since outputs are called as inputs are."""
    if not files:
        raise UserError(f"predict needs {what}; give their files, as in: predict FILE")
    stems = {path.stem: path for path in reversed(files)}
    for path in files:
        if stems[path.stem] is not path:
            raise UserError(
                f"the outputs of {stems[path.stem]} and {path} would have the same name; give them"
                " to two calls, each with its own --out"
            )
    return files


def learning_section(
    trained: Trained, *panels: present.Panel, title: str = "Learning", text: str = ""
) -> present.Section:
    """A section with charts over training, curves.png."""
    present.draw_curves(trained.lines(), trained.folder / "curves.png", panels)
    return present.Section(title, text, ["curves.png"])


def course(trained: Trained, metric: str) -> dict[str, str]:
    """The lines of a chart of a metric: on training batches and on every evaluation."""
    parts = {"training batches": "train"} | {name: name for name in trained.splits.evaluations}
    return {label: f"{part}/{metric}" for label, part in parts.items()}

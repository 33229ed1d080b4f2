"""Recurrent networks: answers by length, states while a sequence is read, and how far back the
error reaches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advdl import data, metrics, present, train
from advdl.errors import UserError
from advdl.reports.comparison import ComparisonReport, Curve
from advdl.reports.trained import Trained


class ParityReport(NamedTuple):
    """The report on networks that tell the parity of bits after every step: answers by length, and
    the states of the first seed of each network while it reads.

    comparison: learners with a function `outputs`, `{"sequence": (B, T, 2)} -> (logits (B, T, 2),
    {"states": (B, T, H)})`, and the metrics `accuracy` of `train` and `accuracy_unseen` and
    `accuracy_by_length` (T,) of `test`. longest: the longest sequence in training.
    """

    comparison: train.Comparison
    longest: int

    def comparison_report(self, claim: str, rules: Sequence[metrics.Rule]) -> ComparisonReport:
        """The report on the accuracies, with these sections; see `ComparisonReport`."""
        labels = {
            "test/accuracy_unseen": "accuracy at lengths never seen",
            "train/accuracy": "accuracy in training",
        }
        sections = [self.lengths, self.states]
        return ComparisonReport(
            self.comparison, claim, rules, labels, {"chance": 0.5}, sections=sections
        )

    def lengths(self, trained: Trained) -> present.Section:
        """The accuracy by length, a line for each seed."""
        present.draw_by_step(
            self.comparison.figures(trained.figures, "test/accuracy_by_length"),
            trained.folder / "lengths.png",
            "right answers by the length of the sequence",
            ylabel="share",
            references={"chance": 0.5},
            border=self.longest,
            border_label="longest in training",
        )
        return present.Section("Right answers by length", LENGTHS, ["lengths.png"])

    def states(self, trained: Trained) -> present.Section:
        """The states while sixty random bits are read."""
        text = "".join(map(str, np.random.default_rng(0).integers(0, 2, 60)))
        answers = self.draw(trained, text, trained.folder / "states.png")
        lines = {name: "".join(map(str, each)) for name, each in answers.items()}
        return present.Section("States", STATES, ["states.png"], {"input": text, **lines})

    def draw(self, trained: Trained, text: str, path: Path) -> dict[str, np.ndarray]:
        """Draws the states into a PNG; returns the answers (T,) of each network."""
        bits = data.parse_bits(text)
        right = 2.0 * data.parity(bits) - 1
        rows, answers = {"input, and right answer": np.stack([2.0 * bits - 1, right], 1)}, {}
        for name in self.comparison.learners:
            sequence = np.eye(2, dtype=np.float32)[bits[None]]
            function = f"{self.comparison.members(name)[0]}/outputs"
            logits, found = trained.apply(function, {"sequence": sequence}, rows=1)
            states = found["states"][0].astype(np.float64)
            rows[name] = states[:, np.argsort((states * right[:, None]).mean(0))]
            answers[name] = logits[0].argmax(-1)
        present.draw_states(rows, path, list(text))
        return answers

    def predict(self, trained: Trained, options: Any, folder: Path) -> Mapping[str, Any]:
        """The answer of each network to each of `options.sequences`, and the right one."""
        if not options.sequences:
            raise UserError("give sequences of 0 and 1, as in: predict 0110101 111")
        found = {}
        for number, text in enumerate(options.sequences):
            answers = {"right": data.parity(data.parse_bits(text))}
            answers |= self.draw(trained, text, folder / f"states_{number}.png")
            found[text] = {name: ("even", "odd")[own[-1]] for name, own in answers.items()}
        return found


class MemoryReport(NamedTuple):
    """A section on how far back the error of a `data.Task` reaches: the norm of its gradient by the
    input against the distance from the end, of the first seeds at the longest lag.

    comparison: learners `name-lag` with functions `outputs`, batch -> (B, 1 or classes), and
    `gradient_norms`, batch -> (B, T), see `models.gradient_norms`. task, names, lags: what is
    compared.
    """

    comparison: train.Comparison
    task: data.Task
    names: Sequence[str]
    lags: Sequence[int]

    def comparison_report(self, claim: str, rules: Sequence[metrics.Rule]) -> ComparisonReport:
        """The report on the errors at every lag, with this section; see `ComparisonReport`."""
        error, blind = self.task.error, {"ignoring the input": self.task.blind}
        log = self.task.outputs == 1
        return ComparisonReport(
            self.comparison,
            claim,
            rules,
            {"test/error": error},
            blind,
            shown=[f"{name}-{max(self.lags)}" for name in self.names],
            sections=[self],
            curves=[Curve(error, {"": "test/error"}, log, blind)],
            groups={
                f"over {lag} steps": {f"{name}-{lag}": name for name in self.names}
                for lag in self.lags
            },
        )

    def apply(self, trained: Trained, function: str, count: int) -> dict[str, np.ndarray]:
        """The results of a function on held-out sequences, by network; `truth` are the answers."""
        lag = max(self.lags)
        batch = self.task.at("test", (lag,)).read(np.arange(count))
        return {"truth": batch[f"target/{lag}"]} | {
            name: trained.apply(f"{name}-{lag}-s0/{function}", batch) for name in self.names
        }

    def snapshot(self, trained: Trained) -> None:
        """Draws the norms at this step of the training."""
        norms = self.apply(trained, "gradient_norms", 128)
        del norms["truth"]
        low, high = 1e-12, 1e1
        present.draw_by_step(
            {name: [np.maximum(norm.mean(0), low)] for name, norm in norms.items()},
            trained.folder / "frames" / f"{trained.step:07}.png",
            f"step {trained.step:,}",
            "steps before the end",
            "norm of the error's gradient by the input",
            log=True,
            limits=(low, high),
        )

    def __call__(self, trained: Trained) -> present.Section:
        frames = sorted((trained.folder / "frames").glob("*.png"))
        present.animate(frames, trained.folder / "gradients.gif", milliseconds=400)
        pictures = [
            present.Picture(frames[-1], "At the end of the training."),
            present.Picture(frames[0], "Before it."),
            present.Picture("gradients.gif", "In between."),
        ]
        return present.Section("How far back the error reaches", GRADIENTS, pictures)

    def predict(self, trained: Trained, options: Any, folder: Path) -> Mapping[str, Any]:
        """Answers to the first `options.count` held-out sequences."""
        found = self.apply(trained, "outputs", options.count)
        return {"truth": found.pop("truth").tolist()} | {
            name: (output[:, 0] if output.shape[1] == 1 else output.argmax(1)).tolist()
            for name, output in found.items()
        }


LENGTHS = """The test sequences are random, and the answer after every step of them is right or \
wrong. So the answers at step T are those to random sequences of length T."""
STATES = """Units are in the order of how they go with the right answer: a state that carries it \
changes sign with it. Below are the input and the answer of each network after every step."""
GRADIENTS = """How strongly the error at the end depends on what was read so many steps before: \
the mean over 128 held-out sequences, of the first seed of each network at the longest lag."""

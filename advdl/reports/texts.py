"""Texts that a language model reads and writes: how well it foresees one beside counts and
compressors, what becomes of its errors when it is fed its own tokens, and what its units keep.

The learner has the functions of `models.language.functions`. Axes: N tokens, H features.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from advdl import data, metrics, present, train
from advdl.reports.trained import Trained, learning_section

HORIZON, PLACES = 60, 1000
"""Number of tokens that the network goes on for, and of places of the test part where it does."""


@dataclass(frozen=True)
class LanguageReport:
    """The test part, read as one stream, and what is written.

    window: number of tokens that are read at a time. paper: the published perplexity, and where it
    stands. adapt: the rate at which a network that is scored too goes on learning as it reads, see
    `models.language.functions` (0: none is). lookup: number of the latest training tokens that a
    network that is scored too looks up, see `metrics.lookup` (0: none is).
    """

    spec: data.CorpusSpec
    window: int
    paper: str = ""
    adapt: float = 0.0
    lookup: int = 0

    def __call__(self, trained: Trained) -> present.Page:
        known, ids = trained.splits.train.ids, trained.splits.evaluations["test"].ids
        read = self.read(trained, ids)
        found, beside = self.figures(read["nats"].mean(), ids), self.baselines(trained.splits)
        accuracy, often = float(read["right"].mean()), share(ids, int(np.bincount(known).argmax()))
        unknown = share(ids, data.UNKNOWN)
        unit = "bits_per_character" if self.spec.text.lossless else "perplexity"
        label, best = unit.replace("_", " "), min(beside, key=lambda name: beside[name][unit])
        sentence = (
            f"The network has {found[unit]:.4g} {label} on the test part; the best of counts and"
            f" compressors, {best}, has {beside[best][unit]:.4g}. {accuracy:.1%} of its next tokens"
            f" are right, and {often:.1%} are the commonest one."
        )
        further = self.further(trained)
        if self.adapt:
            beside["the network, learning as it reads"] = further["adapted"]["test"]
            sentence += (
                f" A network that goes on learning as it reads has"
                f" {further['adapted']['test'][unit]:.4g} (dynamic evaluation at the rate"
                f" {self.adapt:g})."
            )
        if self.lookup:
            beside["the network, looking up what it has read"] = further["looked_up"]["test"]
            sentence += (
                f" One that {'also ' * bool(self.adapt)}looks up what it has read has"
                f" {further['looked_up']['test'][unit]:.4g}."
            )
        sections = [present.Section("Scores", "", [], {"the network": found} | beside)]
        picture = present.Picture("curves.png")
        if free := self.free_running(trained, ids):
            ends = {name: float(line[len(line) // 2 :].mean()) for name, line in free.items()}
            sentence += (
                f" Far from the last given token {ends['right, fed the truth']:.1%} are right, and"
                f" {ends['right, fed its own']:.1%} where it is fed its own."
            )
            lines = {
                "fed the truth (teacher forcing)": [free["right, fed the truth"]],
                "fed its own (free running)": [free["right, fed its own"]],
            }
            present.draw_by_step(
                lines,
                trained.folder / "free_running.png",
                "the next token, right",
                xlabel="tokens after the last given one",
                ylabel="share",
                references={"the commonest token": often},
            )
            picture = present.Picture("free_running.png", FREE)
            sections.append(
                present.Section("Fed the truth, fed its own", FREE, ["free_running.png"], ends)
            )
        if self.spec.text.unit == "characters":
            self.draw(read, self.spec.text.decode_lines(ids), trained.folder)
            picture = present.Picture("surprise.png", SURPRISE)
            sections.append(present.Section("What units keep", UNITS, ["units.png"]))
        verdict = {"verdict": sentence, "test": found, **beside, "unknown": unknown, **further}
        trained.run.write("verdict.json", verdict)
        written = [
            f"After {int(file.stem[8:])} updates:\n{file.read_text(encoding='utf-8')}"
            for file in sorted(trained.folder.glob("written_*.txt"))
        ]
        about = f"{len(self.spec.text)} tokens; {unknown:.2%} of the test part are unknown."
        parts = {"train": known} | {n: each.ids for n, each in trained.splits.evaluations.items()}
        counts = {name: len(own) for name, own in parts.items()}
        sections += [
            present.Section("What it writes", "\n\n".join(written)),
            learning_section(
                trained,
                present.Panel("nats per token", series("loss", "nats_per_token")),
                present.Panel("tokens right", series("accuracy", "accuracy")),
            ),
            present.Section("The text", about, [], counts),
        ]
        pairs = f"{beside['counts of pairs']['perplexity']:.4g}, counts of pairs"
        common = f"{often:.3g}, the commonest token"
        figures = [
            present.Figure("perplexity of the test part", found["perplexity"], pairs, self.paper),
            present.Figure("next tokens that are right", accuracy, common),
        ]
        if unit != "perplexity":
            trivial = f"{beside[best][unit]:.4g}, {best}"
            figures.insert(0, present.Figure(f"{label} of the test part", found[unit], trivial))
        return present.Page(picture, figures, sentence, sections)

    def figures(self, nats: float, ids: np.ndarray) -> dict[str, float]:
        """Figures of a text of these ids (N,), from its nats per token."""
        with np.errstate(over="ignore"):  # of a network that diverged it is infinite
            found = {"nats_per_token": float(nats), "perplexity": float(np.exp(np.float64(nats)))}
        if self.spec.text.lossless:
            rate = len(ids) / len(self.spec.text.decode_lines(ids))
            found["bits_per_character"] = float(nats) / math.log(2) * rate
        return found

    def further(self, trained: Trained) -> dict[str, dict[str, Any]]:
        """Figures of `val` and of `test` by a network that goes on learning as it reads, `adapted`,
        and by one, the same where there is one, that looks up what it has read, `looked_up`: how it
        does that is fitted on `val`."""
        if not (self.adapt or self.lookup):
            return {}
        parts = {part: trained.splits.evaluations[part].ids for part in ("val", "test")}
        given = ("adapt", {"rate": self.adapt}) if self.adapt else ("read", {})
        nats = {
            n: self.read(trained, own, given[0], **given[1])["nats"] for n, own in parts.items()
        }
        found: dict[str, dict[str, Any]] = {}
        if self.adapt:
            found["adapted"] = {n: self.figures(nats[n].mean(), own) for n, own in parts.items()}
        if self.lookup:
            known = trained.splits.train.ids[-self.lookup - 1 :]
            learned, near = self.read(trained, known)["states"], {}
            for name, own in parts.items():
                states = self.read(trained, own)["states"]
                near[name] = metrics.similar_places(learned, known[1:], states, own[1:])
            scale, weight = metrics.fitted_lookup(nats["val"], near["val"])
            found["looked_up"] = {"scale": scale, "share": weight} | {
                n: self.figures(metrics.looked_up_nats(nats[n], near[n], scale, weight).mean(), own)
                for n, own in parts.items()
            }
        return found

    def baselines(self, splits: data.Splits) -> dict[str, dict[str, float]]:
        """Figures of the test part by counts of tokens, and by compressors that have seen the
        training part."""
        known, ids, text = splits.train.ids, splits.evaluations["test"].ids, self.spec.text
        counted = metrics.counted_nats(known, ids, len(text))
        found = {name: self.figures(nats, ids) for name, nats in counted.items()}
        if text.lossless:
            packed = metrics.compressed_bits(text.decode_lines(known), text.decode_lines(ids))
            found |= {name: {"bits_per_character": bits} for name, bits in packed.items()}
        return found

    def read(
        self, trained: Trained, ids: np.ndarray, function: str = "read", **settings: float
    ) -> dict[str, np.ndarray]:
        """The text of ids (N,) read as one stream: nats and whether right (N - 1,), and states (N -
        1, H). function: `read`, or `adapt` with its settings and without states."""
        count = len(ids) - 1
        missing = -count % self.window
        parts = {"inputs": ids[:-1], "targets": ids[1:]}
        inputs = {name: np.pad(part, (0, missing))[None] for name, part in parts.items()}
        found = trained.apply(function, inputs, 1, **settings)
        return {name: value[0, :count] for name, value in found.items()}

    def free_running(self, trained: Trained, ids: np.ndarray) -> dict[str, np.ndarray]:
        """By distance from the last given token, (HORIZON,): the share of tokens that are right,
        and nats, of a network that is fed the truth and of one that is fed its own likeliest
        tokens, from the same places of a text of ids (N,). Nothing where the text is too short."""
        context = self.window
        horizon = min(HORIZON, max(1, (len(ids) - context) // 2))
        start = np.linspace(0, len(ids) - context - horizon - 1, PLACES).astype(int)
        if start[-1] < 0:
            return {}
        tokens, found = ids[start[:, None] + np.arange(context + horizon + 1)], {}
        for name, sampling in (("fed the truth", 0.0), ("fed its own", 1.0)):
            settings = {"context": context, "sampling": sampling}
            each = trained.apply("go_on", {"tokens": tokens}, PLACES, **settings)
            for what in ("right", "nats"):
                found[f"{what}, {name}"] = np.asarray(each[what], float).mean(0)
        return found

    def draw(self, read: dict[str, np.ndarray], text: str, folder: Path, shown: int = 700) -> None:
        """Draws characters of a text (N + 1) that was read, colored by their surprise, and by the
        units that go best with what can be computed from the text up to there."""
        begin = text.find("\n", len(text) // 2) + 1
        part, following, text = slice(begin, begin + shown), text[1:], text[:-1]
        title, bits = "bits of each character, given all before it", read["nats"] / math.log(2)
        present.draw_characters([(title, following[part], bits[part])], folder / "surprise.png")
        states, rows = read["states"] - read["states"].mean(0), []
        for name, known in metrics.place_features(text).items():
            known = known - known.mean()
            scale = np.sqrt((states**2).sum(0) * (known**2).sum())
            r = states.T @ known / np.maximum(scale, 1e-12)
            unit = int(np.abs(r).argmax())
            spread = max(float(states[:, unit].std()), 1e-12)
            value = np.tanh(states[part, unit] * np.sign(r[unit]) / spread / 2)
            title = f"unit {unit}, which goes best with {name}: r = {abs(r[unit]):.2f}"
            rows.append((title, text[part][:280], value[:280]))
        present.draw_characters(rows, folder / "units.png")

    def write(self, trained: Trained, beginning: str, steps: int, seed: int = 0, **drawing) -> str:
        """So many tokens more, as a text. drawing: see `decoding.sample`."""
        ids = self.spec.text.encode_lines(beginning or "\n")
        ids = ids if len(ids) else np.full(1, data.END, np.int32)
        key = np.asarray(jax.random.key_data(jax.random.key(seed)))
        inputs = {"beginning": ids[None], "key": key[None]}
        written = trained.apply("write", inputs, 1, steps=steps, **drawing)
        return self.spec.text.decode_lines(written[0])

    def snapshot(self, trained: Trained) -> None:
        """Keeps what it writes by now."""
        file = trained.folder / f"written_{trained.step:06}.txt"
        text = self.write(trained, "", 200, temperature=0.7)
        with train.os_errors_as_user_errors(str(file.parent)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def predict(self, trained: Trained, options: Any, folder: Path) -> dict[str, str]:
        """How each of `options.beginnings` may go on."""
        drawing = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}
        found = {}
        for text in options.beginnings or ("",):
            for note in self.spec.text.notes([text]):
                train.log(note)
            found[text] = self.write(trained, text, options.length, options.seed, **drawing)
        return found


def share(ids: np.ndarray, token: int) -> float:
    """Share of a token among ids (N,)."""
    return float(np.mean(ids == token))


def series(learned: str, held_out: str) -> dict[str, str]:
    """The lines of a chart: a metric of training, and one of `val`."""
    return {"training, dropout on": f"train/{learned}", "val": f"val/{held_out}"}


FREE = """From 1,000 places of the test part: the network has read a window of it, and then goes \
on. Fed the truth, its next token is as good as ever; fed its own likeliest ones, what it says \
departs from the truth, which is no error of the network alone: there are many ways to go on."""
SURPRISE = """Test characters, colored by their bits given all before them: red is what the \
network did not expect."""
UNITS = """Units of the last layer whose states go best with what can be computed from the text, \
such as the place in the line; red is above the mean, blue below."""

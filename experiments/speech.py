"""From sound to what is said: a bidirectional LSTM on log mel frames, trained by CTC, for words
alone and for strings.

    python experiments/speech.py train                                          # laptop: dialed keys, no download
    python experiments/speech.py train --preset digits --data folder:PATH       # PATH/WORD_SPEAKER_NUMBER.wav
    python experiments/speech.py predict recording.wav                          # your own

Graves et al. 2006: nobody says when a word begins; the loss adds up all ways to lay the words over
the frames. In training a string is made of one to `--most` recordings of one speaker, laid one
behind the other; the held-out strings are of held-out recordings. One network answers both
questions: a word alone is the likeliest of all words, a string is found by a prefix beam.

Recorded with `train --seed S` and `train --preset digits --final --data folder:spoken_digits --seed
S`, S = 0, 1, 2, on one core of an AMD EPYC beside other work, JAX 0.10.2; per cent, on 300 held-out
strings and all held-out words alone:

                                          dialed keys               spoken digits
    word error rate, prefix beam of 10    0.71, 0.12, 0.36          0.75, 0.85, 0.85
    strings right, prefix beam            98.00, 99.67, 99.00       97.67, 97.33, 97.33
    words alone right                     99.06, 99.06, 100.00      96.33, 97.67, 97.67 (mean 97.22)
    seconds of training                   29, 13, 13                1177, 1178, 684

The commonest string has a word error rate of 90, the commonest word is right for 11 and 10 %. The
settings of the digits were chosen by the validation part, without --final, seed 0: words alone
there 94.33 with masks and speed, 97.33 with speed and less dropout, 97.00 with these (nats a string
0.41, 0.434, 0.423); in the test part, without --final, 93.67, 96.67 and 97.00.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from advdl import cli, data, losses, metrics, models, present, train
from advdl.data import speech
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import ctc
from advdl.models.listener import Listener


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "dial"
    """dial, keys of a telephone; or folder:PATH with WORD_SPEAKER_NUMBER.wav (numbers 0 to 4 are
    the test part, 5 to 9 val)."""
    most: int = 2
    """Recordings of the longest string."""
    features: int = 64
    """Units of either direction."""
    layers: int = 1
    """Of the stack."""
    dropout: float = 0.0
    """Rate between layers and before the answer."""
    speed: float = 0.0
    """Share by which recordings are played faster or slower in training."""
    masks: int = 0
    """Stretches of frames, and as many of bands, that are silenced in a recording in training."""
    final: bool = False
    """Learn from the validation part too, once settings are chosen by it; its figures then say
    nothing."""
    strings: int = 300
    """Held-out strings that are scored, of either held-out part."""


PRESETS = {
    "laptop": Config(
        batch=32,
        steps=600,
        learning_rate=3e-3,
        schedule="cosine",
        clip=5.0,
        evaluate_every=100,
        save_every=300,
        log_every=25,
    ),
    # The Free Spoken Digit Dataset, 3,000 recordings of six speakers at 8 kHz, its official test
    # split.
    "digits": Config(
        preset="digits",
        data="folder:spoken_digits",
        most=5,
        features=96,
        layers=2,
        dropout=0.5,
        speed=0.1,
        ema=0.995,
        batch=32,
        steps=1500,
        learning_rate=2e-3,
        schedule="cosine",
        warmup=100,
        clip=5.0,
        evaluate_every=250,
        save_every=500,
        log_every=25,
    ),
}
WIDTH = 10
EXACT = "strings right as a whole, greedily"
TOO_LONG = "strings with too few frames"
"""Share of strings that CTC cannot say (`losses.ctc_frames`): training learns nothing from them,
and the nats of held-out ones are infinite and left out of the mean."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """WAV files."""

    def alone(self) -> Mapping[str, Any]:
        """A trained run is all that is needed, its recordings are not."""
        run, config, variables, out = self.trained("speech", Config)
        return predict(Ear(config, read_names(run)), variables, self, out)


SAVED = "labels.json"


def read_names(run: train.Run) -> tuple[str, ...]:
    """What the labels of a run from 1 on are called. Raises UserError where that cannot be read."""
    names = (run.read(SAVED) or {}).get("labels")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{run.folder / SAVED} names no labels; train the run anew")
    return tuple(names)


def likeliest_word(logits_BTK: jax.Array, frames_B: jax.Array, words: Sequence[int]) -> jax.Array:
    """(B,): which of these labels is the likeliest to be all that is said."""

    def one(word):
        return losses.ctc(
            logits_BTK,
            frames_B,
            jnp.full((len(logits_BTK), 1), word),
            jnp.ones(len(logits_BTK), jnp.int32),
        )

    words = jnp.asarray(words, jnp.int32)
    return words[jax.lax.map(one, words).argmin(0)]


def tell_too_long(strings: speech.Strings) -> None:
    """A warning where some of the strings have too few frames for their labels."""
    batch = strings.read(np.arange(len(strings)))
    count = int(
        (losses.ctc_frames(batch["label"], batch["label_length"]) > batch["frames_length"]).sum()
    )
    if count:
        cli.say(
            f"warning: {count} of {len(strings)} held-out strings have fewer frames than CTC needs"
            " for their labels; they count as wrong and have no nats, and training learns nothing"
            " from such strings"
        )


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "most", "features", "layers", "strings")
    cli.at_least(0, config, "masks")
    for name in ("dropout", "speed"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(
                f"--{name} is {getattr(config, name)}; expected at least 0 and less than 1"
            )
    metrics.word_error_rate(
        ["one"], ["one"]
    )  # a library that is missing is told now and not after the training
    recordings = {
        part: speech.open_recordings(config.data, part) for part in ("train", "val", "test")
    }
    names = recordings["train"][1]
    ear = Ear(config, names)
    module = ear.module

    def loss(variables, batch, rng):
        logits = module.apply(
            variables,
            batch["frames"],
            batch["frames_length"],
            train=True,
            rngs={"dropout": rng.key},
        )
        value, sayable = lost(logits, batch)
        return train.Loss(Mean.of(value), {TOO_LONG: Mean.of(~sayable)})

    def lost(logits, batch):
        """Of every string its loss, 0 where its labels need more frames than there are, and whether
        they do not."""
        given = batch["label"], batch["label_length"]
        value = losses.ctc(logits, batch["frames_length"], *given, zero_infinity=True)
        return value, losses.ctc_frames(*given) <= batch["frames_length"]

    def evaluate(variables, batch):
        logits, mask = (
            module.apply(variables, batch["frames"], batch["frames_length"]),
            batch["mask"],
        )
        said, count = ctc.collapse(logits.argmax(-1).astype(jnp.int32), batch["frames_length"])
        size = batch["label"].shape[1]
        room = jnp.pad(said, ((0, 0), (0, max(0, size - said.shape[1]))))[:, :size]
        right = (room == batch["label"]).all(1) & (count == batch["label_length"])
        value, sayable = lost(logits, batch)
        return {
            "nats a string": Mean.of(value, mask * sayable),
            EXACT: Mean.of(right, mask),
            TOO_LONG: Mean.of(~sayable, mask),
        }

    def init(key, batch):
        return module.init(key, batch["frames"], batch["frames_length"])

    rule = train.chain(optax.adam(config.scheduled()), config.clip)
    learner = train.minimize(
        train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat),
        evaluate,
    )
    desk = Desk(ear, config, recordings["test"][0], recordings["val"][0])
    learned = recordings["train"][0] + (recordings["val"][0] if config.final else [])
    strings = speech.Strings(
        config.data, "train", learned, config.most, speed=config.speed, masks=config.masks
    )
    held_out = speech.Strings(
        config.data, "val", recordings["val"][0], config.most, config.strings, seed=1
    )
    tell_too_long(held_out)
    return cli.Experiment(
        learner=learner,
        train=data.TrainBatches(strings, config.batch, config.seed),
        test=data.EvalBatches(held_out, config.batch),
        report=desk.report,
        best=("nats a string", "min"),
        kept={SAVED: {"labels": names}},
        counts=lambda batch: {"frames": batch["frames_length"].sum()},
    )


class Ear:
    """The network and what its labels are called."""

    def __init__(self, config: Config, names: tuple[str, ...]):
        self.names = names
        self.module = module = Listener(
            len(names) + 1, config.features, config.layers, config.dropout, config.dtype
        )
        self.logits = jax.jit(module.apply)
        words = range(1, len(names) + 1)
        self.words = jax.jit(
            lambda variables, x, length: likeliest_word(
                module.apply(variables, x, length), length, words
            )
        )

    def heard(
        self, variables: train.Variables, batch: Mapping[str, np.ndarray], width: int
    ) -> list[str]:
        """Every string of a batch as words; width 0 takes the likeliest label of each frame."""
        given, length = batch["frames"], batch["frames_length"]
        logits = models.in_portions(
            lambda *part: self.logits(variables, *part), given, length, rows=50
        )
        if not width:
            said, count = ctc.collapse(
                jnp.asarray(logits.argmax(-1).astype(np.int32)), jnp.asarray(length)
            )
            return [
                self.text(row[:n])
                for row, n in zip(np.asarray(said), np.asarray(count), strict=True)
            ]
        chance = np.asarray(jax.nn.log_softmax(logits))
        return [
            self.text(ctc.prefix_beam(one[:n], width)[0][0])
            for one, n in zip(chance, length, strict=True)
        ]

    def text(self, labels) -> str:
        """Labels as words."""
        return " ".join(self.names[label - 1] for label in labels)

    def alone(
        self, variables: train.Variables, recordings: Sequence[speech.Recording]
    ) -> dict[str, float]:
        """How many recordings of one word are heard right."""
        recordings = [recording for recording in recordings if len(recording.labels) == 1]
        x = [speech.features(recording.samples) for recording in recordings]
        padded = data.pad(x, max(map(len, x)))
        said = models.in_portions(
            lambda *part: self.words(variables, *part), padded.ids, padded.lengths, rows=50
        )
        label = np.array([recording.labels[0] for recording in recordings])
        commonest = float(np.bincount(label).max() / len(label))
        return {
            "right": float((said == label).mean()),
            "of": len(label),
            "the commonest": commonest,
        }

    def draw(self, variables: train.Variables, samples: np.ndarray, path: Path) -> str:
        """The sound and the probability of every label over time; returns what is heard."""
        x = speech.features(samples)[None]
        logits = self.logits(variables, x, np.array([x.shape[1]], np.int32))
        chance = np.asarray(jax.nn.softmax(logits))[0]
        rows = {
            "log mel bands, the high ones above": x[0][:, ::-1],
            f"labels: blank, {', '.join(self.names)}": chance,
        }
        present.draw_states(rows, path, xlabel=f"frames of {speech.HOP * 1000:.0f} ms")
        return self.text(ctc.prefix_beam(np.log(chance + 1e-30), WIDTH)[0][0])


class Desk:
    """What a listener came to."""

    def __init__(
        self,
        ear: Ear,
        config: Config,
        recordings: list[speech.Recording],
        validation: list[speech.Recording],
    ):
        self.ear, self.config, self.recordings, self.validation = (
            ear,
            config,
            recordings,
            validation,
        )

    def score(self, variables: train.Variables) -> dict[str, Any]:
        """Of the test part: word error rates of strings, and words alone that are right, each
        beside a guess."""
        config = self.config
        strings = speech.Strings(
            config.data, "test", self.recordings, config.most, config.strings, seed=2
        ).read(np.arange(config.strings))
        wanted = [
            self.ear.text(row[:n])
            for row, n in zip(strings["label"], strings["label_length"], strict=True)
        ]
        found = {}
        for title, width in (("greedy", 0), (f"prefix beam of {WIDTH}", WIDTH)):
            heard = self.ear.heard(variables, strings, width)
            found[title] = {
                "word error rate": metrics.word_error_rate(wanted, heard),
                "strings right": float(
                    np.mean([a == b for a, b in zip(wanted, heard, strict=True)])
                ),
            }
        often = max(set(wanted), key=wanted.count)
        found["the commonest string"] = {
            "word error rate": metrics.word_error_rate(wanted, [often] * len(wanted))
        }
        found["words alone"] = self.ear.alone(variables, self.recordings)
        found["words alone, val"] = self.ear.alone(variables, self.validation)
        return found

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, variables = run.report, state["model"].average
        found = self.score(variables)
        best = found[f"prefix beam of {WIDTH}"]
        said = (
            f"test: word error rate {best['word error rate']:.2%} on {self.config.strings} strings"
            f" of 1 to {self.config.most} recordings, {found['words alone']['right']:.2%} of"
            f" {found['words alone']['of']} words alone are right"
        )
        run.write("verdict.json", {"verdict": said, **found})
        cli.say(said)
        shown = [self.recordings[row] for row in data.selected(self.recordings, 3)]
        samples = np.concatenate([recording.samples for recording in shown])
        self.ear.draw(variables, samples, folder / "heard.png")
        lines = present.read_metrics(run.folder / "metrics.jsonl")
        panels = [
            present.Panel(
                "nats a string", {"training": "train/loss", "val": "test/nats a string"}, log=True
            ),
            present.Panel(EXACT, {"val": f"test/{EXACT}"}),
        ]
        present.draw_curves(lines, folder / "curves.png", panels)
        truth = self.ear.text([label for recording in shown for label in recording.labels])
        return [
            present.Section("The verdict", said, ["curves.png"], found),
            present.Section("What it hears, and when", f"{HEARD} Said: {truth}.", ["heard.png"]),
        ]


def predict(ear: Ear, variables: train.Variables, options: Predict, folder: Path) -> dict[str, Any]:
    """What is said in files."""
    if not options.files:
        raise UserError("give WAV files, as in: predict recording.wav")
    with train.told(f"folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    answer = {}
    for path in options.files:
        samples, rate = data.read_wav(path, speech.RATE)
        if rate != speech.RATE:
            cli.say(f"{path} has {rate} Hz and was resampled to {speech.RATE}")
        answer[str(path)] = ear.draw(variables, samples, folder / f"{path.stem}.png")
    return answer


HEARD = """Test recordings laid one behind the other: the sound, and below the probability of the blank and of each label at \
every frame."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

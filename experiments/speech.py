"""From sound to words: a bidirectional LSTM on log mel frames, trained by CTC (Graves et al. 2006).

    python experiments/speech.py train                         # laptop: dialed keys, no download
    python experiments/speech.py train --preset digits --data folder:PATH
    python experiments/speech.py predict recording.wav         # a recording of your own

Nobody marks when a word begins: the loss adds up all ways to lay the words over the frames. In
training a string is made of one to `--most` recordings of one speaker, one behind the other. The
network is scored on held-out strings, found by a prefix beam, and on single words.

Recorded with `train`, seeds 0, 1, 2: word error rate 0.71, 0.12, 0.36 % on 300 strings of dialed
keys, where the commonest string has 90 %. All recorded results: README.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from advdl import cli, data, losses, metrics, reports, train
from advdl.data import speech
from advdl.metrics import Mean
from advdl.models import ctc
from advdl.models.listener import Listener


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "dial"
    """dial, keys of a telephone; or folder:PATH with WORD_SPEAKER_NUMBER.wav, of which the numbers
    0 to 4 are the test part and 5 to 9 the validation part."""
    most: Annotated[int, cli.Range(1, 100, "[]")] = 2
    """Number of recordings in the longest string."""
    features: cli.Count = 64
    """Number of units of each direction."""
    layers: cli.Few = 1
    """Number of bidirectional layers."""
    dropout: cli.Rate = 0.0
    """Rate of dropout between layers and before the output layer."""
    speed: cli.Rate = 0.0
    """Largest share by which recordings are played faster or slower in training."""
    masks: Annotated[int, cli.Range(0, 1000, "[]")] = 0
    """Number of stretches of frames, and of bands, that are silenced in a recording in training."""
    final: bool = False
    """Train on the validation part too, once settings are chosen; its figures then say nothing."""
    strings: Annotated[int, cli.Range(1, 10_000, "[]")] = 300
    """Number of strings that are scored in each held-out part."""


LAPTOP = Config(steps=600, batch=32, learning_rate=3e-3, schedule="cosine", clip=5.0).but(
    evaluate_every=100, log_every=25
)
# The Free Spoken Digit Dataset, 3,000 recordings of six speakers at 8 kHz, with its official test
# split. The settings were chosen by the validation part.
DIGITS = (
    LAPTOP.but(preset="digits", data="folder:spoken_digits", most=5, speed=0.1)
    .but(features=96, layers=2, dropout=0.5, ema=0.995)
    .but(steps=1500, learning_rate=2e-3, warmup=100, evaluate_every=250)
)
PRESETS = {"laptop": LAPTOP, "digits": DIGITS}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """WAV files to transcribe."""


def load(config: Config) -> data.Splits:
    def batches(part, spec):
        if part != "train":
            seed = {"val": 1, "test": 2}[part]
            strings = speech.open_speech(config.data, [part], config.most, config.strings, seed)
            return data.EvalBatches(strings, config.batch)
        metrics.word_error_rate(["one"], ["one"])  # a missing library is reported before training
        parts = ["train", "val"] if config.final else ["train"]
        changes = 0, 0, config.speed, config.masks
        strings = speech.open_speech(config.data, parts, config.most, *changes)
        return data.TrainBatches(strings, config.batch, config.seed)

    return data.Splits.of(lambda: speech.open_spec(config.data), batches)


def build(config: Config, spec: speech.SpeechSpec) -> cli.Experiment:
    sizes = 1 + len(spec.label_names), config.features, config.layers  # label 0 is the blank
    module = Listener(*sizes, config.dropout, config.dtype)

    def init(key, batch):
        return module.init(key, batch["frames"], batch["frames_length"])

    def logits(variables, batch) -> Any:
        return module.apply(variables, batch["frames"], batch["frames_length"])

    def ctc_loss(logits, batch):
        """The loss of each string; and whether its labels need more frames than it has, then it is
        0."""
        frames, label = batch["frames_length"], (batch["label"], batch["label_length"])
        return losses.ctc(logits, frames, *label, True), losses.ctc_frames(*label) > frames

    def loss(variables, batch, rng):
        inputs = batch["frames"], batch["frames_length"]
        logits, _ = train.training(module, variables, *inputs, rngs={"dropout": rng("dropout")})
        value, too_short = ctc_loss(logits, batch)
        return train.Loss(Mean.of(value), {"too_short": Mean.of(too_short)})

    def evaluate(variables, batch):
        found, mask = logits(variables, batch), batch["mask"]
        value, too_short = ctc_loss(found, batch)
        given = batch["frames_length"], batch["label"], batch["label_length"]
        return {
            "nats_per_string": Mean.of(value, mask * ~too_short),
            "exact_match": Mean.of(ctc.matches(found, *given), mask),
            "too_short": Mean.of(too_short, mask),
        }

    rule = train.optimizer("adam", config.scheduled(), clip=config.clip)
    player, report = config.player(init, loss, rule), reports.TranscriptsReport()
    return cli.Experiment(
        learner=train.minimize(player, evaluate, functions={"logits": logits}),
        report=report,
        predict=report.predict,
        monitor=("val/nats_per_string", "min"),
        alarms=[reports.TOO_SHORT],
        units=lambda batch: {"frames": batch["frames_length"].sum()},
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

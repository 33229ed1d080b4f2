"""What comes next? A language model, trained on windows of one long text in turn.

Its state goes on from window to window, its gradient does not (Williams & Peng 1990). It is fed the
true text in training (Williams & Zipser 1989), its own when it writes, and then its errors add up.

    python experiments/language.py train                            # laptop: Python's own reference
    python experiments/language.py train --tokens words --data folder:PATH     # a file, or *.txt
    python experiments/language.py evaluate --baselines             # beside counts and compressors
    python experiments/language.py predict "The for statement" --length 600

It has 2.232 bits per character, on subwords and learning as it reads 1.672, and bz2, which can
look up what it has read, 1.831. All recorded results: experiments/README.md.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import jax
import tyro

from advdl import cli, data, models, reports, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import language


@dataclass(frozen=True)
class Config(cli.TextConfig):
    data: str = "pydoc"
    """pydoc, the reference of the running Python; or folder:PATH, a text file or a folder of *.txt
    (train.txt, valid.txt, test.txt, or others)."""
    tokens: Literal["characters", "words", "spaces", "subwords"] = "characters"
    """Units of the text; spaces: what stands between them, as Penn Treebank needs."""
    subwords: Annotated[int, cli.Range(1, 1_000_000, "[]")] = 2000
    """Size of the vocabulary of subwords."""
    window: cli.Length = 64
    """Number of tokens through which the gradient goes back."""
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    """Kind of the recurrent layers."""
    layers: cli.Few = 1
    """Number of recurrent layers."""
    tied: bool = False
    """Use the embedding as the kernel of the output layer."""
    uniform: cli.NonNegative = 0.0
    """Initialize parameters uniformly in ± this (0: as the layers do)."""
    adapt: cli.NonNegative = 0.0
    """Rate at which the report also lets the network go on learning as it reads the held-out parts,
    after every window that it has foreseen (dynamic evaluation; 0: it does not)."""
    lookup: cli.Natural = 0
    """Number of the latest training tokens that the report lets the network look up by the likeness
    of its states, beside what it has read of the held-out part (0: none)."""
    decay: cli.NonNegative = 1.0
    """Factor of the learning rate after every epoch, from the epoch --decay-after on."""
    decay_after: cli.Natural = 0
    """Number of epochs before the learning rate falls."""


LAPTOP = Config(features=256, dropout=0.2, least=3, batch=32, steps=1500, learning_rate=3e-3)
LAPTOP = replace(LAPTOP, schedule="cosine", clip=1.0, evaluate_every=250, save_every=500)
# More tokens of text a state, and all that a compressor may do: learn and look up as it reads.
PARTS = replace(LAPTOP, preset="subwords", tokens="subwords", subwords=1000, tied=True, adapt=0.8)
PARTS = replace(PARTS, embedding=256, dropout=0.5, batch=16, window=48, steps=4000, lookup=200_000)
# Zaremba et al. 2014, section 4.1, on the words of Penn Treebank (929,589 to train on). Their loss
# is summed over the window and ours a mean, so the learning rate is multiplied by the window and
# the clip divided by it. Test perplexity after 13, 39 and 55 epochs: 115.9 (by TensorFlow's
# tutorial), 82.7 and 78.4. Not run here.
SMALL = Config(preset="zaremba_small", data="folder:ptb", tokens="spaces", least=1, layers=2)
SMALL = replace(SMALL, optimizer="sgd", batch=20, evaluate_every=0, save_every=2000)
SMALL = replace(SMALL, embedding=200, features=200, uniform=0.1, decay=0.5, decay_after=4)
SMALL = replace(SMALL, window=20, learning_rate=20.0, clip=5 / 20, steps=30_199)
MEDIUM = replace(SMALL, preset="zaremba_medium", embedding=650, features=650, dropout=0.5)
MEDIUM = replace(MEDIUM, uniform=0.05, decay=1 / 1.2, decay_after=6)
MEDIUM = replace(MEDIUM, window=35, learning_rate=35.0, clip=5 / 35, steps=51_753)
LARGE = replace(MEDIUM, preset="zaremba_large", embedding=1500, features=1500, dropout=0.65)
LARGE = replace(LARGE, uniform=0.04, decay=1 / 1.15, decay_after=14, clip=10 / 35, steps=72_985)
PRESETS = {row.preset: row for row in (LAPTOP, PARTS, SMALL, MEDIUM, LARGE)}
PAPER = {"zaremba_small": "115.9, TensorFlow's tutorial"}
PAPER |= {"zaremba_medium": "82.7, Zaremba et al.", "zaremba_large": "78.4, Zaremba et al."}


@dataclass(frozen=True)
class Predict(cli.Predict):
    beginnings: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to go on with (default: the end of a line)."""
    length: cli.Many = 400
    """Number of tokens to write."""
    temperature: cli.NonNegative = 0.8
    """Temperature of the softmax that tokens are drawn from; 0 takes the likeliest."""
    top_k: cli.Natural = 0
    """Number of the likeliest tokens that are drawn from (0: all)."""
    top_p: Annotated[float, cli.Range(0, 1, "(]")] = 1.0
    """Draw from the likeliest tokens whose probabilities add up to this."""
    seed: cli.Natural = 0
    """Seed of the samples."""


def load(config: Config) -> data.Splits:
    if config.tied and config.embedding != config.features:
        sizes = f"--embedding {config.embedding} equal to --features {config.features}"
        raise UserError(f"--tied needs {sizes}")
    tokens, streams = (config.tokens, config.least, config.subwords), (config.batch, config.window)
    corpus = functools.cache(lambda: data.open_text(config.data))

    def batches(part, spec):
        return data.stream_batches(corpus(), part, spec, *streams, config.seed)

    return data.Splits.of(lambda: data.CorpusSpec.of(corpus(), *tokens), batches)


def build(config: Config, spec: data.CorpusSpec) -> cli.Experiment:
    sizes = len(spec.text), config.embedding, config.features, config.layers
    settings = config.cell, config.tied, config.dropout, config.uniform, config.dtype
    network = models.LanguageModel(*sizes, *settings)
    functions = language.functions(network, config.window)
    training = functools.partial(train.training, network, sampling=config.sampling)

    def loss(variables, batch, rng):
        """Cross-entropy of every token, the state carried on but for the first of an epoch."""
        keys = {use: rng(use) for use in ("dropout", "sampling")}
        kept = 1 - batch["fresh"]
        carry = jax.tree.map(lambda x: x * kept.astype(x.dtype)[:, None], batch["carried"])
        (logits, found), _ = training(variables, batch["inputs"], carry, rngs=keys)
        nats, right = language.compare(logits, batch["targets"])
        return train.Loss(Mean.of(nats), {"accuracy": Mean.of(right)}, carried=found["carry"])

    def evaluate(variables, batch):
        found, counted = functions["read"](variables, batch), batch["counted"]
        nats, accuracy = Mean.of(found["nats"], counted), Mean.of(found["right"], counted)
        figures = {"nats_per_token": nats, "accuracy": accuracy}
        if spec.text.lossless:
            characters = nats.count * batch["characters"][0]
            figures["bits_per_character"] = Mean(nats.total / math.log(2), characters)
        return figures

    def begin(batch):
        return network.begin(len(batch["inputs"]))

    epoch = spec.updates(config.batch, config.window)
    rate = train.decayed(config.scheduled(), config.decay, epoch, config.decay_after)
    player = config.player(train.initial(network, "inputs"), loss, config.rule(rate))
    beyond = PAPER.get(config.preset, ""), config.adapt, config.lookup
    report = reports.LanguageReport(spec, config.window, *beyond)
    return cli.Experiment(
        train.minimize(player, evaluate, begin, functions),
        report,
        report.predict,
        report.snapshot,
        monitor=("val/nats_per_token", "min"),
        baselines=report.baselines,
        units=lambda batch: {"tokens": batch["inputs"].size},
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

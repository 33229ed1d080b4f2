"""From one language to another: an encoder reads, a decoder writes and looks back by attention.

Multiple to multiple. Bahdanau, Cho & Bengio 2014 (arXiv:1409.0473); `--attention dot|general` is
Luong, Pham & Manning 2015 (arXiv:1508.04025). Departures from them: `advdl/models/seq2seq.py`.

    python experiments/translate.py train                       # laptop: English numbers to Spanish
    python experiments/translate.py train --attention none      # by the last state alone
    python experiments/translate.py train --preset multi30k_laptop --data folder:PATH
    python experiments/translate.py predict "seven hundred and twelve"

Of 1,000 numbers never seen, 999 are right to the last word after 394 s on one CPU core; from German
(Multi30k) BLEU is 36.2 after half an hour. All recorded results: experiments/README.md.
"""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import tyro

from advdl import cli, data, losses, metrics, reports, train
from advdl.metrics import Mean
from advdl.models import decoding, seq2seq


@dataclass(frozen=True)
class Config(cli.TextConfig):
    data: str = "numbers"
    """numbers, in words; or folder:PATH with PATH/train.SOURCE, PATH/train.TARGET and the same of
    val and test."""
    source: str = "en"
    """Language that is read."""
    target: str = "es"
    """Language that is written."""
    attention: Literal["additive", "dot", "general", "none"] = "additive"
    """How the decoder looks at what was read."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Kind of the recurrent layers."""
    layers: cli.Few = 1
    """Number of layers of the encoder and of the decoder."""
    reading: Literal["both", "forward", "backward"] = "both"
    """Directions of the encoder; backward reads the reversed source (Sutskever et al. 2014)."""
    subwords: Annotated[int, cli.Range(0, 1_000_000, "[]")] = 0
    """Size of the vocabularies of subwords, by byte pair encoding, of each language (0: words)."""
    label_smoothing: cli.Rate = 0.0
    """Share of the target's probability that is spread over all tokens."""
    longest: cli.Length = 30
    """Number of tokens of the longest sentence; longer ones are left out of training, or cut."""
    buckets: cli.Few = 1
    """Number of lengths to pad sentences to; the step is compiled once for each."""


LAPTOP = Config(batch=64, steps=2000, learning_rate=2e-3, schedule="cosine", clip=1.0)
LAPTOP = replace(LAPTOP, evaluate_every=500, save_every=1000, log_every=50)
# What bentrevett/pytorch-seq2seq, chapter 3, has for this data: additive attention, 20.5 million
# parameters, ten epochs with half of the words the decoder's own, 28.3 BLEU (lower case, test
# 2016). Other than there: LSTMs for GRUs; the answer is made by a maxout of the state before the
# step (Bahdanau et al. 2014, A.2), with dropout, there by one layer of the state after it; the
# share of its own words grows from none to half, and each word is drawn by itself, there each place
# for the whole batch; words are `data.words`; sentences of over 40 words are left out. Not run.
LARGE = Config(preset="multi30k", data="folder:multi30k", source="de", target="en", least=2)
LARGE = replace(LARGE, embedding=256, features=512, dropout=0.5, sampling=0.5, longest=40)
LARGE = replace(LARGE, steps=2270, clip=1.0, evaluate_every=227, save_every=227, log_every=20)
# The same in half an hour of a laptop: BLEU 36.2, seed 0.
SMALL = replace(LARGE, preset="multi30k_laptop", features=256, dropout=0.4, sampling=0.0)
SMALL = replace(SMALL, buckets=4, steps=2000, learning_rate=2e-3, schedule="cosine", warmup=100)
SMALL = replace(SMALL, evaluate_every=250, save_every=250)
PRESETS = {"laptop": LAPTOP, "multi30k_laptop": SMALL, "multi30k": LARGE}


@dataclass(frozen=True)
class Predict(cli.Predict):
    sentences: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sentences to translate; without any, lines from standard input."""
    width: cli.Few = 5
    """Width of the beam; 1 takes the likeliest word at every step."""


def load(config: Config) -> data.Splits:
    given = config.data, config.source, config.target, config.longest, config.subwords
    texts = functools.cache(lambda: data.ParallelTexts(*given))

    def batches(part, spec):
        metrics.corpus_bleu(["one"], ["one"])  # a missing library is reported before the training
        return texts().batches(part, spec, config.buckets, config.batch, config.seed)

    return data.Splits.of(lambda: texts().spec(config.least), batches)


def build(config: Config, spec: data.TranslationSpec) -> cli.Experiment:
    sizes = len(spec.source), len(spec.target), config.embedding, config.features
    settings = config.attention, config.dropout, config.dtype
    network = seq2seq.Translator(
        *sizes, *settings, layers=config.layers, cell=config.cell, reading=config.reading
    )

    def given(batch):
        return batch["source"], batch["source_length"], batch["target"][:, :-1]

    def compared(logits, batch, mask, smoothing=0.0):
        """Mean cross-entropy and accuracy of words, and the share of sentences that are right."""
        label, length = batch["target"][:, 1:], batch["target_length"] - 1
        error, counted = losses.token_cross_entropy(logits, label, length, smoothing)
        right, counted = logits.argmax(-1) == label, counted * mask[:, None]
        exact = Mean.of((right | (counted == 0)).all(1), mask)
        return Mean.of(error, counted), Mean.of(right, counted), exact

    def loss(variables, batch, rng):
        own = config.growing_sampling(rng.step)
        keys = {use: rng(use) for use in ("dropout", "sampling")}
        (logits, _), _ = train.training(network, variables, *given(batch), sampling=own, rngs=keys)
        nats, right, _ = compared(logits, batch, jnp.ones(len(logits)), config.label_smoothing)
        return train.Loss(nats, {} if config.sampling else {"accuracy_teacher_forced": right})

    def evaluate(variables, batch):
        figures = {}
        for name, share in (("teacher_forced", 0.0), ("free_running", 1.0)):
            keys = {"sampling": jax.random.key(0)}
            logits, _ = network.apply(variables, *given(batch), sampling=share, rngs=keys)
            nats, right, exact = compared(logits, batch, batch["mask"])
            figures |= {f"nats_per_word_{name}": nats, f"accuracy_{name}": right}
        return figures | {"exact_match": exact}

    paper = "28.3, pytorch-seq2seq, chapter 3" if "multi30k" in config.preset else ""
    report = reports.TranslationReport(spec, config.attention != "none", paper=paper)
    search = decoding.Search(network, data.BEGIN, data.END, spec.target.longest + 1, alpha=1.0)
    functions = search.functions("source", "source_length")
    init = train.initial(network, "source", "source_length", "target")
    return cli.Experiment(
        train.minimize(config.player(init, loss, config.rule()), evaluate, functions=functions),
        report,
        report.predict,
        monitor=("val/nats_per_word_teacher_forced", "min"),
        units=lambda batch: {"tokens": (batch["source_length"] + batch["target_length"] - 1).sum()},
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

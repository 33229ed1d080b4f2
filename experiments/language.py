"""What comes next? A language model, trained on windows of one long text whose hidden state goes on
from one to the next.

    python experiments/language.py train                                       # laptop: characters of Python's own reference
    python experiments/language.py train --tokens words                        # its words and punctuation
    python experiments/language.py train --sampling 0.5                        # fed half of its own characters (free running)
    python experiments/language.py train --data folder:PATH                    # a file, or PATH/*.txt
    python experiments/language.py evaluate --baselines                        # beside counts and compressors
    python experiments/language.py predict "The for statement" --length 600 --temperature 0.7
    python experiments/language.py train --preset zaremba_medium --data folder:ptb    # PATH/train.txt, valid.txt, test.txt

Truncated back-propagation through time (Williams & Peng 1990): the state at the end of a window is
where the next one begins, and no gradient goes back to it. Teacher forcing feeds the network the
true text in training (Williams & Zipser 1989); when it writes it is fed its own, so its errors add
up: measured, and drawn, in every run.

Recorded with `train`, seed 0, on one core of an AMD EPYC beside much other work, JAX 0.10.2 (the
text is that of Python 3.11.7), of the last twentieth of the reference:

                                            bits a character    right
    the network                             2.232               58.3 %
    counts of single characters             4.772
    counts of pairs                         3.687
    bz2, lzma, told the training part       1.831, 1.867
    fed its own, 31 to 60 after the given                       10.4 % (fed the truth 58.4 %)

So after 1,500 updates it knows words and how lines are laid out, and less than a compressor that
can look up what it has read.
"""

import bz2
import lzma
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from advdl import cli, data, losses, models, present, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import decoding


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "pydoc"
    """pydoc, the reference of the running Python; or folder:PATH, a text file or a folder of *.txt
    (train.txt, valid.txt, test.txt, or others)."""
    tokens: Literal["characters", "words", "spaces", "subwords"] = "characters"
    """What the text is spelled in; spaces takes what stands between them for words, as Penn
    Treebank and WikiText need."""
    least: int = 3
    """Times that a word must occur to be known."""
    subwords: int = 2000
    """Size of the vocabulary of subwords."""
    window: int = 64
    """Tokens through which the gradient goes back."""
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    """Of the recurrent layers."""
    embedding: int = 64
    """Features of a token."""
    features: int = 256
    """Units of a layer."""
    layers: int = 1
    """Of the recurrent stack."""
    tied: bool = False
    """Answers are products with the embedding."""
    dropout: float = 0.0
    """Of embeddings, between layers and before the answer."""
    uniform: float = 0.0
    """Parameters are born uniform in ± this (0: the layers' own way)."""
    sampling: float = 0.0
    """Probability of feeding the network its own likeliest token in training: 0 is teacher forcing,
    1 free running."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The update rule."""
    decay: float = 1.0
    """Factor of the learning rate after every epoch, from the epoch --decay-after on."""
    decay_after: int = 0
    """Epochs before the learning rate falls."""


def zaremba(
    name: str, features: int, window: int, steps: int, clip: float, **others: Any
) -> Config:
    """A row of Zaremba et al. 2014, section 4.1, on the words of Penn Treebank (929,589 to train
    on). Their loss is summed over the window and ours a mean, so the learning rate is multiplied by
    the window and the clip divided by it."""
    return Config(
        preset=name,
        data="folder:ptb",
        tokens="spaces",
        least=1,
        window=window,
        embedding=features,
        features=features,
        layers=2,
        optimizer="sgd",
        learning_rate=float(window),
        clip=clip / window,
        batch=20,
        steps=steps,
        evaluate_every=0,
        save_every=2000,
        **others,
    )


PRESETS = {
    "laptop": Config(
        batch=32,
        steps=1500,
        learning_rate=3e-3,
        schedule="cosine",
        clip=1.0,
        dropout=0.2,
        evaluate_every=250,
        save_every=500,
        log_every=50,
    ),
    # Test perplexity of Penn Treebank after 13 epochs: 115.9 by TensorFlow's tutorial (82.7 and
    # 78.4 in the paper for the larger ones, after 39 and 55). Not run here.
    "zaremba_small": zaremba(
        "zaremba_small", 200, 20, 30_199, 5.0, uniform=0.1, decay=0.5, decay_after=4
    ),
    "zaremba_medium": zaremba(
        "zaremba_medium",
        650,
        35,
        51_753,
        5.0,
        uniform=0.05,
        decay=1 / 1.2,
        decay_after=6,
        dropout=0.5,
    ),
    "zaremba_large": zaremba(
        "zaremba_large",
        1500,
        35,
        72_985,
        10.0,
        uniform=0.04,
        decay=1 / 1.15,
        decay_after=14,
        dropout=0.65,
    ),
}
SAVED = "vocabulary.json"
HORIZON, ROWS = 60, 1000
"""Tokens that the network writes on its own, from so many places of the test part, to be held
against the truth."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    beginnings: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to go on with (default: the end of a line)."""
    length: int = 400
    """Tokens to write."""
    temperature: float = 0.8
    """Of the softmax that tokens are drawn from; 0 takes the likeliest."""
    top_k: int = 0
    """Draw from so many of the likeliest alone (0: from all)."""
    top_p: float = 1.0
    """Draw from the likeliest that have this probability together."""
    seed: int = 0
    """Of the drawing."""

    def alone(self) -> Mapping[str, Any]:
        """A trained run is all that is needed, its text is not."""
        run, config, variables, _ = self.trained("language", Config)
        speller = data.Speller.from_json(run.read(SAVED), str(run.folder / SAVED))
        return predict(Writer(config, speller), variables, self)


class Writer:
    """The network with its vocabulary."""

    def __init__(self, config: Config, speller: data.Speller):
        self.config, self.speller = config, speller
        self.network = models.LanguageModel(
            len(speller),
            config.embedding,
            config.features,
            config.layers,
            config.cell,
            config.tied,
            config.dropout,
            config.uniform,
            config.dtype,
        )
        self.read = jax.jit(self.network.apply)
        self._write = jax.jit(
            self._draw, static_argnames=("steps", "temperature", "top_k", "top_p")
        )

    def learner(self, epoch: int, characters: float) -> train.Learner:
        """Cross-entropy of every token, the state carried on. epoch: updates. characters: a
        token's, on average; 0: unknown."""
        config, network = self.config, self.network

        def loss(variables, batch, rng):
            keys = dict(zip(("dropout", "sampling"), jax.random.split(rng.key), strict=True))
            carry = jax.tree.map(
                lambda x: x * (1 - batch["fresh"].astype(x.dtype))[:, None], batch["carried"]
            )
            logits, found = network.apply(
                variables, batch["inputs"], carry, train=True, sampling=config.sampling, rngs=keys
            )
            error, right = judged(logits, batch["targets"])
            return train.Loss(Mean.of(error), {"right": Mean.of(right)}, carried=found["carry"])

        def evaluate(variables, batch):
            batch_size, length = batch["inputs"].shape

            def cut(x):
                return x.reshape(batch_size, -1, config.window).swapaxes(0, 1)

            def window(carry, item):
                logits, found = network.apply(variables, item["inputs"], carry)
                return found["carry"], judged(logits, item["targets"])

            _, (error, right) = jax.lax.scan(
                window, network.begin(batch_size), jax.tree.map(cut, batch)
            )
            counted = cut(batch["counted"])
            error, right = Mean.of(error, counted), Mean.of(right, counted)
            figures = {NATS: error, "right": right}
            return figures | (
                {BITS: Mean(error.total / math.log(2), error.count * characters)}
                if characters
                else {}
            )

        def init(key, batch):
            return network.init(key, batch["inputs"])

        rate = config.scheduled()
        if config.decay != 1:
            whole = rate

            def rate(n):
                return whole(n) * config.decay ** jnp.maximum(
                    n // epoch + 1 - config.decay_after, 0
                )

        rule = train.chain(
            {"adam": optax.adam, "sgd": optax.sgd}[config.optimizer](rate), config.clip
        )
        player = train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat)
        return train.minimize(player, evaluate, lambda batch: network.begin(len(batch["inputs"])))

    def _draw(self, variables, beginning, key, *, steps, temperature=0.0, top_k=0, top_p=1.0):
        """Tokens (B, steps) after those of `beginning` (B, T)."""
        carry = self.network.begin(len(beginning))
        if beginning.shape[1] > 1:
            carry = self.network.apply(variables, beginning[:, :-1], carry)[1]["carry"]

        def step(carry, token):
            return self.network.apply(variables, carry, token, method="next")

        return decoding.sample(
            step, carry, beginning[:, -1], steps, -1, key, temperature, top_k, top_p
        ).token

    def write(
        self, variables: train.Variables, beginning: str, steps: int, seed: int = 0, **drawing: Any
    ) -> str:
        """So many tokens more, as a text."""
        ids = self.speller.encode(beginning or "\n")
        ids = ids if len(ids) else np.full(1, data.END, np.int32)
        written = self._write(variables, ids[None], jax.random.key(seed), steps=steps, **drawing)[0]
        return self.speller.decode(np.asarray(written))


def judged(logits: jax.Array, target_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(nats of every target, whether it is the likeliest), (B, T) each."""
    error = losses.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), target_BT.reshape(-1)
    ).reshape(target_BT.shape)
    return error, logits.argmax(-1) == target_BT


NATS, BITS = "nats a token", "bits a character"


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "least", "subwords", "window", "embedding", "features", "layers")
    cli.at_least(0, config, "uniform", "decay", "decay_after")
    for name in ("dropout", "sampling"):
        if not 0 <= getattr(config, name) <= (1 if name == "sampling" else 0.99):
            raise UserError(
                f"--{name} is {getattr(config, name)}; expected at least 0 and at most 1"
            )
    if config.tied and config.embedding != config.features:
        raise UserError(
            f"--tied needs --embedding {config.embedding} equal to --features {config.features}"
        )
    corpus = data.open_text(config.data)
    speller = data.Speller.of(config.tokens, corpus.train, config.least, config.subwords)
    ids = {part: speller.encode(getattr(corpus, part)) for part in ("train", "validation", "test")}
    windows = data.StreamBatches(ids["train"], config.batch, config.window, config.seed)
    writer = Writer(config, speller)
    characters = len(corpus.validation) / len(ids["validation"]) if speller.keeps_all else 0.0
    desk = Desk(writer, corpus, ids)
    return cli.Experiment(
        learner=writer.learner(windows.windows, characters),
        train=windows,
        test=data.StreamEvalBatches(ids["validation"], config.batch, config.window),
        report=desk.report,
        snapshot=desk.snapshot,
        best=(NATS, "min"),
        baselines=desk.baselines,
        kept={SAVED: speller.to_json()},
        counts=lambda batch: {"tokens": batch["inputs"].size},
    )


class Desk:
    """What a run says of its text."""

    def __init__(self, writer: Writer, corpus: data.Corpus, ids: Mapping[str, np.ndarray]):
        self.writer, self.corpus, self.ids, self.config = writer, corpus, ids, writer.config

    def figures(self, nats: float) -> dict[str, float]:
        """Of the test part, from nats a token."""
        found = {NATS: nats, "perplexity": math.exp(nats)}
        if self.writer.speller.keeps_all:
            found[BITS] = nats / math.log(2) * len(self.ids["test"]) / len(self.corpus.test)
        return found

    def baselines(self) -> dict[str, dict[str, float]]:
        """Of the test part: how often a token occurs, and how often after the one before, and what
        compressors make of it that have seen the training part."""
        size, known, told = len(self.writer.speller), self.ids["train"], self.ids["test"]
        single = (np.bincount(known, minlength=size) + 1.0) / (len(known) + size)
        pairs = np.zeros((size, size), np.float32)
        np.add.at(pairs, (known[:-1], known[1:]), 1)
        kinds, seen = (pairs > 0).sum(1), pairs.sum(1)
        before, after = told[:-1], told[1:]
        weight = kinds[before] / np.maximum(
            kinds[before] + seen[before], 1
        )  # of the single one (Witten & Bell 1991)
        of_pair = pairs[before, after] / np.maximum(seen[before], 1)
        p = np.where(
            seen[before] > 0, (1 - weight) * of_pair + weight * single[after], single[after]
        )
        found = {
            "counts of single tokens": self.figures(float(-np.log(single[after]).mean())),
            "counts of pairs": self.figures(float(-np.log(p).mean())),
        }
        if self.writer.speller.keeps_all:
            whole, part = self.corpus.train + self.corpus.test, self.corpus.train
            for name, pack in (("bz2", bz2.compress), ("lzma", lzma.compress)):
                extra = len(pack(whole.encode())) - len(pack(part.encode()))
                found[name] = {BITS: 8 * extra / len(self.corpus.test)}
        return found

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """What it writes by now; at the start also what is read."""
        if not step:
            ids, size = self.ids, len(self.writer.speller)
            parts = ", ".join(f"{name} {len(own)}" for name, own in ids.items())
            cli.say(
                f"{self.corpus.name}: {parts} {self.config.tokens}, {size} kinds; unknown:"
                f" {self.unknown()}"
            )
        text = self.writer.write(jax.device_get(state["model"].average), "", 200, temperature=0.7)
        with train.told(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"written_{step:06}.txt").write_text(text, encoding="utf-8")

    def unknown(self) -> str:
        """Share of tokens of the test part that are not known."""
        return f"{np.mean(self.ids['test'] == data.UNKNOWN):.2%}"

    def free_running(self, variables: train.Variables) -> dict[str, np.ndarray]:
        """By distance from the last given token, (HORIZON,): the share of tokens that are right,
        and nats, of a network that is fed the truth and of one that is fed its own likeliest
        tokens, from the same places of the test part."""
        context, told = self.config.window, self.ids["test"]
        horizon = min(HORIZON, max(1, (len(told) - context) // 2))
        start = np.linspace(0, len(told) - context - horizon - 1, ROWS).astype(int)
        if start[-1] < 0:
            return {}
        tokens = told[start[:, None] + np.arange(context + horizon + 1)]

        def apply(given, carry, sampling):
            return self.writer.network.apply(
                variables, given, carry, sampling=sampling, rngs={"sampling": jax.random.key(0)}
            )

        carry = self.writer.read(variables, tokens[:, :context])[1]["carry"]
        given, wanted, found = tokens[:, context:-1], tokens[:, context + 1 :], {}
        for name, sampling in (("fed the truth", 0.0), ("fed its own", 1.0)):
            error, right = judged(
                jax.jit(apply, static_argnums=2)(given, carry, sampling)[0], jnp.asarray(wanted)
            )
            found |= {
                f"right, {name}": np.asarray(right, float).mean(0),
                f"nats, {name}": np.asarray(error).mean(0),
            }
        return found

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, variables = run.report, jax.device_get(state["model"].average)
        error, right, states = self.read_test(variables)
        found, beside = self.figures(float(error.mean())), self.baselines()
        unit = BITS if BITS in found else "perplexity"
        said = f"{self.corpus.name} test, {self.config.tokens}: " + ", ".join(
            f"{v:.4g} {k}" for k, v in found.items()
        )
        said += f", {right.mean():.1%} right; beside it " + ", ".join(
            f"{k} {v[unit]:.4g}" for k, v in beside.items()
        )
        free = self.free_running(variables)
        sections = []
        if free:
            ends = {name: float(line[len(line) // 2 :].mean()) for name, line in free.items()}
            truth, own = (f"{ends[f'right, fed {what}']:.1%}" for what in ("the truth", "its own"))
            said += f"; on its own far from the last given token {own}, there {truth} fed the truth"
            often = float(np.mean(self.ids["test"] == np.bincount(self.ids["train"]).argmax()))
            present.draw_by_step(
                {
                    "fed the truth (teacher forcing)": [free["right, fed the truth"]],
                    "fed its own (free running)": [free["right, fed its own"]],
                },
                folder / "free_running.png",
                "the next token, right",
                xlabel="tokens after the last given one",
                ylabel="share",
                references={"the commonest token": often},
            )
            sections.append(
                present.Section("Fed the truth, fed its own", FREE, ["free_running.png"], ends)
            )
        run.write(
            "verdict.json", {"verdict": said, "test": found, **beside, "unknown": self.unknown()}
        )
        cli.say(said)
        panels = [
            present.Panel(
                "nats a token", {"training, dropout on": "train/loss", "validation": f"test/{NATS}"}
            ),
            present.Panel(
                "tokens right", {"training, dropout on": "train/right", "validation": "test/right"}
            ),
        ]
        present.draw_curves(
            present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", panels
        )
        sections.insert(
            0, present.Section("The verdict", said, ["curves.png"], {"test": found, **beside})
        )
        if self.config.tokens == "characters":
            self.draw(error, states, folder)
            sections.append(present.Section("How surprised it is", SURPRISE, ["surprise.png"]))
            sections.append(present.Section("What units keep", UNITS, ["units.png"]))
        written = sorted(folder.glob("written_*.txt"))
        shown = [
            f"After {int(file.stem[8:])} updates:\n{file.read_text(encoding='utf-8')}"
            for file in written
        ]
        sections.append(present.Section("What it writes", "\n\n".join(shown)))
        return sections

    def read_test(self, variables: train.Variables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The test part read as one stream: nats and whether right, (N - 1,) each, and states (N -
        1, H)."""
        ids, window = self.ids["test"], self.config.window
        whole = -(-(len(ids) - 1) // window) * window
        inputs, targets = (
            np.pad(part, (0, whole - len(part))).reshape(-1, 1, window)
            for part in (ids[:-1], ids[1:])
        )

        def step(carry, item):
            logits, found = self.writer.network.apply(variables, item[0], carry)
            error, right = judged(logits, item[1])
            return found["carry"], (error[0], right[0], found["states"][0])

        _, found = jax.jit(lambda *items: jax.lax.scan(step, self.writer.network.begin(1), items))(
            inputs, targets
        )
        return tuple(np.asarray(x).reshape(whole, *x.shape[2:])[: len(ids) - 1] for x in found)

    def draw(self, error: np.ndarray, states: np.ndarray, folder: Path, shown: int = 700) -> None:
        """Characters of the test part, colored: by their surprise, and by the units that go best
        with what can be told of the text before."""
        text = self.writer.speller.decode(self.ids["test"][1:])
        begin = text.find("\n", len(text) // 2) + 1
        part = slice(begin, begin + shown)
        present.draw_characters(
            [
                (
                    "bits of each character, given all before it",
                    text[part],
                    error[part] / math.log(2),
                )
            ],
            folder / "surprise.png",
        )
        states = states - states.mean(0)
        rows = []
        for name, known in told_of(text).items():
            known = known - known.mean()
            scale = np.sqrt((states**2).sum(0) * (known**2).sum())
            r = states.T @ known / np.maximum(scale, 1e-12)
            unit = int(np.abs(r).argmax())
            value = np.tanh(
                states[part, unit] * np.sign(r[unit]) / max(float(states[:, unit].std()), 1e-12) / 2
            )
            rows.append(
                (
                    f"unit {unit}, which goes best with {name}: r = {abs(r[unit]):.2f}",
                    text[part][:280],
                    value[:280],
                )
            )
        present.draw_characters(rows, folder / "units.png")


def told_of(text: str) -> dict[str, np.ndarray]:
    """(N,) each, of every place of a text, up to and with its character: the column, whether a
    quotation is open, whether the line is indented."""
    column, quoted, indented = np.zeros(len(text)), np.zeros(len(text)), np.zeros(len(text))
    at = opened = inside = 0
    for place, character in enumerate(text):
        at = 0 if character == "\n" else at + 1
        inside = 0 if character == "\n" else (character == " " if at == 1 else inside)
        opened = 0 if character == "\n" else opened ^ (character == '"')
        column[place], quoted[place], indented[place] = at, opened, inside
    return {
        "the place in the line": column,
        "an open quotation": quoted,
        "an indented line": indented,
    }


def predict(writer: Writer, variables: train.Variables, options: Predict) -> dict[str, Any]:
    """How each text may go on."""
    cli.at_least(1, options, "length")
    cli.at_least(0, options, "temperature", "top_k", "seed")
    if not 0 < options.top_p <= 1:
        raise UserError(f"--top-p is {options.top_p}; expected more than 0 and at most 1")
    drawing = dict(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)
    found = {}
    for beginning in options.beginnings or ("",):
        if unknown := writer.speller.unknown(beginning):
            cli.say(f"not known, and read as {data.SPECIALS[data.UNKNOWN]}: {', '.join(unknown)}")
        found[beginning] = writer.write(
            variables, beginning, options.length, options.seed, **drawing
        )
    return found


FREE = """From 1,000 places of the test part: the network has read a window of it, and then goes on. Fed the truth, its next \
token is as good as ever; fed its own likeliest ones, what it says departs from the truth, which is no error of the network \
alone: there are many ways to go on."""
SURPRISE = "Red is what the network did not expect."
UNITS = """Units of the last layer whose states go best with what can be told of the text before, such as where in the line it \
is; red is above the mean, blue below."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

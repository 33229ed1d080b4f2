"""How far back does a network learn to look? The adding problem and temporal order, at growing lag:
basic RNN against LSTM.

    python experiments/long_memory.py train                    # laptop: the adding problem over 50, 100 and 200 steps
    python experiments/long_memory.py train --preset order     # temporal order instead

Two numbers far apart are to be added, or two symbols far apart to be told in their order
(Hochreiter & Schmidhuber 1997, sections 5.4 and 5.6). On the way back through time the error of the
basic cell is multiplied at every step by what is less than 1, and vanishes (Hochreiter 1991;
Bengio, Simard & Frasconi 1994); the LSTM's state is added to, and hands it on. The report shows the
norm of the gradient against the distance from the end, before training and during it.

Recorded with `train --seed S`, S = 0, 1, 2, on one core of an AMD EPYC beside other work, JAX
0.10.2, 422, 288 and 492 s. Mean square errors on 1,000 other sequences; who knows nothing is off by
.1667:

    steps     50                    100                   200
    LSTM      .0002, .0002, .0001   .0002, .0002, .0002   .0005, .0007, .0008
    basic RNN .0027, .0018, .0015   .0445, .1329, .0780   .1689, .1303, .1652
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import cli, data, losses, models, present, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.nn import CELLS, LSTM


@dataclass(frozen=True)
class Config(cli.Config):
    data: Literal["adding", "temporal_order"] = "adding"
    """What is asked."""
    lags: str = "50,100,200"
    """Lengths of the sequences, a network for each."""
    networks: str = "rnn,lstm"
    """What is trained, beside one another: rnn, lstm, gru, and lstm1997, without the forget
    gate."""
    seeds: int = 1
    """Initializations of each."""
    features: int = 64
    """Units of the state."""
    forget_bias: float = 1.0
    """At which the bias of the LSTM's forget gate begins."""


LAPTOP = dict(
    batch=64,
    steps=4000,
    learning_rate=2e-3,
    schedule="cosine",
    clip=1.0,
    evaluate_every=250,
    save_every=1000,
    log_every=50,
)
PRESETS = {
    "laptop": Config(**LAPTOP),
    "order": Config(preset="order", **LAPTOP | {"data": "temporal_order"}),
}
KNOWN = ("rnn", "lstm", "gru", "lstm1997")
FLOOR = {"adding": ("mean square error", 1 / 6), "temporal_order": ("share wrong", 0.75)}
"""What is measured, and what it is of one who knows nothing."""
SOLVED = {"adding": 0.01, "temporal_order": 0.01}
"""Fixed before the runs that are recorded above."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    count: int = 8
    """Held-out sequences to answer."""


def network(config: Config, name: str) -> models.Reader:
    """(B, T, D) -> outputs (B, T, 1 or 4)."""
    lstm = partial(LSTM, forget_bias=config.forget_bias)
    cell = {**CELLS, "lstm": lstm, "lstm1997": partial(LSTM, forget=False)}[name]
    return models.Reader(
        1 if config.data == "adding" else 4, cell, config.features, dtype=config.dtype
    )


class Recall:
    """One network at one lag."""

    def __init__(self, config: Config, name: str, lag: int):
        self.config, self.module, self.lag = config, network(config, name), lag

    def given(self, batch: Mapping[str, jax.Array], what: str) -> jax.Array:
        """This lag's entry of a batch."""
        return batch[f"{what}/{self.lag}"]

    def answer(self, variables: train.Variables, sequence: jax.Array) -> jax.Array:
        """At the end, (B, 1 or 4)."""
        return self.module.apply(variables, sequence)[0][:, -1].astype(jnp.float32)

    def errors(self, variables, batch, sequence) -> tuple[jax.Array, jax.Array]:
        """(what is descended, what is measured), (B,) each."""
        answer = self.answer(variables, sequence)
        if self.config.data == "adding":
            apart = jnp.square(answer[:, 0] - self.given(batch, "target"))
            return apart, apart
        label = self.given(batch, "label")
        return losses.cross_entropy(answer, label), (answer.argmax(-1) != label).astype(jnp.float32)

    def learner(self) -> train.Learner:
        """By all of back-propagation through time."""
        config, what = self.config, FLOOR[self.config.data][0]

        def loss(variables, batch, rng):
            descended, measured = self.errors(variables, batch, self.given(batch, "sequence"))
            return train.Loss(Mean.of(descended), {what: Mean.of(measured)})

        def evaluate(variables, batch):
            return {
                what: Mean.of(
                    self.errors(variables, batch, self.given(batch, "sequence"))[1], batch["mask"]
                )
            }

        def init(key, batch):
            return self.module.init(key, self.given(batch, "sequence"))

        rule = train.chain(optax.adam(config.scheduled()), config.clip)
        return train.minimize(
            train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat),
            evaluate,
        )

    def gradient_norms(
        self, variables: train.Variables, batch: Mapping[str, jax.Array]
    ) -> jax.Array:
        """(T,): the norm of the error's gradient by the input, by how many steps it lies before the
        end; the mean of the sequences' own, since the error of each is its own affair."""

        def total(x):
            return self.errors(variables, batch, x)[0].sum()

        gradient = jax.grad(total)(self.given(batch, "sequence"))
        return jnp.sqrt(jnp.square(gradient).sum(-1)).mean(0)[::-1]


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "seeds", "features")
    names = cli.parse_choices(config.networks, "--networks", KNOWN)
    lags = cli.parse_units(config.lags, "--lags")
    if min(lags) < 10 or len(set(lags)) < len(lags):
        raise UserError(f"--lags is {config.lags!r}; expected lengths of at least 10, each once")
    made = {"adding": data.adding, "temporal_order": data.temporal_order}[config.data]
    training, held_out = (
        data.Beside({str(lag): made(split, lag) for lag in lags}) for split in ("train", "test")
    )
    recalls = {(name, lag): Recall(config, name, lag) for name in names for lag in lags}
    learners = {pair: recall.learner() for pair, recall in recalls.items()}
    board = Board(config, recalls, held_out)
    return cli.Experiment(
        learner=train.together(
            {
                member(*pair, seed): learners[pair]
                for pair in recalls
                for seed in range(config.seeds)
            }
        ),
        train=data.TrainBatches(training, config.batch, config.seed),
        test=data.EvalBatches(held_out, config.batch),
        report=board.report,
        predict=board.predict,
        snapshot=board.snapshot,
        counts=lambda batch: {"tokens": sum(batch[f"sequence/{lag}"][..., 0].size for lag in lags)},
    )


def member(name: str, lag: int, seed: int) -> str:
    """What a network is called in the state."""
    return f"{name}-{lag}-s{seed}"


class Board:
    """What the networks of a run came to."""

    def __init__(
        self, config: Config, recalls: Mapping[tuple[str, int], Recall], held_out: data.Beside
    ):
        self.config, self.recalls = config, recalls
        self.names, self.lags = (list(dict.fromkeys(pair[n] for pair in recalls)) for n in range(2))
        self.what, self.floor = FLOOR[config.data]
        self._sample = held_out.read(np.arange(min(128, len(held_out))))
        self._norms = {pair: jax.jit(recall.gradient_norms) for pair, recall in recalls.items()}

    def judge(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Errors of all seeds at every lag, and who has solved the longest."""

        def each(name, lag):
            return [
                figures[f"{member(name, lag, n)}/{self.what}"] for n in range(self.config.seeds)
            ]

        found = {
            name: {f"over {lag} steps": each(name, lag) for lag in self.lags} for name in self.names
        }
        last, bound = f"over {max(self.lags)} steps", SOLVED[self.config.data]
        said = []
        for name in self.names:
            worst = max(found[name][last])
            said.append(
                f"{name} {'has' if worst <= bound else 'has not'} solved the longest, {worst:.4f}"
            )
        return {
            "verdict": (
                f"{'; '.join(said)} (at most {bound:g}; who knows nothing {self.floor:.4f})."
            ),
            **found,
        }

    def norms(self, state: train.State) -> dict[str, list[np.ndarray]]:
        """Of the gradients at the longest lag, the first seed's."""
        lag = max(self.lags)
        variables = {name: state[f"{member(name, lag, 0)}/model"].average for name in self.names}
        return {
            name: [np.asarray(self._norms[name, lag](own, self._sample))]
            for name, own in variables.items()
        }

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """The gradient's norm against the distance."""
        norms = {
            name: [np.maximum(line, 1e-12) for line in lines]
            for name, lines in self.norms(state).items()
        }
        path = folder / "frames" / f"{step:07}.png"
        present.draw_by_step(
            norms,
            path,
            f"step {step:,}",
            "steps before the end",
            "norm of the error's gradient by the input",
            log=True,
            limits=(1e-12, 1e1),
        )

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, found = run.report, self.judge(figures)
        run.write("verdict.json", found | {"who knows nothing": self.floor})
        cli.say(found["verdict"])
        seeds = range(self.config.seeds)
        panels = [
            present.Panel(
                f"{self.what}, over {lag} steps",
                {
                    name: [f"test/{member(name, lag, n)}/{self.what}" for n in seeds]
                    for name in self.names
                },
                references={"knows nothing": self.floor},
                log=self.config.data == "adding",
            )
            for lag in self.lags
        ]
        present.draw_curves(
            present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", panels
        )
        frames = sorted((folder / "frames").glob("*.png"))
        present.animate(frames, folder / "gradients.gif", milliseconds=400)
        return [
            present.Section(
                "The verdict",
                found.pop("verdict"),
                ["curves.png"],
                found | {"who knows nothing": self.floor},
            ),
            present.Section(
                "How far back the error reaches",
                GRADIENTS,
                [frames[0], frames[-1], "gradients.gif"],
            ),
        ]

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Answers to held-out sequences, of the first seeds at the longest lag."""
        cli.at_least(1, options, "count")
        lag, asked = max(self.lags), "target" if self.config.data == "adding" else "label"
        x, truth = (self._sample[f"{what}/{lag}"][: options.count] for what in ("sequence", asked))
        answer = {"truth": [float(value) for value in truth]}
        for name in self.names:
            said = np.asarray(
                self.recalls[name, lag].answer(state[f"{member(name, lag, 0)}/model"].average, x)
            )
            answer[name] = [
                float(value)
                for value in (said[:, 0] if self.config.data == "adding" else said.argmax(-1))
            ]
        return answer


GRADIENTS = """The first seeds at the longest lag, on held-out sequences: how strongly the error at the end depends on what \
was read so many steps before. First picture: before training. Second: at its end."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)

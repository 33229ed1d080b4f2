"""Is the number of ones odd? A network with a state answers for bit strings of any length.

Trained on lengths 1 to 40 and scored on lengths to 500 (the setting of Delétang et al. 2022,
arXiv:2207.02098). One bit of state suffices, and no fixed window of bits does.

    python experiments/parity.py train                  # RNN, LSTM and a fixed window, three seeds
    python experiments/parity.py predict 0110101 111    # your own sequences, with the states drawn

Accuracy on lengths 41 to 500, three seeds: RNN and LSTM 1.0000, window .50. More: README.md.
"""

from dataclasses import dataclass, replace
from typing import Literal

import optax
import tyro

from advdl import cli, data, losses, models, reports, train
from advdl.errors import UserError
from advdl.metrics import Bounds, ByStep, Mean


@dataclass(frozen=True)
class Config(cli.Config):
    data: Literal["bits"] = "bits"
    """Random bits are the only data."""
    networks: str = "rnn,lstm,window"
    """Networks that are compared: rnn, lstm, gru, window."""
    seeds: cli.Few = 3
    """Number of initializations of each network."""
    features: cli.Count = 32
    """Number of units of the state, and of each layer of the window's network."""
    window: cli.Length = 16
    """Number of bits that the network without a state sees."""
    longest: cli.Length = 40
    """Number of bits of the longest sequence in training."""
    scored: cli.Length = 500
    """Number of bits of the sequences in the test."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    sequences: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sequences of 0 and 1."""


# Delétang et al. 2022: this batch and these lengths, Adam at 1e-3, the norm of the gradient clipped
# to 1, 256 units; the steps are those of their text (their example has 10,000). Departures: every
# sequence has a length of its own, where theirs have one a batch; the answer is linear in the
# states, where theirs has a rectifier between; Haiku's cells and initialization. Not run here.
PAPER = Config(preset="paper", networks="rnn,lstm", features=256, steps=1_000_000, clip=1.0)
PRESETS = {
    "laptop": Config(steps=5000, schedule="cosine", clip=1.0, steps_per_call=20, log_every=100),
    "paper": replace(
        PAPER, steps_per_call=100, evaluate_every=50_000, save_every=50_000, log_every=10_000
    ),
}
UNSEEN = "test/accuracy_unseen"
RULES = (  # fixed before the recorded runs
    Bounds(at_least={UNSEEN: 0.999}, names=("rnn", "lstm", "gru"), best=True),
    Bounds(at_least={UNSEEN: 0.48}, at_most={UNSEEN: 0.52}, names=("window",)),
)


def load(config: Config) -> data.Splits:
    longest, scored = config.longest, config.scored
    if scored <= longest:
        raise UserError(f"--scored is {scored}; expected more than --longest {longest}")
    sources = {
        "train": lambda: data.bits("train", 1, longest),
        "test": lambda: data.bits("test", scored, scored),
    }
    return data.Splits.of_sources(lambda: data.TaskSpec(2), sources, config.batch, config.seed)


def build(config: Config, spec: data.TaskSpec) -> cli.Experiment:
    def learner(name):
        network = models.Reader(spec.outputs, name, config.features, dtype=config.dtype)
        if name == "window":
            units = (config.features, config.features)
            network = models.Window(spec.outputs, config.window, units, config.dtype)

        def outputs(variables, batch):
            return network.apply(variables, batch["sequence"], batch.get("length"))

        def loss(variables, batch, rng):
            logits = models.at_end(outputs(variables, batch)[0], batch["length"])
            accuracy = {"accuracy": Mean.of(logits.argmax(-1) == batch["label"])}
            return train.Loss(Mean.of(losses.cross_entropy(logits, batch["label"])), accuracy)

        def evaluate(variables, batch):
            right = outputs(variables, batch)[0].argmax(-1) == batch["parity"]
            unseen = Mean.of(right[:, config.longest :], batch["mask"])
            by_length = ByStep.of(right, batch["mask"])
            return {"accuracy_unseen": unseen, "accuracy_by_length": by_length}

        rule = train.chain(optax.adam(config.scheduled()), config.clip)
        player = config.player(train.initial(network, "sequence"), loss, rule)
        return train.minimize(player, evaluate, functions={"outputs": outputs})

    names = cli.parse_choices(config.networks, "--networks", ("rnn", "lstm", "gru", "window"))
    compared = train.Comparison({name: learner(name) for name in names}, config.seeds)
    states = reports.ParityReport(compared, config.longest)
    claim = "A network with a state answers at lengths never seen, and a window stays at chance."
    report = states.comparison_report(claim, RULES)
    return cli.Experiment(compared.learner, report, states.predict, units=data.task_units)


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)

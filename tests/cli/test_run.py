"""Training from Python: what the command line does, without it."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import cli, data, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.train import placement


@dataclasses.dataclass(frozen=True)
class Config(cli.Config):
    decay: cli.NonNegative = 0.0


def load(config):
    def batches(kind, split, *arguments):
        return kind(
            data.open_source("digits", split), config.batch, *arguments, data.to_float(0, 1)
        )

    return data.Splits(
        spec=lambda: data.ImageSpec.of(data.open_source("digits", "train"), low=0.0),
        train=lambda spec: batches(data.TrainBatches, "train", config.seed),
        evaluations={"test": lambda spec: batches(data.EvalBatches, "test")},
    )


def build(config, spec):
    network = nn.Dense(len(spec.label_names))

    def logits(variables, batch):
        return network.apply(variables, batch["image"].reshape(len(batch["image"]), -1))

    def wrong(variables, batch):
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(variables, batch), batch["label"]
        )

    player = config.player(
        lambda key, batch: network.init(key, batch["image"].reshape(len(batch["image"]), -1)),
        lambda variables, batch, rng: train.Loss(Mean.of(wrong(variables, batch))),
        train.chain(optax.adam(config.scheduled()), config.clip, config.decay),
    )

    def evaluate(variables, batch):
        right = logits(variables, batch).argmax(-1) == batch["label"]
        return {"accuracy": Mean.of(right.astype(jnp.float32), batch["mask"])}

    learner = train.minimize(player, evaluate, functions={"logits": logits})
    return cli.Experiment(learner, monitor=("test/accuracy", "max"))


def test_a_run_from_python_is_the_run_of_the_command_line(tmp_path, capsys):
    config = Config(run=str(tmp_path / "a"), steps=30, batch=64, evaluate_every=0, save_every=0)
    trained = cli.run(load, build, config)
    flags = ["--run", tmp_path / "b", "--steps", 30, "--batch", 64]
    flags += ["--evaluate-every", 0, "--save-every", 0]
    cli.main(load, build, {"laptop": Config()}, arguments=["train", *map(str, flags)])
    own, typed = (train.Run(tmp_path / name).summary() for name in "ab")
    assert own["digest"] == typed["digest"] and trained.step == 30
    assert trained.figures["test/accuracy"] == own["test"]["accuracy"]
    images = np.zeros((5, 8, 8, 1), np.float32)
    assert trained.apply("logits", {"image": images}).shape == (5, 10)
    again = cli.run(load, build, config)
    assert again.figures == trained.figures
    assert "nothing to do" in capsys.readouterr().err


def test_what_cannot_be_is_refused(tmp_path):
    config = Config(run=str(tmp_path), steps=2, batch=64, decay=-1.0)
    with pytest.raises(UserError, match="--decay is -1.0; expected at least 0"):
        cli.run(load, build, config)
    cli.run(load, build, dataclasses.replace(config, decay=0.0))
    with pytest.raises(UserError, match="--seed"):
        cli.run(load, build, dataclasses.replace(config, decay=0.0, seed=1))


def test_a_prediction_opens_no_data(tmp_path, capsys):
    def predict(trained, options, folder):
        return {"logits": trained.apply("logits", {"image": np.zeros((1, 8, 8, 1), np.float32)})}

    def able(config, spec):
        return build(config, spec)._replace(predict=predict)

    def gone(config):
        def closed(*_):
            raise AssertionError("the data was opened")

        return data.Splits(closed, closed, {"test": closed})

    cli.run(load, able, Config(run=str(tmp_path), steps=2, batch=64), "test_run")
    cli.main(gone, able, {"laptop": Config()}, arguments=["predict", "--run", str(tmp_path)])
    assert "logits" in capsys.readouterr().out


def test_a_run_refuses_data_with_another_spec(tmp_path):
    config = Config(run=str(tmp_path), steps=2, batch=64)
    cli.run(load, build, config)

    def renamed(config):
        own = load(config)
        spec = dataclasses.replace(own.spec, label_names=tuple("abcdefghij"))
        return data.Splits(lambda: spec, lambda spec: own.train, {"test": lambda spec: own.test})

    with pytest.raises(UserError, match="label_names"):
        cli.run(renamed, build, dataclasses.replace(config, steps=4))


def test_a_run_with_settings_by_their_old_names_goes_on(tmp_path, capsys):
    flags = ["train", "--run", str(tmp_path), "--batch", "64", "--remat", "dots", "--steps"]
    cli.run(load, build, Config(run=str(tmp_path), steps=2, batch=64, remat="dots"))
    file = tmp_path / "config.json"
    stored = json.loads(file.read_text())
    stored["config"] |= {"per_call": stored["config"].pop("steps_per_call"), "remat": "products"}
    file.write_text(json.dumps(stored))
    with pytest.raises(SystemExit):
        cli.main(load, build, {"laptop": Config()}, arguments=[*flags, "4", "--remat", "none"])
    assert "was started with --remat dots" in capsys.readouterr().err
    cli.main(load, build, {"laptop": Config()}, arguments=[*flags, "4"])
    assert f"resuming {tmp_path} at step 2" in capsys.readouterr().err
    now = json.loads(file.read_text())["config"]
    assert now["steps_per_call"] == 1 and now["remat"] == "dots" and "per_call" not in now


@pytest.mark.parametrize(
    ("where", "count"), [({"placement": "jit"}, 1), ({"mesh": "data=4"}, 4), ({}, 8)]
)
def test_the_summary_counts_the_devices_of_the_run(tmp_path, monkeypatch, where, count):
    monkeypatch.setattr(placement, "all_devices", jax.devices)
    cli.run(load, build, Config(run=str(tmp_path), steps=1, batch=64, **where))
    assert train.Run(tmp_path).summary()["devices"] == f"{count} × cpu"

"""Training from Python: what the command line does, without it."""

import dataclasses
import errno
import json
import os
import shutil
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import cli, data, train
from advdl.cli.experiment import Session
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.train import files, placement


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "count"), [({"placement": "jit"}, 1), ({"mesh": "data=4"}, 4), ({}, 8)]
)
def test_the_summary_counts_the_devices_of_the_run(tmp_path, monkeypatch, where, count):
    monkeypatch.setattr(placement, "all_devices", jax.devices)
    cli.run(load, build, Config(run=str(tmp_path), steps=1, batch=64, **where))
    assert train.Run(tmp_path).summary()["devices"] == f"{count} × cpu"


@pytest.fixture
def command(tmp_path, capsys):
    """`command(flags, build)` -> (exit status, standard error) of `train` of four steps."""

    def command(*flags, build=build, verb="train"):
        own = ["--run", tmp_path / "run", "--steps", 4, "--batch", 64, "--log-every", 1]
        own += ["--save-every", 2, "--evaluate-every", 2] if verb == "train" else []
        own = own if verb == "train" else own[:2]
        capsys.readouterr()
        status = 0
        try:
            given = [verb, *map(str, own), *map(str, flags)]
            cli.main(load, build, {"laptop": Config()}, arguments=given)
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err

    return command


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of `command` that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    every = {"log_every": 1, "save_every": 2, "evaluate_every": 2}
    cli.run(load, build, Config(run=str(folder), steps=4, batch=64, **every), "test_run")
    return folder


def same(folder, whole):
    """Whether a run has ended as the other did: its state, and each of its lines once."""
    ended = [json.loads((path / "summary.json").read_text())["digest"] for path in (folder, whole)]
    lines = [
        [(line["step"], sorted(line)) for line in map(json.loads, path.read_text().splitlines())]
        for path in (folder / "metrics.jsonl", whole / "metrics.jsonl")
    ]
    return ended[0] == ended[1] and lines[0] == lines[1]


STAGES = {
    "restore": (train.Checkpoints, "restore"),
    "begin": (train.Run, "start"),
    "compile": (placement.CompiledFunction, "compile"),
    "evaluate": (Session, "evaluate"),
    "save": (train.Checkpoints, "save"),
    "report": (train.Run, "write"),
}


@pytest.mark.usefixtures("without_nohup")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "stage",
    [
        stage if stage in ("save", "report") else pytest.param(stage, marks=pytest.mark.slow)
        for stage in STAGES
    ],
)
def test_a_request_to_stop_at_any_stage_is_answered_and_the_same_command_goes_on(
    command, whole, tmp_path, monkeypatch, stage, number
):
    kind, name = STAGES[stage]
    call, sent = getattr(kind, name), []

    def asked(self, *given, **named):
        if not sent and (stage != "report" or given[0] == "summary.json"):
            sent.append(number)
            os.kill(os.getpid(), number)
        return call(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, asked)
        status, said = command()
    assert status == 0 and "stopped" in said.splitlines()[-1] and "Traceback" not in said, said
    assert not (tmp_path / "run" / "summary.json").exists()
    status, said = command()
    assert status == 0, said
    assert same(tmp_path / "run", whole)


@pytest.mark.parametrize("stage", ["evaluate", "save"])
def test_a_second_interrupt_ends_at_once_with_status_130_and_one_line(
    command, whole, tmp_path, monkeypatch, stage
):
    kind, name = STAGES[stage]

    def asked(*_, **named):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, asked)
        assert command() == (130, "test_run.py: interrupted\n")
    assert command()[0] == 0 and same(tmp_path / "run", whole)


def test_another_verb_that_is_stopped_ends_as_the_signal_would_have_it(
    command, whole, tmp_path, monkeypatch
):
    shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(Session, "evaluate", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert command(verb="evaluate") == (143, "test_run.py: stopped by SIGTERM\n")


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_reported_repeats_no_line(
    command, whole, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("advdl.present.write_report", killed)
        with pytest.raises(Killed):
            command()
    assert command()[0] == 0 and same(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew_without_a_word(
    command, tmp_path, finished, monkeypatch
):
    """The folder of --checkpoints is not mounted, say."""
    flags = "--checkpoints", tmp_path / "mount"
    if not finished:
        monkeypatch.setattr(
            "advdl.present.write_report", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        )
    assert command(*flags)[0] == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "mount").rename(tmp_path / "away")
    status, said = command(*flags)
    assert status == 2 and said.count("\n") == 1
    for words in (tmp_path / "run", "at step 4", tmp_path / "mount", "to begin anew"):
        assert str(words) in said
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    (tmp_path / "away").rename(tmp_path / "mount")
    assert command(*flags)[0] == 0


def test_what_is_not_finite_is_no_result(command, tmp_path):
    """The one step has a finite loss and a finite gradient."""

    def build_huge(config, spec):
        def loss(variables, batch, rng):
            return train.Loss(Mean.of(variables["params"]["w"] * jnp.ones(len(batch["image"]))))

        rule = optax.chain(optax.scale(1e38), optax.scale(-1e38))
        player = config.player(lambda *_: {"params": {"w": jnp.float32(0)}}, loss, rule)
        return cli.Experiment(train.minimize(player, lambda *_: {}))

    flags = "--steps", 1, "--evaluate-every", 0, "--save-every", 0
    status, said = command(*flags, build=build_huge)
    assert status == 2 and "is not finite after step 1" in said, said
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_run_in_a_folder_that_is_trained_already_is_refused_in_one_line(command, tmp_path):
    other = train.Run(tmp_path / "run")
    other.start("test_run", {})
    try:
        status, said = command()
        assert status == 2 and said.count("\n") == 1 and f"process {os.getpid()} on" in said
    finally:
        other.lock.release()


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_at_the_start_is_one_line_and_does_not_block_the_next_try(
    command, whole, tmp_path, monkeypatch, call
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.system, call, full)
        status, said = command()
    assert status == 2 and said.count("\n") == 1 and "No space left on device" in said
    assert command()[0] == 0 and same(tmp_path / "run", whole)

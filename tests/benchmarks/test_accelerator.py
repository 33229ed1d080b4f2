"""`accelerator.py` and what runs its parts: on a CPU, with small sizes; nothing about time."""

import functools
import importlib.util
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

FOLDER = pathlib.Path(__file__).parent
SCRIPT = f"""
import argparse, os, sys, time
sys.path.insert(0, {str(FOLDER)!r})
from parts import Part, add_arguments, run

def some(item, options):
    yield {{"value": 1}}
    if item == "raises":
        raise ValueError("so it is")
    if item == "dies":
        os._exit(7)
    if item == "hangs":
        time.sleep(600)

def slow(item, options):
    begun = options.folder / "begun"
    if not begun.exists():
        begun.touch()
        time.sleep(600)
    yield {{"value": 2}}

parts = {{
    "some": Part(60, 3, ["first", "raises", "dies", "hangs", "last"], some),
    "slow": Part(5, 600, ["a", "b"], slow),
    "after": Part(60, 60, ["first"], some),
}}
parser = argparse.ArgumentParser()
add_arguments(parser)
options = parser.parse_args()
run(parts, options, options.minutes)
"""


def lines_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def ends_of(lines):
    ended = [line for line in lines if "status" in line]
    return {(line["part"], line["item"]): line.get("error", line["status"]) for line in ended}


def test_what_fails_or_takes_too_long_costs_its_own_item_alone(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "script.py"), str(out), "--minutes", "2"]
    subprocess.run(command, check=True)
    lines = lines_of(out)
    assert ends_of(lines) == {
        ("some", "first"): "done",
        ("some", "raises"): "ValueError: so it is",
        ("some", "dies"): "status 7",
        ("some", "hangs"): "no end within 3 s",
        ("some", "last"): "done",
        ("after", "first"): "done",
        ("slow", "a"): "done",  # in the time that was left
        ("slow", "b"): "done",
    }
    order = [part for part, _ in itertools.groupby(lines, lambda line: line["part"])]
    assert order == ["some", "slow", "after", "slow"]
    (stopped,) = [line for line in lines if "item" not in line]
    assert stopped == {"part": "slow", "error": "stopped after 5 s before a, b"}
    assert sum(line.get("value", 0) for line in lines if line["part"] == "some") == 5
    log = (out / "log.txt").read_text()
    assert "so it is" in log and "in some" in log  # where it failed, and where it hung
    subprocess.run(command, check=True)
    assert lines_of(out) == lines  # everything has come to an end


@pytest.fixture
def accelerator(monkeypatch):
    """The module, which finds its neighbors as a script does."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("accelerator")


def test_no_experiment_is_left_out(accelerator):
    names = {file.stem for file in (FOLDER.parents[1] / "experiments").glob("*.py")}
    assert set(accelerator.LEARNERS) == names - {"gan_edit"}  # which begins from a run of another


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        pytest.param("unet", marks=pytest.mark.slow),
        "dcgan",
        "lstm_lm",
        pytest.param("seq2seq", marks=pytest.mark.slow),
    ],
)
def test_a_row_beside_pytorch_is_a_learner(accelerator, name):
    row, key = accelerator.versus_torch.ROWS[name], jax.random.key(0)
    batch, learner = row.data(2, min(row.size, 64)), row.learner(jnp.bfloat16)
    state = jax.eval_shape(learner.init, key, batch)
    after, metrics = jax.eval_shape(learner.step, state, batch, key)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert any(name.endswith("loss") for name in metrics)


@pytest.mark.slow
def test_a_batch_grows_while_it_pays_and_halves_until_it_fits(accelerator):
    def measure(batch, most=1000.0, fits=10**9):
        if batch > fits:
            raise RuntimeError("CUDA out of memory")
        return {"batch": batch, "ms": max(batch, 32) / most}

    assert accelerator.filled(measure, 8, 0.0)["batch"] == 8
    assert accelerator.filled(measure, 8, 60.0)["batch"] == 32
    assert accelerator.filled(functools.partial(measure, fits=16), 8, 60.0)["batch"] == 16
    assert accelerator.filled(functools.partial(measure, fits=5), 16, 60.0)["batch"] == 4
    assert accelerator.filled(functools.partial(measure, fits=0), 4, 60.0)["batch"] == 0
    with pytest.raises(ZeroDivisionError):
        accelerator.filled(lambda batch: batch / 0, 8, 60.0)


@pytest.mark.scale
def test_every_part_runs_small_on_a_cpu(tmp_path):
    command = [sys.executable, str(FOLDER / "accelerator.py"), str(tmp_path), "--tiny"]
    environment = os.environ | {
        "XLA_FLAGS": os.environ["QUICK_XLA_FLAGS"],
        "TORCHDYNAMO_DISABLE": "1",  # `torch.compile` gives back what it is given
    }
    told = subprocess.run(
        [*command, "--minutes", "80"], env=environment, check=True, capture_output=True, text=True
    ).stdout
    lines = lines_of(tmp_path)
    parts = ["steps", "lstm", "peak", "torch", "compiling", "advdl", "formulations", "accuracy"]
    parts += ["input", "compiled"]
    assert list(dict.fromkeys(line["part"] for line in lines)) == parts
    assert all(f"\n{name}: " in told for name in parts)
    without = importlib.util.find_spec("torch") is None
    for (part, item), end in ends_of(lines).items():
        missing = without and part in ("torch", "compiled")
        assert end == ("ModuleNotFoundError: No module named 'torch'" if missing else "done"), item
    for line in lines:
        assert all(math.isfinite(x) for x in line.values() if isinstance(x, float)), line

    def found(part, **given):
        return [line for line in lines if line["part"] == part and given.items() <= line.items()]

    (step,) = [line for line in found("steps") if "gradients" in line]
    # Other implementations of the same layers: almost the same, and not the same program.
    assert 0 < step["gradients"] < 1e-4 and step["losses and norms"] < 1e-4
    errors = {line["way"]: line for line in found("lstm") if "way" in line}
    assert list(errors) == ["cudnn", "loop", "xla"]
    for way in ("cudnn", "loop"):
        assert 0 < errors[way]["output"] < 1e-5 and 0 < errors[way]["gradients"] < 1e-5
    (norm,) = [line for line in found("formulations") if "difference" in line]
    assert 0 < norm["difference"] < 1e-2 and norm["fast ms"] > 0 and norm["xla ms"] > 0
    own = found("advdl", way="advdl")
    assert [line["item"] for line in own] == ["lstm_lm bfloat16", "lstm_lm tf32"]
    assert all(line["batch"] == 2 and line["memory MiB"] > 0 for line in own)
    assert {line["row"] for line in found("compiling") if "row" in line} == {
        line["item"] for line in own
    }
    assert [line["updates"] for line in found("accuracy") if "updates" in line] == [6, 12]
    (waiting,) = [line for line in found("input") if "waiting %" in line]
    assert 0 <= waiting["waiting %"] <= 100 and waiting["loop images/s"] > 0
    if not without:
        ways = [line["way"] for line in found("torch") + found("compiled") if "batch" in line]
        assert ways == ["eager", "channels_last"] * 2 + ["compiled"] * 2
        assert all(line["GFLOP each"] > 0 for line in found("torch", way="eager"))
        side_by_side = told[told.index("PyTorch's time") :].splitlines()[2:]
        heads = ("eager", "channels_last", "compiled", "of the peak %")
        assert all(f"| {head} |" in side_by_side[0] for head in heads)
        assert len(side_by_side) == 4  # head, rule, two rows

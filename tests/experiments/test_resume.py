"""A run that is killed, asked to stop, or finished: processes as a person starts them."""

import json
import random
import shutil
import signal
import time

import pytest

STEPS = 24
TINY = {
    "gan": [
        "--preset",
        "digits",
        "--width",
        8,
        "--batch",
        16,
        "--ema",
        0.9,
        "--discriminator-steps",
        2,
    ],
    "classify": ["--model", "resnet8", "--batch", 16, "--ema", 0.9, "--flip"],
}


def train(start, name, folder, steps=STEPS):
    """Of `start` a process, of `verb` what came of it in this one."""
    flags = [
        "--run",
        folder,
        "--steps",
        steps,
        "--log-every",
        1,
        "--save-every",
        4,
        "--evaluate-every",
        0,
    ]
    return start(name, "train", *flags, *TINY[name])


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def steps_logged(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(folder, steps, process):
    """Until this many steps are logged."""
    deadline = time.monotonic() + 240
    while steps_logged(folder) < steps and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    assert steps_logged(folder) >= steps


@pytest.fixture(scope="module", params=sorted(TINY))
def whole(request, start, tmp_path_factory):
    """A run that nobody disturbed: (experiment, folder, summary)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(train(start, request.param, folder))
    return request.param, folder, json.loads((folder / "summary.json").read_text())


@pytest.mark.scale
def test_a_run_that_was_stopped_and_then_killed_ends_as_if_it_had_not_been(whole, start, tmp_path):
    name, folder, summary = whole
    process = train(start, name, tmp_path / "run")
    wait_for(tmp_path / "run", 6, process)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process)
    assert "stopped at step" in err and not (tmp_path / "run" / "summary.json").exists()

    process = train(start, name, tmp_path / "run")
    at = random.randrange(13, STEPS - 2)  # the save of step 12 waits until that of step 8 is whole
    wait_for(tmp_path / "run", at, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "resuming" in process.communicate()[1]
    assert not (tmp_path / "run" / "summary.json").exists()

    _, err = finish(train(start, name, tmp_path / "run"))
    assert "resuming" in err
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert again["digest"] == summary["digest"], f"killed after step {at}"
    assert again["test"] == summary["test"]
    lines = [
        json.loads(line)["step"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert sorted(set(lines)) == list(range(1, STEPS + 1)) and lines == sorted(lines)


@pytest.mark.scale
def test_a_finished_run_says_so_and_more_steps_go_on(whole, verb, unreported, tmp_path):
    name, folder, summary = whole
    shutil.copytree(folder, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    status, out, err = train(verb, name, tmp_path / "run")
    assert status == 0 and "finished at step" in err and summary["digest"] in out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == before

    status, _, err = train(verb, name, tmp_path / "run", steps=STEPS + 4)
    assert status == 0 and "resuming" in err, err
    longer = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert longer["steps"] == STEPS + 4 and longer["digest"] != summary["digest"]

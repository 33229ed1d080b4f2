"""Whatever a person can get wrong: one clear line, exit status 2, and nothing written over."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

EVERY = ["--steps", "--log-every", "--evaluate-every", "--save-every", "--steps-per-call"]
TINY = ["--model", "resnet8", "--steps", 2, "--batch", 8, "--evaluate-every", 0, "--log-every", 1]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of two classes with a split each."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(rng.integers(0, 255, (9, 8, 3), dtype=np.uint8)).save(
                    folder / split / name / f"{number}.png"
                )
    return folder


def spoiled(photographs, tmp_path, spoil):
    folder = tmp_path / "spoiled"
    shutil.copytree(photographs, folder)
    spoil(folder)
    return folder


def tree(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(result, *words):
    status, out, err = result
    lines = err.strip().splitlines()
    assert status == 2 and out == "" and len(lines) == 1, result
    for word in words:
        assert str(word) in lines[0], lines[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "digitz"], ["digitz", "digits"]),
        (["--data", "tfds:fashion_mnits"], ["fashion_mnits", "fashion_mnist"]),
        (["--data", "folder:/no/such/place"], ["/no/such/place"]),
        (["--batch", 6, "--placement", "mesh", "--mesh", "data=4"], ["6", "4"]),
        (["--batch", 6, "--placement", "pmap"], ["6", "8"]),
        (["--placement", "mesh", "--mesh", "data=16"], ["16", "8"]),
        (["--placement", "mesh", "--mesh", "date=2"], ["date", "data"]),
        (["--placement", "mesh", "--mesh", "data=two"], ["data", "two"]),
        (["--placement", "mesh", "--mesh", "data=2,data=2"], ["data", "twice"]),
        (["--mesh", "data=2", "--placement", "jit"], ["--placement mesh"]),
        (["--stepz", 5], ["--stepz", "--steps"]),
        (["--steps", "many"], ["--steps", "many"]),
        (["--placement", "tpu"], ["tpu", "jit"]),
        (["--preset", "desktop"], ["desktop", "laptop", "paper"]),
        (["--steps", 0], ["--steps", "0"]),
        (["--steps", -5], ["--steps", "-5"]),
        (["--batch", 0], ["--batch", "0"]),
        (["--batch", -1], ["--batch", "-1"]),
        (["--learning-rate", "nan"], ["--learning-rate"]),
        (["--ema", 1], ["--ema"]),
        (["--batch", 8, "--accumulate", 3], ["--accumulate 3"]),
        (["--model", "resnet9"], ["resnet9", "6n + 2"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_a_wrong_flag(verb, tmp_path, flags, words):
    refused(verb("classify", "train", "--run", tmp_path / "run", *TINY, *flags), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verbs", [["--data", "folder:\udcff"], ["--run=\udcff"], ["\udcff"]])
def test_an_argument_that_is_not_utf_8(verb, verbs):
    refused(verb("classify", "train", *verbs), "UTF-8")


@pytest.mark.parametrize("columns", ["1", "-5", "many"])
def test_a_terminal_of_one_column(verb, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    refused(verb("classify", "train", "--stepz", 3), "--stepz", "--steps")
    status, out, err = verb("classify", "predict", "--help")
    assert (status, err) == (0, "") and "--checkpoint" in out


@pytest.mark.parametrize("place", ["foo://x/y", "hf://a", "~nosuchuser/x", "x" * 300])
def test_checkpoints_in_a_place_that_cannot_be(verb, tmp_path, place):
    run = ["--run", tmp_path / "run", "--checkpoints", place]
    refused(verb("classify", "train", *TINY, *run), place[:9])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "output", "words"),
    [
        ({"PYTHONUNBUFFERED": ""}, "/dev/full", "standard output: No space left on device"),
        ({"JAX_PLATFORMS": "tpu"}, "/dev/null", "JAX_PLATFORMS"),
        ({"PYTHONIOENCODING": "ascii"}, "/dev/null", ""),
    ],
    ids=["full", "no TPU", "ASCII"],
)
def test_where_a_process_runs(request, tmp_path, environment, output, words):
    """A disk that is full, a backend that is not there, an encoding without the characters."""
    what = {"full": ["classify", "--help"], "ASCII": ["forecast", "train", "--help"]}
    name, *rest = what.get(request.node.callspec.id, ["classify", "train", *map(str, TINY)])
    command = [sys.executable, request.config.rootpath / "experiments" / f"{name}.py", *rest]
    with open(output, "w") as out:
        done = subprocess.run(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment,
        )
    if words:
        refused((done.returncode, "", done.stderr), words)
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("what", ["trian", "--steps"])
def test_an_unknown_verb(verb, what):
    refused(verb("classify", what), what, "train")


def test_an_empty_class_folder(verb, photographs, tmp_path):
    folder = spoiled(
        photographs, tmp_path, lambda f: [p.unlink() for p in (f / "train" / "cat").iterdir()]
    )
    refused(
        verb("classify", "train", "--run", tmp_path / "run", *TINY, "--data", f"folder:{folder}"),
        "cat",
    )


def test_an_image_that_does_not_decode(verb, photographs, tmp_path):
    bad = "train/dog/2.png"
    folder = spoiled(
        photographs, tmp_path, lambda f: (f / bad).write_bytes((f / bad).read_bytes()[:60])
    )
    refused(
        verb("classify", "train", "--run", tmp_path / "run", *TINY, "--data", f"folder:{folder}"),
        folder / bad,
    )


def test_a_folder_whose_files_have_changed_is_not_trained_on(load, photographs, tmp_path):
    from advdl import train
    from advdl.cli.experiment import SPEC, Session
    from advdl.errors import UserError

    folder = spoiled(photographs, tmp_path, lambda folder: None)
    module, run = load("classify"), train.Run(tmp_path / "run")
    config = module.Config(data=f"folder:{folder}", model="resnet8", batch=4)

    def session():
        return Session("classify", config, run, module.load, module.build)

    first = session()
    run.folder.mkdir()
    run.write(SPEC, first.stored_spec())
    session().check_same_data()
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "9.png")
    with pytest.raises(UserError, match="was started with other files of --data"):
        session().check_same_data()


@pytest.fixture(scope="module")
def finished(load, tmp_path_factory):
    """The folder of a tiny finished run of classify."""
    from advdl import cli

    module, folder = load("classify"), tmp_path_factory.mktemp("finished") / "run"
    cli.main(
        module.load,
        module.build,
        module.PRESETS,
        module.Predict,
        ["train", "--run", str(folder), *map(str, TINY)],
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "evaluate", "predict"])
def test_a_run_of_another_experiment(verb, finished, what):
    before = tree(finished)
    refused(verb("gan", what, "--run", finished), finished, "'classify'", "'gan'")
    assert tree(finished) == before


@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_a_folder_without_a_run(verb, tmp_path, what):
    refused(verb("classify", what, "--run", tmp_path), tmp_path, "train")
    assert list(tmp_path.iterdir()) == []


def test_training_into_a_folder_of_other_things(verb, tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    refused(verb("classify", "train", "--run", tmp_path, *TINY), tmp_path, "not empty")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [["--model", "resnet14"], ["--batch", 16], ["--learning-rate", 0.3], ["--seed", 4]]
)
def test_a_run_resumed_with_other_numbers(verb, finished, change):
    before = tree(finished)
    refused(
        verb("classify", "train", "--run", finished, "--steps", 3, *change), change[0], change[1]
    )
    assert tree(finished) == before


@pytest.mark.slow
def test_weights_of_another_network(verb, finished):
    refused(
        verb("classify", "evaluate", "--run", finished, "--model", "resnet14"), "another network"
    )


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(verb, tmp_path):
    (tmp_path / "file").write_text("")
    refused(verb("classify", "train", "--run", tmp_path / "file" / "run", *TINY), tmp_path / "file")


def test_a_config_that_is_no_json(verb, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"experiment": "cla')
    refused(verb("classify", "train", "--run", tmp_path / "run"), "config.json")


@pytest.mark.experiments
def test_a_full_disk_while_saving_leaves_the_last_checkpoint_whole(
    verb, finished, tmp_path, request
):
    """A file system of two megabytes, filled up between two checkpoints."""
    mount = tmp_path / "disk"
    mount.mkdir()
    script = f"""
set -e
mount -t tmpfs -o size=2m tmpfs {mount}
cp -r {finished} {mount}/run
dd if=/dev/zero of={mount}/ballast bs=1024 count=4000 2>/dev/null || true
set +e
{sys.executable} {request.config.rootpath}/experiments/classify.py train --run {mount}/run --steps 4
status=$?
rm {mount}/ballast
{sys.executable} {request.config.rootpath}/experiments/classify.py evaluate --run {mount}/run --json
exit $status
"""
    isolated = (
        ["unshare", "--user", "--map-root-user", "--mount"]
        if shutil.which("unshare")
        else ["false"]
    )
    if subprocess.run(
        [*isolated, "mount", "-t", "tmpfs", "tmpfs", str(mount)], capture_output=True
    ).returncode:
        pytest.skip("this machine does not let a test mount a small file system")
    done = subprocess.run([*isolated, "bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done
    said = done.stderr.strip().splitlines()
    assert [line for line in said if "No space left" in line] == said[-1:]
    assert all(line.startswith(("resuming", "step ", "classify.py:")) for line in said), done.stderr
    before = verb("classify", "evaluate", "--run", finished, "--json")[1]
    before, after = (json.loads(x)["test/accuracy"] for x in (before, done.stdout))
    assert after == pytest.approx(before)


def unmeasured():
    """The environment of a process that writes down neither which lines it has run nor what it has
    compiled. A Python older than 3.12.8 keeps a file of bytecode that was cut short as it was
    written (cpython#126606), and every later process fails on it."""
    kept = {name: value for name, value in os.environ.items() if name != "COVERAGE_FILE"}
    return kept | {"JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.slow
def test_a_file_that_may_not_grow_fails_a_checkpoint_in_one_line(tmp_path, request):
    """Every write of the checkpoint fails, as on a disk that is full from the start."""
    program = request.config.rootpath / "experiments" / "classify.py"
    command = [sys.executable, program, "train", "--run", tmp_path / "run", *map(str, TINY)]
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, env=unmeasured())
    *before, last = done.stderr.splitlines()
    assert done.returncode == 2 and "File too large" in last, done.stderr
    assert all(line.startswith("step ") for line in before), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        ("exec >&-", 0, ""),
        ("exec 2>&-", 0, ""),
        ("rmdir $PWD", 2, "the working directory is not there"),
    ],
    ids=["standard output", "standard error", "working directory"],
)
def test_what_a_process_lacks(tmp_path, request, prepare, status, words):
    program = request.config.rootpath / "experiments" / "classify.py"
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        ["bash", "-c", f'{prepare}; exec "$@"', "bash", sys.executable, program, "plan", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path / "here",
        env=unmeasured(),
    )
    # What others load when Python starts may complain of such a place too, before us.
    own = done.stderr[max(done.stderr.rfind("classify.py: "), 0) :] if words else done.stderr
    assert (done.returncode, len(own.splitlines())) == (status, bool(words)), done
    assert words in own and "advdl/cli" not in done.stderr


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_published_weights_have_no_checkpoint(verb, tmp_path, name):
    result = verb("classify", name, "--weights", tmp_path / "net.pth", "--checkpoint", "best")
    refused(result, "--checkpoint best", "--weights")


@pytest.mark.parametrize(
    ("name", "flags", "what"),
    [
        (
            "gan",
            ["--preset", "digits", "--z", 2 * 10**9],
            "the network with its optimizer needs 7,629 GiB",
        ),
        ("autoencode", ["--hidden", "2000000000,2000000000"], "the network with its optimizer"),
        ("classify", ["--batch", 10**9], "a batch needs"),
        ("parity", [word for flag in EVERY for word in (flag, 10**7)], "a batch needs"),
        ("segment", ["--size", "8000x8000"], "the scenes"),
    ],
)
def test_what_cannot_fit_in_memory_is_refused_before_it_is_allocated(
    verb, tmp_path, name, flags, what
):
    for each in ("train", "bench"):
        refused(verb(name, each, *flags), what, "GiB of memory, and there are")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_step_that_does_not_fit_in_memory_is_refused_before_a_file_is_written(
    verb, tmp_path, monkeypatch
):
    monkeypatch.setattr("advdl.train.placement.host_memory", lambda: 4 * 2**20)
    result = verb("classify", "train", *TINY, "--batch", 256)
    refused(result, "the compiled program needs", "and there are 0.003906")
    assert list(tmp_path.iterdir()) == []

"""Several processes do what one does, hear of each other's end, and go on on as many or others.

Processes are started as few times as these claims allow: two with two devices each, four with one,
and two that only count. What they are compared with runs in this process on four of its devices.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from advdl import cli, data, train
from advdl.errors import UserError
from advdl.scale import cluster

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import one_of_several

HERE = pathlib.Path(__file__).parent
STEPS, LONG, SILENCE = 8, 32, 10
TINY = {
    "classify": ["--model", "resnet8", "--batch", 16, "--flip"],
    # By momentum: pixels that are black in all images leave gradients of rounding alone, and Adam
    #   makes whole steps of them.
    "gan": [
        "--preset",
        "digits",
        "--network",
        "mlp",
        "--width",
        16,
        "--batch",
        16,
        "--discriminator-steps",
        2,
        "--optimizer",
        "momentum",
        "--learning-rate",
        0.1,
    ],
    "language": [
        "--features",
        16,
        "--embedding",
        8,
        "--window",
        8,
        "--batch",
        16,
    ],  # carries its state from batch to batch
}
WHOLE, KILLED = ("classify", "gan"), "language"


def command(name, folder, steps=STEPS):
    """Trains on four devices."""
    often = ["--log-every", 1, "--save-every", 4, "--keep", 100, "--evaluate-every", 0]
    where = ["--placement", "mesh", "--mesh", "data=2,fsdp=2"]
    return [
        name,
        *map(str, ["train", "--run", folder, "--steps", steps, *often, *where, *TINY[name]]),
    ]


def begin(count, devices, runs, reports=""):
    """So many processes that do these commands in turn, and report on one experiment's."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    program = [
        sys.executable,
        "-W",
        "error",
        str(HERE / "one_of_several.py"),
        free_port(),
        str(count),
    ]
    return [
        subprocess.Popen(
            [*program, str(process), str(SILENCE), json.dumps(runs), reports],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(flags),
        )
        for process in range(count)
    ]


def environment(flags):
    return os.environ | {"XLA_FLAGS": f"{flags} {os.environ['QUICK_XLA_FLAGS']}"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])


def ends(processes):
    """(exit status, standard output, standard error) of each; none outlives the test."""
    try:
        said = [process.communicate(timeout=900) for process in processes]
        return [(process.returncode, *both) for process, both in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()


def seen(folder, processes):
    """Number of the batch -> ids of the whole batch, from what each process wrote down of its
    part."""
    parts = []
    for process in range(processes):
        lines = (folder.parent / f"{folder.name}.seen.{process}.jsonl").read_text().splitlines()
        parts.append({number: ids for number, ids in map(json.loads, lines)})
    common = set.intersection(*map(set, parts))
    return {number: sum((part[number] for part in parts), []) for number in common}


def lines(folder, kind="train/"):
    return {
        line["step"]: {
            name: value for name, value in line.items() if "loss" in name or kind == "test/"
        }
        for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        if any(name.startswith(kind) for name in line)
    }


def same_run(folder, reference, steps):
    """The same losses at every step, the same figures in the end where the run came to it, and a
    state within 1e-5."""
    found, expected = lines(folder), lines(reference)
    for step in range(1, steps + 1):
        assert found[step] == pytest.approx(expected[step], rel=1e-4, abs=1e-6), step
    if (folder / "summary.json").exists():
        assert len(found) == len(expected) == steps
        assert lines(folder, "test/")[steps] == pytest.approx(
            lines(reference, "test/")[steps], rel=1e-4, abs=1e-6
        )
    states = [
        train.Checkpoints(path / "checkpoints")._read_here(steps) for path in (folder, reference)
    ]
    assert train.layout(states[0]) == train.layout(states[1])
    for (path, a), b in zip(
        jax.tree.leaves_with_path(states[0]), jax.tree.leaves(states[1]), strict=True
    ):
        worst, scale = (np.max(np.abs(x), initial=0) for x in (a - b, b))
        assert worst <= 1e-5 * max(1, scale), (
            f"{jax.tree_util.keystr(path)} differs by {worst:.1e}, its largest is {scale:.1e}"
        )


@pytest.fixture(scope="module")
def here():
    """`here("gan", folder, steps)`: the same in this process; number of the batch -> ids."""
    before = data.StackedBatches.__call__

    def here(name, folder, steps=STEPS):
        found = {}

        def write_down(self, number):
            batch = before(self, number)
            found[number] = batch["index"].tolist()
            return batch

        data.StackedBatches.__call__ = write_down
        try:
            module = one_of_several.load(name)
            with one_of_several.reported(False):
                cli.main(
                    module.load,
                    module.build,
                    module.PRESETS,
                    arguments=command(name, folder, steps)[1:],
                )
        finally:
            data.StackedBatches.__call__ = before
        return found

    return here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def alone(here, folder):
    """Experiment -> (folder, ids) of runs in one process that nobody disturbed."""
    steps = {name: STEPS if name in WHOLE else LONG for name in TINY}
    return {
        name: (folder / f"alone-{name}", here(name, folder / f"alone-{name}", steps[name]))
        for name in TINY
    }


@pytest.fixture(scope="module")
def two(folder):
    """Two processes of two devices: whole runs, and then one in which process 1 is killed; what
    process 0 said, and seconds until it did."""
    runs = [command(name, folder / f"two-{name}") for name in WHOLE]
    processes = begin(2, 2, [*runs, command(KILLED, folder / "killed", LONG)], "gan")
    log, deadline = folder / "killed" / "metrics.jsonl", time.monotonic() + 600
    while (
        not log.exists() or log.read_text().count("\n") < 11
    ):  # the save of step 8 waits until that of step 4 is whole
        if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
            pytest.fail(str(ends(processes)))
        time.sleep(0.002)
    processes[1].send_signal(signal.SIGKILL)
    at = time.monotonic()
    status, _, said = ends(processes)[0]
    return status, said, time.monotonic() - at


@pytest.fixture(scope="module")
def four(folder, two):
    """Four processes of one device, in which the run that was killed goes on."""
    shutil.copytree(folder / "killed", folder / "killed-four")
    for status, _, said in ends(begin(4, 1, [command(KILLED, folder / "killed-four", LONG)])):
        assert status == 0, said


@pytest.mark.scale
@pytest.mark.parametrize("name", WHOLE)
def test_two_processes_train_to_what_one_does_on_the_same_examples(alone, two, folder, name):
    """slow: starts two processes that compile experiments."""
    reference, ids = alone[name]
    found = seen(folder / f"two-{name}", 2)
    assert set(range(STEPS)) <= set(found) and all(
        found[number] == ids[number] for number in range(STEPS)
    )
    same_run(folder / f"two-{name}", reference, STEPS)


@pytest.mark.scale
def test_a_killed_process_ends_the_other_with_a_line_that_names_it(two, folder):
    """slow: as above."""
    status, said, seconds = two
    assert status == train.STATUS, said
    assert "process 1 of 2 is gone: no sign of life" in said.strip().splitlines()[-1]
    assert seconds < SILENCE + 30
    assert not (folder / "killed" / "summary.json").exists()


@pytest.mark.scale
def test_a_run_killed_on_two_goes_on_on_one_and_on_four_with_the_examples_of_an_unbroken_one(
    alone, two, four, here, folder
):
    """slow: as above."""
    reference, ids = alone[KILLED]
    first = train.Checkpoints(folder / "killed" / "checkpoints").steps()[0]
    shutil.copytree(folder / "killed", folder / "killed-one")
    on_one, on_four = here(KILLED, folder / "killed-one", LONG), seen(folder / "killed-four", 4)
    assert 4 <= first < LONG
    same_run(folder / "killed", reference, first)
    for found in (seen(folder / "killed", 2), on_one, on_four):
        assert all(found[number] == ids[number] for number in found if number < LONG)
    for found, run in ((on_one, "killed-one"), (on_four, "killed-four")):
        assert (
            set(range(first, LONG)) <= set(found) <= {0, *range(first, LONG)}
        )  # batch 0 is looked at for its shapes
        same_run(folder / run, reference, LONG)


@pytest.mark.parametrize("silence", [1, 10, 60, 600])
def test_a_peer_is_missed_here_before_jax_aborts(monkeypatch, silence):
    """JAX ends a process by an abort that names nobody, a timeout after a peer's last heartbeat; it
    sends two in that time, so that a peer may have died half a timeout after its last."""
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: given.update(options))
    cluster._meet(cluster.Meeting(f"127.0.0.1:{free_port()}", 2, 0, silence=silence))
    assert given["heartbeat_timeout_seconds"] / 2 >= silence + 10


@pytest.mark.parametrize(
    ("host", "found", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("node0", "127.0.1.1", None),  # the loopback, where no other machine would find it
        ("service.cluster", "192.0.2.1", None),  # no address of this machine
    ],
)
def test_the_coordinator_listens_at_the_address_of_its_name_alone(
    monkeypatch, host, found, expected
):
    port, given = free_port(), {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: given.update(options))
    names = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, int(port)))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: names)
    cluster._meet(cluster.Meeting(f"{host}:{port}", 2, 0))
    assert given["coordinator_bind_address"] == (expected and f"{expected}:{port}")


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of --coordinator cannot be used"):
            cluster._meet(cluster.Meeting(f"127.0.0.1:{port}", 2, 0))


COUNT = """
import sys, time
import jax, jax.numpy as jnp, numpy as np, optax
from advdl import train
from advdl.metrics import Mean
from advdl.scale import cluster

port, process = sys.argv[1], int(sys.argv[2])
with cluster.joined(cluster.Meeting(f"127.0.0.1:{port}", 2, process, 60, 10)):
    loss = lambda variables, batch, rng: train.Loss(Mean.of(variables["params"]["w"] * batch["x"]))
    init = lambda key, batch: {"params": {"w": jnp.float32(0)}}
    player = train.Player(init, loss, optax.sgd(0.1))
    placed = train.place("mesh")(train.minimize(player, lambda *_: {}))

    def stream(first, last):
        for t in range(first, last):
            time.sleep(0.01)
            yield placed.put({"x": np.ones(2, np.float32)})

    say = lambda what: lambda step, _: print(what, step, flush=True)
    told = {name: say(name) for name in ("log", "save", "evaluate")}
    key = jax.random.key(0)
    state = placed.init(key, placed.put({"x": np.ones(2, np.float32)}))
    train.fit(placed, state, stream, key, 100_000, 2, log_every=7, **told)
    time.sleep(100)
"""


def said_by(process, word):
    """The next line of a process that begins with the word."""
    return next(line for line in process.stdout if line.startswith(word))


@pytest.mark.scale
def test_sigterm_to_one_saves_at_the_same_step_in_all_and_the_end_of_process_0_is_told():
    """slow: starts two processes."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, port, str(process)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment("--xla_force_host_platform_device_count=1"),
        )
        for process in range(2)
    ]
    try:
        said_by(processes[1], "log")
        processes[1].send_signal(signal.SIGTERM)
        saved = [said_by(process, "save") for process in processes]
        assert saved[0] == saved[1] and int(saved[0].split()[1]) < 100_000
        processes[0].send_signal(signal.SIGKILL)
        _, (status, _, said) = ends(processes)
        assert status == train.STATUS, said
        assert "process 0 of 2 is gone" in said.strip().splitlines()[-1]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.scale
def test_a_process_that_finds_no_other_says_so(start, tmp_path):
    """slow: starts three processes, of which two wait for others."""
    flags = [
        "--placement",
        "mesh",
        "--distributed",
        "--start-timeout",
        2,
        "--run",
        tmp_path / "run",
    ]
    alone = [
        ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2, "--process", number]
        for number in range(2)
    ]
    said = ends([start("parity", "train", *flags, *given) for given in ([], *alone)])
    expected = [
        "--distributed found no cluster",
        *["not all processes came together at 127.0.0.1:"] * 2,
    ]
    for (status, out, err), words in zip(said, expected, strict=True):
        assert status == 2 and out == "" and "Traceback" not in err
        assert f"parity.py: {words}" in err.strip().splitlines()[-1], err
    assert not (tmp_path / "run").exists()


@pytest.mark.scale
def test_checkpoints_lie_where_they_are_told_and_are_found_there(verb, unreported, tmp_path):
    """slow: compiles two experiments' worth of a small one."""
    tiny = ["--run", tmp_path / "run", "--checkpoints", tmp_path / "else where", *TINY["gan"]]
    assert verb("gan", "train", *tiny, "--steps", 2)[0] == 0
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert (tmp_path / "else where" / "2").is_dir()
    assert "resuming" in verb("gan", "train", "--run", tmp_path / "run", "--steps", 3)[2]
    status, _, err = verb(
        "gan", "train", "--run", tmp_path / "run", "--steps", 4, "--checkpoints", tmp_path / "other"
    )
    assert status == 2 and "--checkpoints" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--placement", "jit"], ["--placement jit", "--placement mesh"]),
        (["--placement", "mesh", "--coordinator", "h:1"], ["--processes N", "give all three"]),
        (
            ["--placement", "mesh", "--coordinator", "here", "--processes", 2, "--process", 0],
            ["'here'", "HOST:PORT"],
        ),
        (
            ["--placement", "mesh", "--coordinator", "h:1", "--processes", 2, "--process", 2],
            ["--process is 2"],
        ),
        (
            [
                "--placement",
                "mesh",
                "--coordinator",
                "no.such.host.invalid:9",
                "--processes",
                2,
                "--process",
                1,
            ],
            ["no host"],
        ),
        (["--peer-timeout", 0], ["--peer-timeout"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_what_cannot_be_joined_is_refused(verb, tmp_path, flags, words):
    status, out, err = verb("parity", "train", "--run", tmp_path / "run", "--distributed", *flags)
    assert status == 2 and out == "" and err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--coordinator", "h:1"], ["--coordinator", "--distributed too"]),
        (["--process", 0], ["--process ", "--distributed too"]),
        (["--profile", "5:"], ["--profile", "START:COUNT"]),
        (["--watchdog", -1], ["--watchdog"]),
        (["--run", "gs://bucket/run"], ["--checkpoints gs://bucket/run"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_flags_of_long_runs(verb, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = verb("parity", "train", *flags)
    assert status == 2 and out == "" and err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir())

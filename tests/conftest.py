"""Every test: offline, eight CPU devices, warnings as errors, no implicit rank promotion, compiled
code kept between runs."""

import os
import pathlib
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
    )
MEMORY = pathlib.Path("/dev/shm")  # thousands of small files: a disk would wait for each
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**32:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # for workers: what one thread frees another takes
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "advdl-test-cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

import ctypes
import gc
import importlib.util
import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIERS = {
    "unit": 10.0,
    "slow": 20.0,
    "experiments": 60.0,
    "scale": float("inf"),
}  # CPU seconds that one test of a tier may take


def pytest_addoption(parser):
    parser.addoption(
        "--budget",
        metavar="FILE",
        help="Fail where a test exceeds its tier's budget; write all times to FILE.",
    )
    parser.addoption(
        "--optimized",
        action="store_true",
        help="Compile programs as users do; by default tests compile quickly.",
    )


REPORTS: dict[
    str, tuple[str, float, int]
] = {}  # name of a test -> tier, CPU seconds, bytes by which it raised the peak
PEAKS: dict[str, int] = {}  # worker -> bytes


# Options of XLA before JAX 0.11; later ones do not know them, and abort.
QUICK = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    if jax.__version_info__ < (0, 11)
    else ""
)


def pytest_configure(config):
    """Compile in a fraction of the time, without costly optimization, unless `--optimized` is
    given.

    XLA reads its flags when the first computation starts its client. Processes that tests start
    inherit what they need.
    """
    quick = not config.option.optimized
    jax.config.update("jax_disable_most_optimizations", quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))
    os.environ["QUICK_XLA_FLAGS"] = QUICK if quick else ""
    if quick and QUICK not in os.environ["XLA_FLAGS"]:
        os.environ["XLA_FLAGS"] += f" {QUICK}"


def tier(item):
    return next(tier for tier in TIERS if item.get_closest_marker(tier))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker("unit")
    # What needs most memory comes first, before a worker has grown; then the folder of the longest
    # files: else a worker has one to itself in the end.
    first = {"weights": 0, "scale": 1}
    items.sort(key=lambda item: first.get(item.path.parent.name, 2))


def pytest_collection_finish():
    """Keep the collector of cyclic garbage from visiting what was imported, again and again: that
    took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Measure the CPU time of a test with its fixtures and its child processes: a busy machine does
    not change it."""
    item.before = sum(os.times()[:4]), peak()
    result = yield
    if peak() - item.before[1] > 2**27:
        give_back()  # what large arrays lay in, before another test adds its own
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        seconds, before = item.before
        spent = tier(item), round(sum(os.times()[:4]) - seconds, 2), peak() - before
        report.user_properties.append(("spent", spent))
    return report


def pytest_runtest_logreport(report):
    if (spent := dict(report.user_properties).get("spent")) and report.when == "teardown":
        REPORTS[report.nodeid] = spent


def peak():
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident():
    """Memory of this process in bytes; its peak where the system does not say."""
    try:
        pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return peak()
    return int(pages) * resource.getpagesize()


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak"] = peak()
        return
    over = [name for name, (tier, spent, _) in REPORTS.items() if spent > TIERS[tier]]
    if session.config.option.budget:
        pathlib.Path(session.config.option.budget).write_text(json.dumps(REPORTS, indent=0))
        if over and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    PEAKS[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak", 0)


def pytest_terminal_summary(terminalreporter):
    if not REPORTS:
        return
    terminalreporter.section("CPU time and memory")
    for tier in TIERS:
        times = [spent for own, spent, _ in REPORTS.values() if own == tier]
        terminalreporter.line(f"{tier}: {len(times)} tests, {sum(times):.0f} s")
    for name, (tier, spent, _) in sorted(REPORTS.items(), key=lambda row: -row[1][1])[:10]:
        over = f"  over the {tier} tier's {TIERS[tier]:.0f} s" if spent > TIERS[tier] else ""
        terminalreporter.line(f"{spent:7.1f} s  {name}{over}")
    for name, (_, _, raised) in sorted(REPORTS.items(), key=lambda row: -row[1][2])[:3]:
        terminalreporter.line(f"{raised / 2**20:5.0f} MiB {name} raised the peak")
    for worker, size in (PEAKS or {"this process": peak()}).items():
        terminalreporter.line(f"peak memory of {worker}: {size / 2**30:.2f} GiB")


@pytest.fixture(scope="session", autouse=True)
def one_device():
    """A command that names no placement runs on one of the eight devices, which compiles faster;
    gives the function that finds all of them, as it is for users."""
    from advdl.train import placement

    with pytest.MonkeyPatch.context() as patch:
        found = placement.all_devices
        patch.setattr(placement, "all_devices", lambda: jax.devices()[:1])
        yield found


@pytest.fixture(scope="module", autouse=True)
def flat_memory():
    """Compiled programs of a file go with the file while the process is large, and their memory
    back to the system."""
    yield
    if resident() > 1.2 * 2**30:
        jax.clear_caches()
        give_back()


def give_back():
    """Collects garbage and gives free memory back to the system."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc
        trim(0)


@pytest.fixture
def without_nohup():
    """SIGHUP is not ignored, as it is where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def optimized(request):
    """Compile with all optimization passes: for tests that run longer than they compile, or compare
    programs bit for bit."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", not request.config.option.optimized)


@pytest.fixture(scope="session")
def load():
    """`load("gan")` -> the module experiments/gan.py."""

    def load(name):
        if (module := f"experiments_{name}") not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                module, ROOT / "experiments" / f"{name}.py"
            )
            sys.modules[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module])
        return sys.modules[module]

    return load


@pytest.fixture(scope="session")
def opened(load):
    """`opened("gan", config)` -> (its data, what its `build` makes for them)."""

    def opened(name, config):
        module = load(name)
        pair = module.load, module.build
        splits = pair[0](config)
        return splits, pair[1](config, splits.spec)

    return opened


@pytest.fixture(scope="module")
def few_examples():
    """Evaluations of this file are of 40 examples, from the first to the last, where there are
    more: for tests of what an evaluation leads to."""
    from advdl import data

    init = data.EvalBatches.__init__

    def few(self, source, *given, **named):
        if len(source) > 40:
            rows = np.linspace(0, len(source) - 1, 40).astype(int)
            source = data.Subset(source, rows, source.split)
        init(self, source, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.EvalBatches, "__init__", few)
        yield init


@pytest.fixture
def all_examples(few_examples, monkeypatch):
    """Evaluations of this test are of all examples, as they are for users."""
    from advdl import data

    monkeypatch.setattr(data.EvalBatches, "__init__", few_examples)


@pytest.fixture
def unreported(monkeypatch):
    """Runs write their summary and no report: for tests of what a run trains."""
    from advdl import cli

    def build(*given, experiment=cli.Experiment, **named):
        return experiment(*given, **named)._replace(report=lambda *_: [], snapshot=None)

    monkeypatch.setattr(cli, "Experiment", build)


@pytest.fixture(scope="session")
def start():
    """`start("gan", "train", "--steps", 3)` -> a process, as a person starts it, on one device; its
    output is kept."""

    def start(name, *arguments, **environment):
        return subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                str(ROOT / "experiments" / f"{name}.py"),
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XLA_FLAGS": os.environ["QUICK_XLA_FLAGS"]} | environment,
        )

    return start


@pytest.fixture
def verb(load, capsys, tmp_path, monkeypatch):
    """`verb("gan", "train", "--steps", 3)` -> (exit status, standard output, standard error), in
    this process, from a folder without runs: those of whoever runs the tests are not looked at."""
    monkeypatch.chdir(tmp_path)

    def verb(name, *arguments):
        from advdl import cli

        module = load(name)
        capsys.readouterr()
        status = 0
        try:
            predict = getattr(module, "Predict", cli.Predict)
            cli.main(
                module.load,
                module.build,
                module.PRESETS,
                predict,
                [str(argument) for argument in arguments],
            )
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return verb

"""Every test: offline, eight CPU devices, warnings as errors, no implicit rank promotion, compiled code kept between runs."""

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "advdl-test-cache"))

import jax  # noqa: E402 - the flags above must be set first

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

import importlib.util  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def load():
    """`load("gan")` -> the module experiments/gan.py."""

    def load(name):
        if (module := f"experiments_{name}") not in sys.modules:
            spec = importlib.util.spec_from_file_location(module, ROOT / "experiments" / f"{name}.py")
            sys.modules[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module])
        return sys.modules[module]

    return load


@pytest.fixture(scope="session")
def start():
    """`start("gan", "train", "--steps", 3)` -> a process, as a person starts it, on one device; its output is kept."""

    def start(name, *arguments, **environment):
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(ROOT / "experiments" / f"{name}.py"), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XLA_FLAGS": ""} | environment,
        )

    return start


@pytest.fixture
def verb(load, capsys):
    """`verb("gan", "train", "--steps", 3)` -> (exit status, standard output, standard error), in this process."""

    def verb(name, *arguments):
        from advdl import cli

        module = load(name)
        capsys.readouterr()
        status = 0
        try:
            predict = getattr(module, "Predict", cli.Predict)
            cli.main(module.build, module.PRESETS, predict, [str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return verb

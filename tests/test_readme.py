"""What the README shows is what happens."""

import importlib.util
import re
import sys

import pytest

from advdl import cli


@pytest.fixture(scope="module")
def readme(request):
    return (request.config.rootpath / "README.md").read_text()


def test_the_example_is_a_whole_experiment(readme, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    file = tmp_path / "regress.py"
    file.write_text(example)
    spec = importlib.util.spec_from_file_location("regress", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "regress", module)
    spec.loader.exec_module(module)
    for verb, steps in (("train", 300), ("train", 400), ("evaluate", 400)):
        cli.main(
            *([module.load] if hasattr(module, "load") else []),
            module.build,
            module.PRESETS,
            arguments=[verb, "--run", str(tmp_path / "run"), "--steps", str(steps)],
        )
    assert "squared error" in capsys.readouterr().out
    assert (tmp_path / "run" / "report" / "report.html").exists()


def test_everything_it_points_to_exists(readme, request):
    root = request.config.rootpath
    for name in re.findall(r"`((?:advdl|experiments|tests)/[\w/.]+)`", readme) + re.findall(
        r"\]\(([\w/.]+)\)", readme
    ):
        assert (root / name).exists(), name


def test_the_commands_of_a_fresh_machine_come_first_and_use_flags_that_exist(readme, load, capsys):
    setup, tests, usage = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)[:3]
    assert "experiments/gan.py train" in setup and setup.count("\n") == 1
    assert "-m pytest" in tests and tests.count("\n") == 1
    for name, verb in re.findall(r"experiments/(\w+)\.py (\w+)", usage):
        module = load(name)
        with pytest.raises(SystemExit) as stop:
            cli.main(
                *([module.load] if hasattr(module, "load") else []),
                module.build,
                module.PRESETS,
                module.Predict,
                [verb, "--help"],
            )
        assert stop.value.code == 0
    known = capsys.readouterr().out
    for flag in re.findall(
        r"--[a-z][a-z-]+", usage + "".join(re.findall(r"^\| `--.*$", readme, re.MULTILINE))
    ):
        assert flag in known, flag

"""What the documents show is what happens. Commands and examples are found by their markers."""

import contextlib
import importlib.util
import io
import re
import sys

import pytest

from advdl import cli
from advdl.models import __main__ as zoo

DOCUMENTS = (
    "README.md",
    "experiments/README.md",
    "advdl/models/README.md",
    "advdl/scale/README.md",
    "tests/README.md",
    "tests/benchmarks/README.md",
)


@pytest.fixture(scope="module")
def readme(request):
    return (request.config.rootpath / "README.md").read_text()


def marked(text, name):
    """The block behind `<!-- commands: NAME -->`."""
    (block,) = re.findall(rf"<!-- commands: {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return block


@pytest.mark.slow
def test_the_example_is_a_whole_experiment(readme, tmp_path, monkeypatch, capsys):
    file = tmp_path / "regress.py"
    file.write_text(marked(readme, "experiment"))
    spec = importlib.util.spec_from_file_location("regress", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "regress", module)
    spec.loader.exec_module(module)
    for verb, steps in (("train", 300), ("train", 400), ("evaluate", 400)):
        flags = [verb, "--run", str(tmp_path / "run"), "--steps", str(steps)]
        cli.main(module.load, module.build, module.PRESETS, arguments=flags)
    assert "test/squared_error" in capsys.readouterr().out
    assert (tmp_path / "run" / "report" / "report.html").exists()


@pytest.mark.experiments
def test_the_lines_for_a_notebook_run(readme, tmp_path, monkeypatch, capsys, load):
    import types

    import numpy as np

    package = types.ModuleType("experiments")
    package.classify = load("classify")
    monkeypatch.setitem(sys.modules, "experiments", package)
    lines = marked(readme, "notebook").replace("steps=500", "steps=4, model='resnet8', batch=8")
    lines = lines.replace("runs/digits", str(tmp_path / "run"))
    exec(lines, {"images": np.zeros((3, 8, 8, 1), np.float32)})
    assert "(3, 10)" in capsys.readouterr().out


@pytest.mark.parametrize("name", DOCUMENTS)
def test_everything_a_document_points_to_exists(name, request):
    file = request.config.rootpath / name
    text = file.read_text()
    for path in re.findall(r"`((?:advdl|experiments|tests)/[\w/.]+)`", text):
        assert (request.config.rootpath / path).exists(), path
    links = re.findall(r"\]\(([\w/.-]+)\)", text) + re.findall(r'(?:src|href)="([\w/.-]+)"', text)
    for path in links:
        assert (file.parent / path).exists(), path


def test_commands_use_verbs_and_flags_that_exist(readme, load, capsys):
    start, tests, verbs = (marked(readme, name) for name in ("start", "tests", "verbs"))
    assert "experiments/gan.py train" in start and start.count("\n") == 1
    assert "-m pytest" in tests and tests.count("\n") == 1
    for name, verb in re.findall(r"experiments/(\w+)\.py (\w+)", start + verbs):
        module = load(name)
        with pytest.raises(SystemExit) as stop:
            cli.main(module.load, module.build, module.PRESETS, module.Predict, [verb, "--help"])
        assert stop.value.code == 0
    known = capsys.readouterr().out
    for flag in re.findall(r"--[a-z][a-z-]+", verbs):
        assert flag in known, flag


def test_it_is_short(readme):
    assert len(readme.encode()) <= 9000


def test_the_table_of_networks_is_the_printed_one(request):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        zoo.main(["--markdown"])
    text = (request.config.rootpath / "advdl/models/README.md").read_text()
    assert printed.getvalue().strip() in text


def test_every_experiment_has_its_results(request, load):
    text = (request.config.rootpath / "experiments/README.md").read_text()
    for file in sorted((request.config.rootpath / "experiments").glob("*.py")):
        assert f"`{file.name}`" in text, file.name

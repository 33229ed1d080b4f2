"""What experiments take from a package is listed by it, so that type checkers know it too."""

import ast
import importlib
import pathlib
import types

import pytest

PACKAGES = ["cli", "data", "metrics", "models", "nn", "present", "reports", "train", "weights"]
EXPERIMENTS = pathlib.Path(__file__).resolve().parents[1] / "experiments"


def used(package):
    """The names after `package.` in all experiments."""
    trees = [ast.parse(file.read_text()) for file in EXPERIMENTS.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {n.attr for n in nodes if isinstance(n.value, ast.Name) and n.value.id == package}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_what_is_taken_from_it(package):
    module = importlib.import_module(f"advdl.{package}")
    listed = set(module.__all__)
    assert len(listed) == len(module.__all__) and all(hasattr(module, name) for name in listed)
    taken = {name for name in used(package) if hasattr(module, name)}
    modules = {name for name in taken if isinstance(getattr(module, name), types.ModuleType)}
    assert taken - modules <= listed

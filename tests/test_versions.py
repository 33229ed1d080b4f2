"""What is installed is what `pyproject.toml` allows, and computes what it should outside of our
compiler options."""

import os
import subprocess
import sys
import tomllib

import jax
import pytest
from packaging.requirements import Requirement

COUNTEREXAMPLE = """
import numpy as np, jax, jax.numpy as jnp
rows = np.zeros((32_769, 3), np.float32)
rows[:, 0] = np.arange(len(rows))
found = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
np.testing.assert_allclose(found, np.square(rows.astype(np.float64)).sum(1), rtol=1e-6)
"""
"""JAX 0.10.2 has one row of these wrong on CPU (github.com/jax-ml/jax/issues/39103)."""


def run(program, flags=""):
    """Standard error and status of a process of its own."""
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--xla_force_host_platform_device_count=2"])
def test_a_program_of_ones_own_is_right_in_every_row_once_advdl_is_imported(flags):
    """Before or after JAX, which starts with the first computation, and beside flags that are set
    already."""
    for imports in ("import advdl, jax", "import jax, advdl"):
        done = run(
            f"import warnings; warnings.simplefilter('error')\n{imports}\n{COUNTEREXAMPLE}", flags
        )
        assert not done.returncode, done.stderr
    done = run("import advdl, jax; print(jax.device_count())", flags)
    assert int(done.stdout) == (2 if flags else 1)


@pytest.mark.slow
@pytest.mark.skipif(jax.__version__ != "0.10.2", reason="of JAX 0.10.2 alone")
def test_an_import_that_comes_too_late_is_told():
    done = run("import jax; jax.devices(); import advdl")
    assert "import advdl first" in done.stderr


@pytest.mark.skipif(jax.__version__ != "0.10.2", reason="of JAX 0.10.2 alone")
def test_a_value_that_a_person_set_stays():
    flag = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE"
    done = run("import advdl, os; print(os.environ['XLA_FLAGS'])", flag)
    assert done.stdout.strip() == flag


def test_every_requirement_allows_what_is_installed(request):
    """Of the package, of its extras and of a TPU machine."""
    root = request.config.rootpath
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    lines += [
        line
        for line in (root / "requirements-tpu.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    required = [line for line in map(Requirement, lines) if line.name in ("jax", "jaxlib")]
    assert {"tpu", "cuda12", "cuda13"} <= {extra for line in required for extra in line.extras}
    assert all(line.specifier.contains(jax.__version__) for line in required)

"""What is installed is what `pyproject.toml` allows, and computes what it should outside of our compiler options."""

import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="module")
def required(request):
    """Every requirement on JAX, of the package, of its extras and of a TPU machine."""
    root = request.config.rootpath
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    lines += [line for line in (root / "requirements-tpu.txt").read_text().splitlines() if not line.startswith("#")]
    return [line for line in map(Requirement, lines) if line.name in ("jax", "jaxlib")]


def test_a_norm_of_a_product_is_right_in_every_row():
    """JAX 0.10.2 has one row wrong on CPU (github.com/jax-ml/jax/issues/39103) where a program of one's own is compiled
    without `advdl.train.placement.compiler_options`, as in metrics and notebooks."""
    rows = np.zeros((32_769, 3), np.float32)
    rows[:, 0] = np.arange(len(rows))
    matrix = jnp.eye(3)
    found = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    np.testing.assert_allclose(found, np.square(rows.astype(np.float64)).sum(1), rtol=1e-6)


def test_every_requirement_allows_what_is_installed_and_not_the_version_that_computes_wrongly(required):
    assert {"tpu", "cuda12", "cuda13"} <= {extra for line in required for extra in line.extras}
    for line in required:
        assert line.specifier.contains(jax.__version__), f"{line} and JAX {jax.__version__}"
        assert line.specifier.contains("0.10.1") and not line.specifier.contains("0.10.2"), line

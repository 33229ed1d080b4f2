"""Deep Learning: Advanced Approaches, as pure Flax modules that train unchanged from a laptop to a
TPU pod."""

import importlib.metadata
import os
import sys
import warnings

__version__ = "0.1.0"

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def _compile_rightly() -> None:
    """Sets XLA's flag under which jaxlib 0.10.2 compiles sums of products rightly on CPU
    (github.com/jax-ml/jax/issues/39103).

    It holds for the whole process, so for eager calls, metrics and programs of a user's own too,
    and has to be set before JAX starts its backend: a warning says where `advdl` was imported after
    that. A value that is set already stays.
    """
    if importlib.metadata.version("jaxlib") != "0.10.2" or FLAG in os.environ.get("XLA_FLAGS", ""):
        return
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge.backends_are_initialized():
        message = (
            "JAX 0.10.2 had started before advdl was imported and may compile wrongly on CPU"
            " (jax#39103); import advdl first"
        )
        warnings.warn(message, stacklevel=3)
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} {FLAG}=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT".strip()
    )


_compile_rightly()

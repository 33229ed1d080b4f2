"""A row of a family's table: a network of a paper, and the figures it must have.

Counts are taken of the traced program, so they cost no memory and no compilation.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from advdl.errors import UserError
from advdl.nn import tracing


def struct(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Numbers of this shape, one example's."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def tokens(length: int) -> jax.ShapeDtypeStruct:
    """So many tokens, one example's."""
    return jax.ShapeDtypeStruct((length,), jnp.int32)


def number() -> jax.ShapeDtypeStruct:
    """An integer, one example's: a length or a label."""
    return jax.ShapeDtypeStruct((), jnp.int32)


class Variant(NamedTuple):
    """A network of a paper with its figures.

    build: called with the network's own fields, gives the module. paper: first authors and years;
    empty where the network is ours. input: shape of one example. parameters: trainable, with the
    classifier's for the paper's number of classes. multiply_adds: of convolutions and matrix
    products, one example, `train=False`. figure: a published result and, in brackets, where it is
    published. rules: how its parameters lie on a mesh with an axis `model`, see
    `advdl.train.placement.on_mesh`. dtype: of the input; integers are tokens. others: what else the
    network is called with, one example's. weights: whose published files fit it, see
    `advdl.weights`.
    """

    build: Callable[..., nn.Module]
    paper: str
    input: tuple[int, ...]
    parameters: int
    multiply_adds: int
    figure: str = ""
    rules: tuple[tuple[str, PartitionSpec], ...] = ()
    dtype: Any = jnp.float32
    others: tuple[jax.ShapeDtypeStruct, ...] = ()
    weights: tuple[str, ...] = ()

    @property
    def photographs(self) -> bool:
        """Whether it is one of ImageNet's networks, for photographs in color."""
        return self.input[0] > 32

    @property
    def inputs(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """All that the network is called with, one example's."""
        return jax.ShapeDtypeStruct(self.input, self.dtype), *self.others


DENSE = (
    (r"/fc6/kernel$", PartitionSpec("fsdp", "model")),
    (r"/fc6/bias$", PartitionSpec("model")),
    (r"/fc7/kernel$", PartitionSpec("model", "fsdp")),
)
"""Rules for two wide layers one behind the other: each device of the axis `model` has some units of
fc6 and what they give to fc7, whose sums are added up over the devices (Shoeybi et al. 2019,
arXiv:1909.08053, section 3)."""


Shape = tuple[int, ...] | jax.ShapeDtypeStruct
"""Of one example's input; where the dtype is left out, float32."""


def abstract(model: nn.Module, *inputs: Shape) -> Any:
    """Variables as shapes and dtypes, for one example of these inputs."""
    named = _named(model)
    with tracing.use(implementation="xla"):  # of all implementations the quickest to trace
        return jax.eval_shape(
            lambda key, *x: model.init(key, *x, **named), jax.random.key(0), *map(_one, inputs)
        )


def check_shape(name: str, model: nn.Module, shape: tuple[int, ...]) -> None:
    """Raises UserError, with the network's name, where it does not take images of this shape."""
    try:
        abstract(model, shape)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{name} does not take images of {shape[0]} by {shape[1]}: {error}"
        ) from error


def count_parameters(variables: Any) -> int:
    """Number of trainable parameters among these variables, which may be abstract."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def count_multiply_adds(model: nn.Module, variables: Any, *inputs: Shape) -> int:
    """Multiply-adds of convolutions and matrix products in the evaluation of one example of these
    inputs; variables: as of `abstract`.

    Averages are left out, whatever they are computed by; so are normalization and rectifiers.
    """
    named = _named(model)
    with tracing.use(implementation="xla"):
        run = jax.make_jaxpr(lambda v, *x: model.apply(v, *x, **named))(
            variables, *map(_one, inputs)
        )
    return _inside(run.jaxpr)


def _named(model: nn.Module) -> dict[str, Any]:
    known = inspect.signature(type(model).__call__).parameters
    return {"train": False} if "train" in known else {}


def _one(shape: Shape) -> jax.ShapeDtypeStruct:
    inner = struct(shape) if isinstance(shape, tuple) else shape
    return jax.ShapeDtypeStruct((1, *inner.shape), inner.dtype)


def _inside(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        size = sum(out.aval.size for out in equation.outvars)
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            rows, columns = equation.params["lhs_dilation"]  # a zero between pixels is no product
            total += size * kernel[0] * kernel[1] * kernel[2] // (rows * columns)
        elif equation.primitive.name == "dot_general":
            (axes, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += size * int(np.prod([left[axis] for axis in axes]))
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                    total += times * _inside(inner)
    return total

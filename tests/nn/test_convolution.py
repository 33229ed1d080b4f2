"""Convolutions against loops over their definition; fast against plain, derivatives included."""

import contextlib
import itertools
import platform
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from advdl.nn import Conv, ConvTranspose, conv, conv_transpose, tracing
from advdl.train import placement


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def convolved(x, w, s, p, d=1, groups=1):
    """y[i] = sum over taps a of x[s·i + d·a - p] w[a], by looping over outputs and groups."""
    (top, bottom), (left, right) = p
    x = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    kh, kw, per_group, out = w.shape
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k in ((x.shape[1], kh), (x.shape[2], kw))]
    y = np.zeros((len(x), *size, out))
    for g in range(groups):
        own, made = (
            slice(g * per_group, (g + 1) * per_group),
            slice(g * out // groups, (g + 1) * out // groups),
        )
        for i, j in itertools.product(*map(range, size)):
            window = x[
                :, s * i : s * i + d * (kh - 1) + 1 : d, s * j : s * j + d * (kw - 1) + 1 : d, own
            ]
            y[:, i, j, made] = np.tensordot(window, w[..., made], 3)
    return y


def scattered(x, w, s, p, extra):
    """y[s·i + a - p] += x[i] w[a], by looping over inputs and taps."""
    kh, kw, _, out = w.shape
    _, h, wd, _ = x.shape
    y = np.zeros((len(x), (h - 1) * s + kh + extra, (wd - 1) * s + kw + extra, out))
    for i, j, a, b in itertools.product(range(h), range(wd), range(kh), range(kw)):
        y[:, s * i + a, s * j + b] += x[:, i, j] @ w[a, b]
    return y[:, p : y.shape[1] - p, p : y.shape[2] - p]


@pytest.mark.parametrize("name", ["fast", "xla"])
@pytest.mark.parametrize(
    ("k", "s", "p", "d", "groups"),
    [
        (1, 1, 0, 1, 1),
        (1, 2, 0, 1, 1),
        (1, 2, 1, 1, 1),
        (3, 1, 1, 1, 1),
        (3, 2, 1, 1, 1),
        (4, 2, 1, 1, 1),
        (5, 3, 0, 1, 1),
        (3, 1, 2, 2, 1),
        (3, 2, 1, 1, 2),
    ],
)
def test_conv_is_its_definition(name, k, s, p, d, groups):
    x, w = normal(2, 9, 7, 4), normal(k, k, 4 // groups, 6)
    with tracing.use(implementation=name):
        y = conv(x, w, s, p, d, groups)
    np.testing.assert_allclose(y, convolved(x, w, s, ((p, p), (p, p)), d, groups), atol=2e-5)


def test_conv_pads_each_side_by_its_own_number():
    x, w, padding = normal(2, 6, 5, 3), normal(3, 2, 3, 4), ((0, 2), (1, 3))
    np.testing.assert_allclose(conv(x, w, 2, padding), convolved(x, w, 2, padding), atol=2e-5)


GRID = [
    (k, s, p, extra)
    for k, s, p, extra in itertools.product(range(1, 6), range(1, 4), range(3), range(3))
    if extra < s and (3 - 1) * s - 2 * p + k + extra > 0 and p < k
]


@pytest.mark.parametrize("name", ["fast", "xla"])
@pytest.mark.parametrize("out", [3, 9])  # fewer channels take another path than more
def test_conv_transpose_is_its_definition(name, out):
    x = normal(2, 4, 3, 2)
    kernels = {k: normal(k, k, 2, out) for k in range(1, 6)}

    @jax.jit
    def every_case(x, kernels):
        return [conv_transpose(x, kernels[k], s, p, extra) for k, s, p, extra in GRID]

    with tracing.use(implementation=name):
        outputs = every_case(x, kernels)
    for (k, s, p, extra), y in zip(GRID, outputs, strict=True):
        np.testing.assert_allclose(
            y, scattered(x, kernels[k], s, p, extra), atol=3e-5, err_msg=str((k, s, p, extra))
        )


@pytest.mark.parametrize(
    ("k", "s", "p", "n"), [(4, 2, 1, 8), (3, 2, 1, 7), (5, 3, 2, 7), (2, 3, 0, 8)]
)
def test_conv_and_conv_transpose_are_adjoint(k, s, p, n):
    x, w = normal(2, n, n, 3), normal(k, k, 3, 10)
    y = normal(*conv(x, w, s, p).shape, seed=1)
    extra = (n + 2 * p - k) % s
    back = conv_transpose(y, w.swapaxes(2, 3), s, p, extra)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.vdot(conv(x, w, s, p), y), np.vdot(x, back), rtol=1e-4)


def test_conv_transpose_refuses_an_empty_output():
    with pytest.raises(ValueError, match="size"):
        conv_transpose(normal(1, 1, 1, 2), normal(2, 2, 2, 2), 1, 1)


@pytest.mark.parametrize(
    ("layer", "shape", "taps", "arguments"),
    [
        (conv, (2, 8, 6, 9), (3, 3, 9, 10), (2, 1)),
        (conv, (2, 8, 6, 9), (4, 4, 9, 4), (2, 1)),
        (conv, (2, 7, 7, 3), (1, 1, 3, 4), (2, 0)),
        (conv, (2, 7, 6, 3), (5, 2, 3, 4), ((3, 2), ((2, 1), (0, 1)))),
        (conv, (2, 9, 8, 3), (3, 2, 3, 9), (1, ((2, 1), (0, 1)), (2, 3))),
        (conv, (2, 9, 8, 9), (2, 3, 9, 4), ((2, 1), (1, 2), (3, 2))),
        (conv_transpose, (2, 3, 4, 5), (4, 4, 5, 9), (2, 1)),
        (conv_transpose, (2, 3, 4, 5), (5, 5, 5, 2), (2, 2, 1)),
        (conv_transpose, (2, 3, 4, 5), (3, 3, 5, 9), (1, 1)),
        (conv_transpose, (2, 3, 4, 5), (2, 3, 5, 9), (3, ((0, 1), (1, 0)), (2, 1))),
    ],
)
def test_fast_and_plain_agree_up_to_second_derivatives(layer, shape, taps, arguments):
    x, w = normal(*shape), normal(*taps)
    probe = normal(*jax.eval_shape(lambda x, w: layer(x, w, *arguments), x, w).shape, seed=1)

    def value(x, w):
        return jnp.sum(jnp.tanh(layer(x, w, *arguments) * 0.2) * probe)

    def penalty(x, w):  # of the gradient in x, as in WGAN-GP and R1, and of the kernel's
        gx, gw = jax.grad(value, (0, 1))(x, w)
        return jnp.sum(jnp.square(gx)) + jnp.sum(jnp.sin(gw))

    def all_of_it(x, w):
        return (
            layer(x, w, *arguments),
            jax.grad(value, (0, 1))(x, w),
            jax.grad(penalty, (0, 1))(x, w),
        )

    got = []
    for name in ("fast", "xla"):
        with tracing.use(implementation=name):
            got.append(jax.jit(lambda x, w: all_of_it(x, w))(x, w))
    for a, b in zip(*map(jax.tree.leaves, got), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max(), rtol=1e-4)


@contextlib.contextmanager
def _nothing_kept():
    folder = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)


# JAX 0.12 cannot keep such a program, and tries to all the same.
UNWRITTEN = pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache")


@UNWRITTEN
def test_layers_know_whose_convolutions_they_are_compiled_to():
    def program():
        def f(x, kernel):
            known.append(tracing.current().onednn)
            return conv(x, kernel)

        known, given = [], (jnp.zeros((2, 8, 8, 16)), jnp.zeros((3, 3, 16, 16)))
        text = placement.compiled(lambda: jax.jit(f).lower(*given), "cpu").as_text()
        return known, ["__onednn$convolution" in text]

    kept = program()
    assert kept == ([False], [False])
    with _nothing_kept():
        known, used = program()
    assert known == used
    if (sys.platform, platform.machine()) == (
        "linux",
        "x86_64",
    ):  # whose wheels have it from then on
        assert used == [jax.__version_info__ >= (0, 12)]


OF_BOTH = [
    ((4, 9, 8, 5), (1, 1, 5, 9), (1, 0)),
    ((4, 9, 8, 16), (3, 3, 16, 9), (1, 1)),
    ((4, 9, 8, 3), (5, 5, 3, 9), (2, 2)),
    ((4, 9, 8, 12), (4, 4, 12, 3), (2, 1)),
    ((4, 8, 8, 64), (3, 3, 64, 64), (1, 1)),
    ((4, 6, 6, 64), (5, 2, 64, 128), (1, (2, 0))),
    ((4, 7, 6, 5), (1, 1, 5, 9), ((2, 3), 0)),
]
OF_CONV = [  # dilation, groups
    ((4, 9, 8, 6), (3, 3, 6, 4), (1, 2, 2)),
    ((4, 9, 8, 6), (3, 3, 3, 4), (1, 1, 1, 2)),
]


@UNWRITTEN
def test_a_program_without_convolutions_is_not_searched_for_them():
    """XLA takes three times as long to compile a loop where it looks for what oneDNN could do."""
    x = jnp.ones((256, 256))
    with _nothing_kept():
        program = placement.compiled(lambda: jax.jit(lambda x, y: x.T @ y).lower(x, x), "cpu")
    assert "onednn" not in program.as_text()


@UNWRITTEN
@pytest.mark.parametrize(
    ("layer", "shape", "taps", "arguments"),
    [(conv, *case) for case in OF_BOTH + OF_CONV] + [(conv_transpose, *case) for case in OF_BOTH],
)
def test_the_options_of_placements_change_rounding_alone(layer, shape, taps, arguments):
    """They choose the library that convolutions run in, where JAX has several and programs are not
    kept."""
    x, kernel = normal(*shape), normal(*taps)
    dy = normal(*layer(x, kernel, *arguments).shape)

    def both(x, kernel, dy):
        y, back = jax.vjp(lambda *given: layer(*given, *arguments), x, kernel)
        return y, *back(dy)

    with tracing.use(implementation="fast", onednn=True):
        lowered = jax.jit(both).lower(x, kernel, dy)
    with _nothing_kept():
        found = lowered.compile(compiler_options=placement.compiler_options("cpu"))(x, kernel, dy)
    with tracing.use(implementation="xla"):
        expected = both(x, kernel, dy)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()), rtol=0)


def test_a_sharded_batch_stays_where_it_is():
    """On a mesh, layers and input gradients of fast convolutions move no example to another
    device."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    whole, over_batch = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    x, w, back, point = (
        normal(4, 6, 6, 9),
        normal(4, 4, 9, 10),
        normal(4, 4, 10, 9),
        normal(1, 1, 9, 9),
    )

    def value(w, x):
        y = conv_transpose(conv(x, w[0], 2, 1), w[1], 2, 1)
        return jnp.sum(jnp.sin(conv(y, w[2], 2)))

    def both(w, x):
        return jax.grad(value, (0, 1))(w, x)

    with tracing.use(implementation="fast"):
        program = jax.jit(both, in_shardings=(whole, over_batch), out_shardings=(whole, over_batch))
        text = program.lower((w, back, point), x).compile().as_text()
        got, one = program((w, back, point), x), jax.jit(lambda *a: both(*a))((w, back, point), x)
    assert "all-gather" not in text and "all-to-all" not in text
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_fast_formulation_does_no_product_with_zero():
    """By XLA's own count of floating-point operations, the input gradient costs what the
    convolution does."""
    x, w = normal(2, 8, 8, 9), normal(4, 4, 9, 12)

    def flops(name, f, *arguments):
        with tracing.use(implementation=name):
            return jax.jit(lambda *a: f(*a)).lower(*arguments).compile().cost_analysis()["flops"]

    y, back = normal(2, 4, 4, 12), w.swapaxes(2, 3)
    once = flops("xla", lambda x, w: conv(x, w, 2, 1), x, w)
    assert flops("fast", lambda y, w: conv_transpose(y, w, 2, 1), y, back) < 1.3 * once
    assert (
        flops("fast", lambda x, y, w: jax.vjp(lambda x: conv(x, w, 2, 1), x)[1](y), x, y, w)
        < 1.3 * once
    )


@pytest.mark.parametrize(("taps", "stride"), [(1, 1), (2, 1), (3, 1), (4, 2)])
@pytest.mark.parametrize("layer", [conv, conv_transpose])
def test_every_product_lies_as_xla_wants_it_in_a_loop(layer, taps, stride):
    """XLA does not move the axes of a convolution in a loop's body, where one with others takes
    some fifty times as long on a CPU."""
    x, w = normal(2, 9, 9, 9), normal(taps, taps, 9, 10)

    def value(x, w):
        return jnp.sin(layer(x, w, stride)).sum()

    with tracing.use(implementation="fast"):
        text = jax.jit(lambda x, w: jax.grad(value, (0, 1))(x, w)).lower(x, w).as_text()
    layouts = re.findall(r"dim_numbers = (\S+ ?.*?->\[.*?\])", text)
    assert len(layouts) >= 2 and {*layouts} == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


@pytest.mark.parametrize("module", [Conv, ConvTranspose])
def test_modules_keep_parameters_in_param_dtype_and_compute_in_dtype(module):
    x = normal(2, 4, 4, 3)
    layer = module(5, 3, padding=1, dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)
    assert jax.tree.map(lambda a: (a.shape, a.dtype.name), variables["params"]) == {
        "kernel": ((3, 3, 3, 5), "float32"),
        "bias": ((5,), "float32"),
    }
    y = layer.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    wide = module(5, 3, padding=1).apply(variables, x)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(y.astype(np.float32), wide, atol=0.05)
    gradient = jax.grad(lambda v: layer.apply(v, x).astype(jnp.float32).sum())(variables)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradient)} == {"float32"}


def test_bias_is_added_and_can_be_left_out():
    x = normal(2, 4, 4, 3)
    layer = Conv(5, 3, bias_init=lambda key, shape, dtype: jnp.arange(5.0))
    variables = layer.init(jax.random.key(0), x)
    bare = Conv(5, 3, use_bias=False)
    assert set(bare.init(jax.random.key(0), x)["params"]) == {"kernel"}
    without = bare.apply({"params": {"kernel": variables["params"]["kernel"]}}, x)
    np.testing.assert_allclose(
        layer.apply(variables, x) - without,
        np.broadcast_to(np.arange(5.0), without.shape),
        atol=1e-5,
    )


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3 groups"):
        Conv(6, 3, groups=3).init(jax.random.key(0), normal(1, 4, 4, 4))


@pytest.mark.parametrize("name", ["fast", "xla"])
@pytest.mark.parametrize(
    "kernel",
    [pytest.param(2, marks=pytest.mark.slow), 3, 4, pytest.param(5, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("extra", [0, 1])
def test_transposed_convolution_is_torchs(name, kernel, stride, padding, extra):
    """Over a grid of geometries, output padding included, with the gradients by input and kernel;
    odd and even sizes."""
    torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
    if extra >= stride:
        pytest.skip("output padding must be smaller than the stride")
    random = np.random.default_rng([kernel, stride, padding, extra])
    x, w = (
        random.standard_normal(shape).astype(np.float32)
        for shape in ((2, 5, 6, 12), (kernel, kernel, 12, 10))
    )
    left, right = (
        torch.from_numpy(a).permute(order).requires_grad_()
        for a, order in ((x, (0, 3, 1, 2)), (w, (2, 3, 0, 1)))
    )
    theirs = torch.nn.functional.conv_transpose2d(
        left, right, None, stride, padding, extra
    ).permute(0, 2, 3, 1)
    weight = random.standard_normal(theirs.shape).astype(np.float32)
    (theirs * torch.from_numpy(weight)).sum().backward()
    with tracing.use(implementation=name):
        ours, pull = jax.vjp(lambda x, w: conv_transpose(x, w, stride, padding, extra), x, w)
        by_x, by_w = pull(weight)
    expected = (theirs.detach(), left.grad.permute(0, 2, 3, 1), right.grad.permute(2, 3, 0, 1))
    for a, b in zip((ours, by_x, by_w), map(np.asarray, expected), strict=True):
        assert a.shape == b.shape and np.abs(a - b).max() <= 1e-5 * np.abs(b).max()

"""What a plan says of a step, held against what is counted, what XLA counts, and what runs."""

import dataclasses
import functools
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from advdl import models
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models.variant import DENSE
from advdl.nn import tracing
from advdl.scale import hlo
from advdl.scale.chips import CHIPS
from advdl.scale.plan import Job, Plan, largest, plan, refused, roofline
from advdl.scale.topology import Topology, open_topologies
from advdl.train import Loss, Player, minimize, place

ROOT = pathlib.Path(__file__).resolve().parents[2]
USERS = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # programs as users compile them
WIDTH = 256
"""Of the layers of the small network, so that all but its biases divide over an axis of 4."""


class Layers(nn.Module):
    """Two layers, 16 -> WIDTH -> 8, whose activations outweigh their parameters in large
    batches."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, use_bias=False)(jnp.tanh(nn.Dense(WIDTH, use_bias=False)(x)))


def learner(**player):
    network = Layers()

    def loss(variables, batch, rng):
        return Loss(Mean.of(jnp.square(network.apply(variables, batch["x"]) - batch["y"]).sum(1)))

    def init(key, batch):
        return network.init(key, batch["x"])

    return minimize(Player(init, loss, optax.adam(0.1), **player), lambda variables, batch: {})


PARAMETERS = 16 * WIDTH + WIDTH * 8


def planned(batch=64, placement="mesh", mesh="", devices=8, **player):
    shapes = {
        name: jax.ShapeDtypeStruct((batch, n), jnp.float32) for name, n in (("x", 16), ("y", 8))
    }
    topology = Topology("cpu", jax.devices("cpu")[:devices], None, 2**34)
    return plan(Job(learner(**player), shapes, placement, mesh), topology)


@pytest.mark.parametrize(
    ("placement", "mesh"),
    [("jit", ""), ("pmap", ""), ("mesh", ""), ("mesh", "data=2,fsdp=2,model=2")],
)
def test_parameters_are_those_that_are_counted_and_the_program_holds_them(placement, mesh):
    found, over = planned(placement=placement, mesh=mesh), 2 if "fsdp" in mesh else 1
    assert found.parameters == 4 * PARAMETERS / over
    assert found.optimizer == 2 * found.parameters + 4  # Adam: two moments and a count
    ways = {"jit": 1, "pmap": 8, "mesh": 4 if mesh else 8}[placement]
    assert found.examples == 64 * (16 + 8) * 4 / ways
    held = found.parameters + found.optimizer + found.other + found.examples
    assert held < found.total < found.memory and found.fits
    assert found.total >= held + found.temporary


def test_twice_the_batch_is_twice_the_work_and_more_activations_and_the_same_parameters():
    small, large = planned(512), planned(1024)
    assert large.parameters == small.parameters and large.optimizer == small.optimizer
    assert large.temporary > 1.5 * small.temporary
    assert large.flops == pytest.approx(
        2 * small.flops, rel=0.01
    )  # the norm of the gradient is work of every step alike
    assert large.examples == 2 * small.examples


def test_work_is_that_of_the_products_on_every_placement():
    products = (
        3 * PARAMETERS - 16 * WIDTH
    )  # forward, by kernels, by activations but not by the input
    for placement, mesh, ways in [
        ("jit", "", 1),
        ("pmap", "", 8),
        ("mesh", "", 8),
        ("mesh", "fsdp=8", 8),
    ]:
        beside = planned(placement=placement, mesh=mesh).flops - 2 * 64 * products / ways
        # The norm of the gradient may be a product, of four rows of the larger kernel.
        assert beside in (0, 2 * 4 * 16 * WIDTH)


def test_fsdp_divides_parameters_and_optimizer_by_its_size():
    one, four = planned(mesh="data=4"), planned(mesh="fsdp=4")
    assert four.parameters == one.parameters / 4
    assert four.optimizer == pytest.approx(one.optimizer / 4, abs=4)


def test_data_parallel_adds_up_gradients_and_fsdp_brings_parameters_together_besides():
    gradients = 4 * PARAMETERS
    data, fsdp = planned(), planned(mesh="fsdp=8")
    assert {one.kind for one in data.collectives} == {"all-reduce"}
    assert {one.axes for one in data.collectives} == {"data"}
    assert (
        gradients <= sum(one.bytes for one in data.collectives) < gradients + 100
    )  # and a few sums
    gathered = [one for one in fsdp.collectives if one.kind == "all-gather"]
    assert [one.axes for one in gathered] == ["fsdp"] and gathered[0].bytes == gradients


def test_micro_batches_take_less_room_for_the_same_work():
    whole, parts = planned(4096), planned(4096, accumulate=8)
    assert parts.temporary < whole.temporary / 2
    assert parts.flops == whole.flops
    assert parts.endless == 0


def test_what_is_computed_again_changes_no_number_and_no_product():
    def trained(remat):
        def loss(variables, batch, rng):
            x = batch["x"]
            for kernel in variables["params"]["kernels"]:
                x = jnp.tanh(x @ kernel)
            return Loss(Mean.of(x.sum(1)))

        kernels = list(jax.random.normal(jax.random.key(0), (4, 16, 16)))
        player = Player(
            lambda key, batch: {"params": {"kernels": kernels}}, loss, optax.sgd(0.1), remat=remat
        )
        one = minimize(player, lambda variables, batch: {})
        batch, key = {"x": jax.random.normal(jax.random.key(1), (32, 16))}, jax.random.key(2)
        lowered = jax.jit(one.step).lower(one.init(key, batch), batch, key)
        text = lowered.as_text(dialect="hlo")
        flops = hlo.costs(text, {"device": 1}).flops / (2 * 32 * 16 * 16)
        return (
            flops,
            text.count("tanh("),
            lowered.compile()(one.init(key, batch), batch, key)[0]["model"].params,
        )

    (plain, kept, a), (products, again, b) = map(trained, ("none", "dots"))
    assert products == plain == 4 + 4 + 3  # forward, by kernels, by activations but the first's
    assert (kept, again) == (4, 8)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        rounding = np.finfo(np.float32).eps  # of terms of about 1, whose difference may be small
        np.testing.assert_allclose(y, x, rtol=1e-6, atol=rounding)


@pytest.mark.slow
def test_wide_layers_over_the_axis_model_divide_their_work_and_add_up_once_each_way():
    """As VGG and AlexNet have them; the same numbers as on one device."""

    def loss(variables, batch, rng):
        p = variables["params"]
        y = jnp.tanh(batch["x"] @ p["fc6"]["kernel"] + p["fc6"]["bias"][None])
        return Loss(Mean.of(jnp.square(y @ p["fc7"]["kernel"] - batch["y"]).sum(1)))

    def init(key, batch):
        keys = jax.random.split(key)
        fc6 = {"kernel": jax.random.normal(keys[0], (16, WIDTH)) / 4, "bias": jnp.zeros(WIDTH)}
        return {
            "params": {"fc6": fc6, "fc7": {"kernel": jax.random.normal(keys[1], (WIDTH, 8)) / 16}}
        }

    one = minimize(Player(init, loss, optax.sgd(0.1)), lambda variables, batch: {})
    shapes = {name: jax.ShapeDtypeStruct((64, n), jnp.float32) for name, n in (("x", 16), ("y", 8))}
    topology = Topology("cpu", jax.devices("cpu")[:8], None, 2**34)
    plain, split = (
        plan(Job(one, shapes, "mesh", mesh, DENSE), topology)
        for mesh in ("data=2", "data=2,model=4")
    )
    assert split.parameters == plain.parameters / 4 and split.flops == plain.flops / 4
    (over,) = [each for each in split.collectives if each.axes == "model"]
    assert (
        over.kind == "all-reduce" and over.bytes < 32 * 8 * 4 + 100
    )  # of fc7's sums; x has no gradient
    batch = {
        name: jax.random.normal(jax.random.key(n), (64, n)) for name, n in (("x", 16), ("y", 8))
    }
    found = []
    for name, mesh in (("jit", ""), ("mesh", "data=2,model=4"), ("mesh", "data=2,fsdp=2,model=2")):
        placed = place(name, mesh, DENSE)(one)
        state = placed.init(jax.random.key(3), placed.put(batch))
        state, _ = placed.step(state, placed.put(batch), jax.random.key(4))
        found.append(jax.tree.leaves(jax.device_get(state["model"].params)))
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


# What programs do, read from their text.


def costs_of(f, *arguments, mesh=None):
    return hlo.costs(jax.jit(f).lower(*arguments).compile().as_text(), mesh or {"device": 1})


def test_a_loop_counts_as_often_as_it_runs():
    w = jnp.ones((32, 32))

    def run(w, x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), x), x, None, length=7)[0]

    assert costs_of(run, w, jnp.ones((4, 32))).flops == 7 * 2 * 4 * 32 * 32

    def nested(w, x):
        return jax.lax.scan(lambda x, _: (run(w, x), None), x, None, length=3)[0]

    assert costs_of(nested, w, jnp.ones((4, 32))).flops == 3 * 7 * 2 * 4 * 32 * 32


def test_a_loop_of_no_known_length_counts_once_and_is_told():
    found = costs_of(
        lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x), jnp.ones((8, 8))
    )
    assert found.flops == 2 * 8**3 and found.endless == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_strides": (2, 2)},
        {"rhs_dilation": (2, 3)},
        {"padding": [(3, 1), (0, 2)]},
        {"feature_group_count": 4},
        {"lhs_dilation": (2, 2), "padding": [(2, 1), (1, 2)]},
    ],
)
def test_products_of_convolutions_and_bytes_are_those_that_xla_counts(options):
    groups = options.get("feature_group_count", 1)
    x, kernel = jnp.ones((2, 9, 11, 8)), jnp.ones((3, 3, 8 // groups, 12))
    settings = {
        "window_strides": (1, 1),
        "padding": [(1, 1), (1, 1)],
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    } | options
    conv = functools.partial(jax.lax.conv_general_dilated, **settings)
    for f in (
        conv,
        jax.grad(lambda x, k: conv(x, k).sum()),
        jax.grad(lambda x, k: conv(x, k).sum(), 1),
    ):
        lowered = jax.jit(f).lower(x, kernel)
        found, xla = (
            hlo.costs(lowered.as_text(dialect="hlo"), {"device": 1}),
            lowered.cost_analysis(),
        )
        assert found.flops == pytest.approx(
            xla["flops"], rel=0.02
        )  # which has the few additions beside them


def test_bytes_are_those_that_xla_counts_where_nothing_loops():
    def f(x, w):
        y = jax.nn.relu(x @ w)
        return (y * jax.lax.rsqrt(jnp.square(y).mean(0, keepdims=True) + 1)) @ w.T

    program = jax.jit(f).lower(jnp.ones((64, 32)), jnp.ones((32, 128))).compile()
    found = hlo.costs(program.as_text(), {"device": 1})
    assert found.bytes == pytest.approx(program.cost_analysis()["bytes accessed"], rel=0.05)


@pytest.mark.slow
def test_forward_products_of_resnet_50_are_the_papers_but_for_padding():
    row = models.classifier("resnet50")
    network = row.build()
    x = jax.ShapeDtypeStruct((1, *row.input), jnp.float32)
    with tracing.use(implementation="xla"):
        lowered = jax.jit(lambda v, x: network.apply(v, x, train=False)[0]).lower(
            models.abstract(network, row.input), x
        )
    found = hlo.costs(lowered.as_text(dialect="hlo"), {"device": 1})
    assert found.flops / 2 == pytest.approx(row.multiply_adds, rel=0.05)


SIZES = {"data": 2, "fsdp": 2, "model": 2}


def on_every_device(f):
    mesh = jax.make_mesh(tuple(SIZES.values()), tuple(SIZES), axis_types=(AxisType.Auto,) * 3)
    return jax.shard_map(f, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


@pytest.mark.parametrize(
    ("kind", "f", "over", "size"),
    [
        ("all-reduce", lambda x: jax.lax.psum(x, "fsdp"), "fsdp", 64),
        ("all-reduce", lambda x: jax.lax.psum(x, ("data", "model")), "data × model", 64),
        (
            "all-reduce",
            lambda x: jax.lax.psum(x, ("data", "fsdp", "model")),
            "data × fsdp × model",
            64,
        ),
        ("all-gather", lambda x: jax.lax.all_gather(x, "model"), "model", 128),
        ("reduce-scatter", lambda x: jax.lax.psum_scatter(x, "data"), "data", 64),
        ("all-to-all", lambda x: jax.lax.all_to_all(x, "fsdp", 0, 0), "fsdp", 64),
        (
            "collective-permute",
            lambda x: jax.lax.ppermute(x, "model", [(0, 1), (1, 0)]),
            "model",
            64,
        ),
    ],
)
def test_messages_are_found_with_their_kind_axes_and_bytes(kind, f, over, size):
    (found,) = costs_of(on_every_device(f), jnp.ones((2, 8)), mesh=SIZES).collectives
    ways = math.prod(SIZES[axis] for axis in over.split(" × "))
    assert (found.kind, found.axes, found.size, found.times, found.bytes) == (
        kind,
        over,
        ways,
        1,
        size,
    )
    factor = {"all-reduce": 2 * (ways - 1) / ways, "collective-permute": 1}.get(
        kind, (ways - 1) / ways
    )
    assert found.sent == factor * size


def test_messages_in_a_loop_count_as_often_as_it_runs():
    def f(x):
        return jax.lax.scan(
            lambda x, _: (jnp.sin(jax.lax.psum(x, "data")), None), x, None, length=5
        )[0]

    (found,) = costs_of(on_every_device(f), jnp.ones(4), mesh=SIZES).collectives
    assert (found.times, found.bytes) == (5, 5 * 16)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}", [{0, 1}, {2, 3}]),
        ("replica_groups={}", [{0, 1, 2, 3}]),
        ("replica_groups=[2,2]<=[4]", [{0, 1}, {2, 3}]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), use_global_device_ids=true", [{0, 2}, {1, 3}]),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}", [{0, 1}, {2, 3}]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [{0, 2}, {1, 3}]),
        ("replica_groups=mesh['a'=2,'b'=2,'c'=1], device_ids=(0,2,1,3) {'b'}", [{0, 2}, {1, 3}]),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", [{0, 2}, {1, 3}]),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", [{0, 1}, {2, 3}]),
    ],
)
def test_every_form_of_groups_is_read(text, groups):
    assert hlo.device_groups(text, 4) == frozenset(map(frozenset, groups))


TPU = """
HloModule jit_step, is_scheduled=true

%all-reduce-scatter.1 (input: f32[16,64]) -> f32[4,64] {
  %input = f32[16,64]{1,0:T(8,128)S(1)} parameter(0)
  %all-reduce.1 = f32[16,64]{1,0:T(8,128)} all-reduce(%input), channel_id=1, \
replica_groups={{0,1,2,3}}, to_apply=%add.1
  ROOT %slice.1 = f32[4,64]{1,0} dynamic-slice(%all-reduce.1, %zero, %zero), \
dynamic_slice_sizes={4,64}
}

%fused_computation.1 (p: bf16[4,16]) -> (bf16[4,16], bf16[16,16], u32[]) {
  %p = bf16[4,16]{1,0:T(4,128)(2,1)S(1)} parameter(0)
  %all-gather.1 = bf16[16,16]{1,0} all-gather(%p), channel_id=9, replica_groups=[1,4]<=[4], \
dimensions={0}
  ROOT %custom-call.1 = (bf16[4,16]{1,0}, bf16[16,16]{1,0}, \
u32[]{:S(2)}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.1 (p.1: bf16[4,16]) -> bf16[16,16] {
  %p.1 = bf16[4,16]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[16,16]{1,0} all-gather(%p.1), channel_id=9, \
replica_groups=[1,4]<=[4], dimensions={0}
}

%body (t: (s32[], f32[16,64])) -> (s32[], f32[16,64]) {
  %t = (s32[], f32[16,64]{1,0}) parameter(0)
  %x = f32[16,64]{1,0} get-tuple-element(%t), index=1
  %scattered = f32[4,64]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %next = (s32[], f32[16,64]{1,0}) tuple(%n, %x)
}

%condition (c: (s32[], f32[16,64])) -> pred[] {
  %limit = s32[]{:T(128)} constant(6)
  %c = (s32[], f32[16,64]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%n, %limit), direction=LT
}

ENTRY %main (a: bf16[4,16], b: f32[16,64]) -> f32[16,64] {
  %a = bf16[4,16]{1,0:T(4,128)(2,1)} parameter(0)
  %b = f32[16,64]{1,0} parameter(1)
  %copy-start = (bf16[4,16]{1,0:S(1)}, bf16[4,16]{1,0}, u32[]{:S(2)}) copy-start(%a)
  %started = (bf16[4,16]{1,0}, bf16[16,16]{1,0}, u32[]{:S(2)}) fusion(%a), kind=kCustom, \
calls=%fused_computation.1
  %under-way = bf16[16,16]{1,0} fusion(%a), kind=kOutput, calls=%async_collective_fusion.1
  %loop = (s32[], /*index=1*/f32[16,64]{1,0}) while(%first), condition=%condition, body=%body
  ROOT %out = f32[16,64]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_tpus_program_is_read_as_its_compiler_writes_it():
    """A reduce-scatter as a fusion, a loop whose length is in its condition, a message under way in
    several fusions."""
    found = hlo.costs(TPU, {"fsdp": 4})
    assert {(one.kind, one.axes, one.times, one.bytes) for one in found.collectives} == {
        ("reduce-scatter", "fsdp", 6, 6 * 16 * 64 * 4),
        ("all-gather", "fsdp", 1, 16 * 16 * 2),
    }
    assert found.endless == 0


# What is made of it.


def test_the_bound_is_the_slowest_resource_at_its_peak():
    chip = CHIPS["v5e"]
    topology = Topology("v5e:2x2", [None] * 4, chip, chip.memory)
    sent = hlo.Collective("all-gather", "data", 4, 1, 4e9)
    found = roofline(hlo.Costs(197e12, 2 * 819e9, (sent,), 0), topology)
    assert found == pytest.approx({"compute": 1.0, "memory": 2.0, "messages": 3e9 / 200e9})


def a_plan(batch, used, memory=1000.0, state=100.0):
    given = dict.fromkeys(Plan._fields) | {
        "batch": batch,
        "total": used,
        "memory": memory,
        "fits": used <= memory,
    }
    return Plan(**given | {"parameters": state, "optimizer": 0.0, "other": 0.0})


@pytest.mark.parametrize(
    "curve",
    [lambda b: 100 + b, lambda b: 100 + 0.1 * b, lambda b: 90 + 2 * b**1.1, lambda b: 300 + b**0.9],
)
@pytest.mark.parametrize("start", [8, 64, 8000])
def test_the_largest_batch_that_fits_is_found_in_few_tries(curve, start):
    tried = []

    def attempt(batch):
        tried.append(batch)
        return a_plan(batch, curve(batch))

    found = largest(attempt, start, 8)
    fits, fails = (
        max(one.batch for one in found if one.fits),
        min(one.batch for one in found if not one.fits),
    )
    assert fails - fits <= max(8, fits / 16) and not fits % 8 and not fails % 8
    assert len(tried) == len(set(tried)) <= 9


def test_a_compiler_that_does_not_say_how_much_it_needs_is_searched_by_halves():
    found = largest(lambda batch: a_plan(batch, 100 + batch if batch <= 900 else math.inf), 4096, 8)
    assert 850 < max(one.batch for one in found if one.fits) <= 900


def test_where_not_even_the_least_fits_it_says_so():
    with pytest.raises(UserError, match="not even a batch of 8 fits"):
        largest(lambda batch: a_plan(batch, 5000.0), 64, 8)


def test_a_refusal_says_what_it_needs():
    assert (
        refused(
            "RESOURCE_EXHAUSTED: … HLO temporaries (46.27G) exceeds available HBM (15.75G).", 2.0
        )
        == 46.27 * 2**30 + 2
    )
    assert (
        refused(
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.1M of 15.7G hbm.",
            2.0,
        )
        == 20.1 * 2**20
    )
    assert refused("RESOURCE_EXHAUSTED: too much", 2.0) == math.inf
    assert refused("INTERNAL: something else", 2.0) is None


def test_names_that_are_none_are_told():
    for name in ("v5e", "v5e:", "cpu:2x2", "cpu:0", "v9:2x2", "V5E:2x2", "cpu:64"):
        with pytest.raises(UserError, match="topology|generation|devices"):
            open_topologies([name])


def test_without_libtpu_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="requirements-tpu.txt"):
        open_topologies(["v5e:2x4"])


# The verb, as a person gives it.

SMALL = ("--preset", "digits", "--network", "mlp", "--width", "8", "--batch", "16")


@pytest.mark.scale
def test_the_verb_makes_a_table_and_json(verb):
    status, out, _ = verb("gan", "plan", "--topology", "cpu:4", "--batches", "16,32", *SMALL)
    assert status == 0 and out.count("| cpu:4 ") == 2 and "all-reduce over data (4)" in out
    status, out, _ = verb("gan", "plan", "--topology", "cpu:4,cpu:8", *SMALL, "--json")
    plans = json.loads(out)["plans"]
    assert [(one["topology"], one["devices"], one["batch"]) for one in plans] == [
        ("cpu:4", 4, 16),
        ("cpu:8", 8, 16),
    ]
    assert len({one["parameters"] for one in plans}) == 1


@pytest.mark.scale  # compiles a residual network twice
def test_blocks_computed_again_on_a_mesh_cost_one_more_forward_pass_and_no_message_of_activations(
    verb,
):
    flags = [
        "--model",
        "resnet20",
        "--scan",
        "--data",
        "blank:32x32x3:10",
        "--batch",
        "256",
        "--mesh",
        "fsdp=8",
        "--json",
    ]
    kept, again = (
        json.loads(verb("classify", "plan", "--topology", "cpu:8", *flags, "--remat", remat)[1])[
            "plans"
        ][0]
        for remat in ("none", "block_inputs")
    )
    assert 1.2 < again["flops"] / kept["flops"] < 4 / 3
    assert again["temporary"] < 0.7 * kept["temporary"]
    sent = [sum(each["sent"] for each in found["collectives"]) for found in (kept, again)]
    assert sent[1] == pytest.approx(sent[0], rel=0.1), "parameters and gradients alone"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "plan needs --topology"),
        (("--topology", "v7:2x2"), "no topology"),
        (("--topology", "cpu:8", "--batch", "20"), "does not divide over 8"),
        (("--topology", "cpu:8", "--remat", "block_inputs"), "no part of this network is a block"),
        (("--topology", "cpu:8", "--mesh", "data=16"), "needs 16 devices"),
        (("--topology", "cpu:8", "--batches", "8,x"), "--batches"),
        (("--topology", "cpu:8", "--batches", "8,16", "--largest"), "--largest"),
        (("--topology", "cpu:8", "--data", "blank:8x8:10"), "blank:HEIGHTxWIDTHxCHANNELS:CLASSES"),
    ],
)
def test_what_cannot_be_planned_is_told_in_a_line(verb, arguments, said):
    status, out, err = verb("gan", "plan", "--preset", "digits", *arguments)
    assert status == 2 and said in err and len(err.splitlines()) == 1 and not out


def test_made_up_data_looks_like_the_real(load):
    """Shapes and types of a batch of blank digits are those of the digits."""
    module = load("classify")
    config = functools.partial(module.Config, batch=4, model="resnet8")
    real, blank = (module.load(config(data=data)).train(0) for data in ("digits", "blank:8x8x1:10"))
    assert {name: (x.shape, x.dtype) for name, x in real.items()} == {
        name: (x.shape, x.dtype) for name, x in blank.items()
    }


RUN = """
import json, os, re
import jax, numpy as np
from advdl import train
from test_plan import BATCH, learner

def peak():  # of this program; getrusage would begin with that of the process that started it
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

placed = train.place("jit")(learner())
batch = {name: jax.ShapeDtypeStruct((BATCH, n), np.float32) for name, n in (("x", 16), ("y", 8))}
key = jax.random.key(0)
small = {name: np.ones((2, n), np.float32) for name, n in (("x", 16), ("y", 8))}
state = placed.init(key, placed.put(small))
program = placed.step.compile(placed.abstract(key, placed.shapes(batch)), placed.shapes(batch), key)
pages = int(open("/proc/self/statm").read().split()[1])
before, highest = pages * os.sysconf("SC_PAGE_SIZE"), peak()
real = {name: jax.device_put(np.ones(one.shape, one.dtype)) for name, one in batch.items()}
jax.block_until_ready(program(state, real, key))
print(json.dumps({"grew": peak() - before, "new": peak() > highest}))
"""
BATCH = 1 << 19
"""So large that a step takes a gigabyte, beside which what the process holds anyway is little."""


@pytest.mark.scale  # a process of its own, whose memory is measured
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="measures memory through /proc")
def test_memory_lies_between_what_is_held_and_what_was_planned():
    found = planned(BATCH, "jit", devices=1)
    ran = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | USERS | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/scale"},
    )
    measured = json.loads(ran.stdout)
    assert (
        measured["new"]
        and found.parameters + found.optimizer + found.examples
        < measured["grew"]
        < 1.1 * found.total
    )


# Devices that are not there, by libtpu in an environment of its own.

TPU_PYTHON = os.environ.get("ADVDL_TPU_PYTHON") or (
    sys.executable if importlib.util.find_spec("libtpu") else None
)
needs_libtpu = pytest.mark.skipif(
    TPU_PYTHON is None,
    reason=(
        "libtpu is not installed; ADVDL_TPU_PYTHON names the interpreter of an environment with it"
    ),
)


def planned_for_tpu(experiment, *arguments):
    ran = subprocess.run(
        [
            TPU_PYTHON,
            str(ROOT / "experiments" / f"{experiment}.py"),
            "plan",
            *map(str, arguments),
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | USERS,
    )
    assert not ran.returncode, ran.stderr
    return json.loads(ran.stdout)["plans"]


def counted(load, opened, experiment, over=1, **settings):
    """Bytes of the parameters of all players, by their shapes; of a part of so many, where a
    dimension divides."""
    preset = load(experiment).PRESETS["laptop"]  # what the command starts from
    splits, built = opened(experiment, dataclasses.replace(preset, **settings))
    state = jax.eval_shape(built.learner.init, jax.random.key(0), splits.train(0))

    def divides(leaf):
        return any(n % over == 0 for n in leaf.shape)

    leaves = [leaf for player in state.players.values() for leaf in jax.tree.leaves(player.params)]
    return sum(4 * leaf.size // (over if divides(leaf) else 1) for leaf in leaves)


@needs_libtpu
@pytest.mark.scale  # compiles with libtpu, in a process
def test_a_classifier_for_eight_chips(load, opened):
    small, large = planned_for_tpu(
        "classify", "--model", "resnet8", "--topology", "v5e:2x4", "--batches", "512,8192"
    )
    assert (small["chips"], small["hosts"], small["mesh"]["data"]) == (8, 2, 8)
    assert (
        small["parameters"]
        == large["parameters"]
        == counted(load, opened, "classify", model="resnet8")
    )
    assert large["temporary"] > 1.5 * small["temporary"] and large["flops"] == pytest.approx(
        16 * small["flops"], rel=0.02
    )
    assert small["fits"] and small["memory"] == 16 * 2**30 and small["rate"] > 0
    assert {one["axes"] for one in small["collectives"]} == {"data"}


@needs_libtpu
@pytest.mark.scale  # compiles with libtpu, in a process
def test_a_classifier_for_a_pod_of_256(load, opened):
    (found,) = planned_for_tpu(
        "classify", "--model", "resnet8", "--topology", "v5e:16x16", "--batch", 1024
    )
    assert (found["chips"], found["hosts"], found["mesh"]["data"]) == (256, 64, 256)
    assert found["parameters"] == counted(load, opened, "classify", model="resnet8")
    (eight,) = [one for one in found["collectives"] if one["bytes"] > found["parameters"] / 2]
    assert (eight["kind"], eight["axes"], eight["size"]) == ("all-reduce", "data", 256)


@needs_libtpu
@pytest.mark.scale  # compiles with libtpu, in a process
@pytest.mark.parametrize("placement", ["mesh", "pmap"])
def test_the_gan_for_eight_chips(load, opened, placement):
    (found,) = planned_for_tpu(
        "gan", "--topology", "v5e:2x4", "--width", 16, "--placement", placement
    )
    assert found["parameters"] == counted(load, opened, "gan", width=16)
    assert {one["kind"] for one in found["collectives"]} == {"all-reduce"}
    assert sum(one["bytes"] for one in found["collectives"]) >= found["parameters"]


@needs_libtpu
@pytest.mark.scale  # compiles with libtpu, in a process
def test_an_lstm_for_eight_chips_whose_state_is_divided(load, opened):
    """Gradients are scattered once and not at every step in time."""
    (found,) = planned_for_tpu(
        "language",
        "--data",
        "blank:512",
        "--topology",
        "v5e:2x4",
        "--mesh",
        "fsdp=8",
        "--batch",
        64,
    )
    whole, part = (counted(load, opened, "language", over, data="blank:512") for over in (1, 8))
    assert found["parameters"] == part < 1.01 * whole / 8
    assert found["optimizer"] == pytest.approx(2 * part, abs=8)
    scattered = [one for one in found["collectives"] if one["kind"] == "reduce-scatter"]
    assert sum(one["bytes"] for one in scattered) <= whole and all(
        one["times"] < 16 for one in scattered
    )
    assert found["unit"] == "tokens" and not found["endless"]

"""What a step would cost on devices that are not there: compiled for them, and read from the
compiled program.

Nothing is allocated. The roofline takes it that computation, memory and messages overlap perfectly
and each runs at its published peak, so its rate is a bound that no run exceeds, not a forecast.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from advdl.errors import UserError
from advdl.scale import hlo
from advdl.scale.topology import Topology
from advdl.train.learner import Batch, Learner
from advdl.train.placement import AXES, bytes_held, parse_mesh, place

ASSUMPTION = "compute, memory and messages overlap perfectly, each at its published peak"
FINE = 16
"""A largest batch is searched for in steps of about this part of itself."""


class Job(NamedTuple):
    """What is to be planned.

    learner, batch: and the shapes of a batch, over all devices. placement, mesh, rules: as `place`
    takes them. unit: what an example is called, or what it holds, and how many of these.
    """

    learner: Learner
    batch: Batch
    placement: str
    mesh: str = ""
    rules: Sequence[Any] = ()
    unit: tuple[str, float] = ("examples", 1.0)


class Plan(NamedTuple):
    """Of one step; bytes, FLOPs and messages are one device's.

    mesh: axes and their sizes. batch: examples over all devices. parameters, optimizer, other
    (statistics, averages, what is carried), examples: bytes of the state and the batch as they are;
    temporary: of activations and whatever else the program holds for a while; total: of the
    compiled program with its arguments, their layouts' padding included, or what the compiler says
    it would need where it refuses. memory: what the device has. flops, bytes, collectives, endless:
    see `hlo.Costs`.
    seconds: of the roofline by resource, None where there is no published peak. rate: units a
      second, over all devices.
    compile_seconds: tracing included. fits: whether total is within memory and the compiler did not
      refuse.
    """

    topology: str
    chips: int
    hosts: int
    devices: int
    placement: str
    mesh: Mapping[str, int]
    batch: int
    parameters: float
    optimizer: float
    other: float
    examples: float
    memory: float
    unit: str
    temporary: float | None = None
    total: float = 0.0
    fits: bool = False
    flops: float | None = None
    bytes: float | None = None
    collectives: tuple[hlo.Collective, ...] = ()
    endless: int = 0
    seconds: Mapping[str, float] | None = None
    rate: float | None = None
    compile_seconds: float = 0.0


def plan(job: Job, topology: Topology) -> Plan:
    """Compiles the job's step for the topology. Raises UserError where mesh, batch and devices do
    not go together."""
    placed = place(job.placement, job.mesh, job.rules, topology.devices)(job.learner)
    mesh = mesh_of(job, topology)
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = placed.shapes(job.batch)
    state = placed.abstract(key, batch)
    players = state.players.values()
    parameters, optimizer = (
        bytes_held([getattr(one, name) for one in players]) for name in ("params", "optimizer")
    )
    known = Plan(
        topology=topology.name,
        chips=topology.chips,
        hosts=topology.hosts,
        devices=math.prod(mesh.values()),
        placement=job.placement,
        mesh=mesh,
        batch=jax.tree.leaves(job.batch)[0].shape[0],
        parameters=parameters,
        optimizer=optimizer,
        other=bytes_held(state) - parameters - optimizer,
        examples=bytes_held(batch) / (math.prod(mesh.values()) if job.placement == "pmap" else 1),
        memory=topology.memory,
        unit=job.unit[0],
    )
    try:
        program = placed.step.compile(state, batch, key)
    except jax.errors.JaxRuntimeError as error:
        if (needed := refused(str(error), bytes_held(state) + known.examples)) is None:
            raise
        return known._replace(total=needed)
    memory = program.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    total += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    costs = hlo.costs(program.as_text(), mesh)
    seconds, rate = roofline(costs, topology), None
    if seconds:
        rate = known.batch * job.unit[1] / max(seconds.values())
    return known._replace(
        temporary=memory.temp_size_in_bytes,
        total=total,
        fits=total <= topology.memory,
        flops=costs.flops,
        bytes=costs.bytes,
        collectives=costs.collectives,
        endless=costs.endless,
        seconds=seconds,
        rate=rate,
        compile_seconds=placed.step.seconds,
    )


def mesh_of(job: Job, topology: Topology) -> dict[str, int]:
    """The axes that the job lies on, and their sizes."""
    if job.placement == "jit":
        return {"device": 1}
    if job.placement == "pmap":
        return {"replica": len(topology.devices)}
    sizes = parse_mesh(job.mesh) if job.mesh else {"data": len(topology.devices)}
    return {axis: sizes.get(axis, 1) for axis in AXES}


def ways_of(job: Job, topology: Topology) -> int:
    """Over how many devices, or groups of them, the examples are split."""
    return math.prod(size for axis, size in mesh_of(job, topology).items() if axis != "model")


def roofline(costs: hlo.Costs, topology: Topology) -> dict[str, float] | None:
    """Seconds of a step by what they are spent on, at each resource's peak. Messages go out over
    all links at once."""
    if (chip := topology.chip) is None:
        return None
    return {
        "compute": costs.flops * chip.devices / chip.flops,
        "memory": costs.bytes * chip.devices / chip.bandwidth,
        "messages": sum(one.sent for one in costs.collectives)
        * chip.devices
        / (chip.interconnect / 2),
    }


def refused(said: str, arguments: float) -> float | None:
    """Bytes that a program would need beside its arguments, of a compiler's message that they are
    too many; infinite where it does not say, None of another message."""
    if "RESOURCE_EXHAUSTED" not in said:
        return None
    temporary = re.search(r"temporaries \(([0-9.]+)([KMGT]?)\) exceeds", said)
    found = temporary or re.search(r"Used ([0-9.]+)([KMGT]?) of", said)
    if not found:
        return math.inf
    return float(found[1]) * 1024 ** " KMGT".index(found[2] or " ") + (
        arguments if temporary else 0.0
    )


def largest(attempt: Callable[[int], Plan], start: int, unit: int) -> list[Plan]:
    """Plans of the batches that were tried, by size.

    `attempt(batch)` is of multiples of `unit`, beginning near `start`. Bytes grow nearly linearly
    with the batch, from those of the state alone, so the next try is where the line through the
    nearest two meets the memory; it ends where the largest that fits and the smallest that does not
    are a FINE-th apart. Raises UserError where not even `unit` fits.
    """
    tried: dict[int, Plan] = {}
    low, high, batch = 0, math.inf, max(unit, start // unit * unit)
    while True:
        tried[batch] = attempt(batch)
        if tried[batch].fits:
            low = batch
        else:
            high = batch
        fine = max(unit, low // FINE // unit * unit)
        if high - low <= fine:
            break
        batch = int(
            min(max(_guess(tried) // unit * unit, low + fine), high - fine, 8 * max(low, unit))
        )
    if not low:
        need, have = tried[unit].total / 2**30, tried[unit].memory / 2**30
        raise UserError(f"not even a batch of {unit} fits: it needs {need:.4g} GiB of {have:.4g}")
    return [tried[batch] for batch in sorted(tried)]


def _guess(tried: Mapping[int, Plan]) -> int:
    """The batch with which memory would be full, by what is known nearest to it."""
    one = next(iter(tried.values()))
    known = {0: one.parameters + one.optimizer + one.other} | {
        batch: one.total for batch, one in tried.items()
    }
    points = sorted(
        (abs(total - one.memory), batch, total)
        for batch, total in known.items()
        if math.isfinite(total)
    )[:2]
    if len(points) < 2 or points[0][2] == points[1][2]:
        return 2 * max(tried) if one.fits else min(tried) // 2
    (_, a, used_a), (_, b, used_b) = points
    return int(a + (one.memory - used_a) * (b - a) / (used_b - used_a))

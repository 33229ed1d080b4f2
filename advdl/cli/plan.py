"""plan: what a step would cost on devices that are not there, for several topologies and batch
sizes in one table."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from advdl import data, train
from advdl.cli.config import Config, check, parse_units
from advdl.cli.experiment import Build, Load, shape_on_device, spec_of
from advdl.cli.parse import given
from advdl.cli.progress import log
from advdl.errors import UserError
from advdl.scale.plan import ASSUMPTION, Job, Plan, largest, plan, ways_of
from advdl.scale.topology import Topology, open_topologies

FEW = 16
"""Examples that are read to see their shapes, or a few more."""


@dataclasses.dataclass(frozen=True)
class Planning:
    """Settings of `plan` beside those of an experiment."""

    topology: str = ""
    """Devices to plan for, one or more: v5e:16x16, a slice of that generation and shape, or cpu:8,
    so many CPU devices."""
    batches: str = ""
    """Batch sizes to plan for, as 64,128, over all devices (default: --batch)."""
    largest: bool = False
    """Search the largest batch that fits, from --batch on."""


def with_planning(config: Config) -> Config:
    """The experiment's settings and those of `plan`: on a mesh of all devices, and one step a call,
    unless told otherwise."""
    kind = type(config)
    both = dataclasses.make_dataclass(kind.__name__, [], bases=(kind, Planning), frozen=True)
    return both(**dataclasses.asdict(config) | {"placement": "mesh", "steps_per_call": 1})


def start(arguments: Sequence[str]) -> list[Topology]:
    """The topologies that are asked for; before anything else, since JAX's backends start with so
    many devices."""
    if not (names := given(arguments, "topology")):
        raise UserError("plan needs --topology, as v5e:16x16 or cpu:8; several as v5e:2x4,v5e:4x4")
    return open_topologies([name.strip() for name in names.split(",")])


def run_plan(
    config: Any, topologies: Sequence[Topology], load: Load, build: Build, stored: Any = None
) -> list[Plan]:
    """Compiles a step for each topology and each batch, in turn; or for those that the search of
    the largest tries.

    stored: the content of a run's `spec.json`, with which no data is opened. Raises UserError where
    mesh, batch and devices do not go together.
    """
    batches = parse_batches(config.batches) or [config.batch]
    if config.largest and len(batches) > 1:
        raise UserError(
            f"--largest searches from one batch on, and --batches are {config.batches}; leave one"
            " of them out"
        )
    spec, shapes, unit = _known(config, load, build, stored)

    def job(batch: int) -> Job:
        """The step for batches of this size."""
        own = dataclasses.replace(config, batch=batch)
        check(own)
        experiment = build(own, spec)
        whole = data.batch_of(shapes, batch * own.steps_per_call, shape_on_device)
        learner = train.multi_step(experiment.learner, own.steps_per_call)
        return Job(learner, whole, own.placement, own.mesh, experiment.rules, unit)

    found: list[Plan] = []
    for topology in topologies:

        def attempt(batch: int, topology: Topology = topology) -> Plan:
            one = plan(job(batch), topology)
            log(
                f"{topology.name}, batch {batch}: {'fits' if one.fits else 'does not fit'},"
                f" {one.total / 2**30:.3g} GiB"
            )
            return one

        if config.largest:
            step = ways_of(job(config.batch), topology) * config.accumulate
            found += largest(attempt, batches[0], step)
        else:
            found += map(attempt, batches)
    return found


def _known(config: Any, load: Load, build: Build, stored: Any) -> tuple[Any, Any, Any]:
    """The spec; the shapes of a batch; and what an example holds, its name and how many. Without a
    stored spec a small batch is read; of batches of several shapes, the longest."""
    if stored is not None and "batch" in stored:
        return spec_of(build, stored), stored["batch"], ("examples", 1.0)
    size = config.accumulate * -(-min(config.batch, FEW) // config.accumulate)
    small = dataclasses.replace(config, batch=size)
    splits = load(small)
    longest = getattr(splits.train, "longest", None)
    batch = splits.train(0) if longest is None else longest()
    units = build(small, splits.spec).units(batch)
    counted = [(name, float(count) / size) for name, count in units.items()]
    shapes = data.shapes_of(batch, size)
    return splits.spec, shapes, next(iter(counted), ("examples", 1.0))


def parse_batches(text: str) -> list[int]:
    """`"64,128"` -> [64, 128]. Raises UserError."""
    return list(parse_units(text, "--batches", example="64,128")) if text else []


def as_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """All figures, in bytes, FLOPs and seconds."""
    return {
        "assumption": ASSUMPTION,
        "plans": [
            one._asdict()
            | {"collectives": [each._asdict() | {"sent": each.sent} for each in one.collectives]}
            for one in plans
        ],
    }


def show(plans: Sequence[Plan]) -> None:
    """A row for each; of a single one, or of the largest that fits, also what is sent."""
    table = Table(box=box.MARKDOWN)
    columns = [
        "topology",
        "chips",
        "hosts",
        "mesh",
        "batch",
        "parameters",
        "optimizer",
        "other state",
        "examples",
        "activations",
        "total",
        "memory",
        "fits",
        "GFLOP",
        "moved",
        "sent",
        "bound ms",
        "by",
        "units/s at most",
        "compile s",
    ]
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in ("topology", "mesh", "fits", "by") else "right",
            no_wrap=True,
        )
    for one in plans:
        table.add_row(*_row(one))
    unit = plans[0].unit
    console = Console(width=400, soft_wrap=True)
    console.print(table)
    console.print(
        "bytes, FLOPs, moved (main memory) and sent (other chips) are of one device and one step;"
        f" the bound takes it that {ASSUMPTION}; units are {unit}"
    )
    detailed = [one for one in plans if one.fits][-1:] if len(plans) > 1 else plans
    for one in detailed:
        for each in one.collectives:
            console.print(
                f"{one.topology} batch {one.batch}: {each.kind} over {each.axes} ({each.size}),"
                f" {each.times} times, {bytes_(each.bytes)}"
            )
        if one.endless:
            console.print(f"{one.endless} loops are of no known length and counted as one turn")


def _row(one: Plan) -> list[str]:
    mesh = (
        ",".join(f"{axis}={size}" for axis, size in one.mesh.items() if size > 1)
        or next(iter(one.mesh)) + "=1"
    )
    seconds, known = one.seconds or {}, one.flops is not None
    bound = max(seconds, key=lambda resource: seconds[resource], default="")
    sent = sum(each.sent for each in one.collectives)
    return [
        one.topology,
        str(one.chips),
        str(one.hosts),
        mesh,
        str(one.batch),
        bytes_(one.parameters),
        bytes_(one.optimizer),
        bytes_(one.other),
        bytes_(one.examples),
        bytes_(one.temporary),
        bytes_(one.total),
        bytes_(one.memory),
        "yes" if one.fits else "no",
        "" if one.flops is None else f"{one.flops / 1e9:.4g}",
        bytes_(one.bytes),
        bytes_(sent if known else None),
        f"{seconds[bound] * 1e3:.3g}" if bound else "",
        bound,
        f"{one.rate:.3g}" if one.rate else "",
        f"{one.compile_seconds:.1f}" if known else "",
    ]


def bytes_(count: float | None) -> str:
    """Three digits and a binary unit; nothing for None."""
    if count is None:
        return ""
    if not math.isfinite(count):
        return "too much"
    power = min(3, int(math.log2(max(count, 1)) // 10))
    return f"{count / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"

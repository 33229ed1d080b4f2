"""Devices by name: those of a TPU slice that is not there, or simulated ones on this CPU."""

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

from advdl.errors import UserError, nearest
from advdl.memory import host_memory
from advdl.ranges import Range, whole_number
from advdl.scale.chips import CHIPS, Chip
from advdl.train.placement import Device

KNOWN = (*CHIPS, "cpu")
CPUS = Range(1, 4096, "[]")
FORM = re.compile(r"([a-z0-9]+):(\d+(?:x\d+)*)")
ALONE = {
    # It would keep to one process a machine, for the sake of devices that are not used here.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",  # the library would ask the cloud which machine this is
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}


class Topology(NamedTuple):
    """Devices to compile for.

    name: as it was asked for. devices: those that a mesh is made of. chip: None for a CPU, of which
      no peak is published.
    memory: bytes that each device has.
    """

    name: str
    devices: Sequence[Device]
    chip: Chip | None
    memory: float

    @property
    def hosts(self) -> int:
        """Machines that the devices are in."""
        return len({device.process_index for device in self.devices})

    @property
    def chips(self) -> int:
        """Chips that they are on."""
        return len(self.devices) // (self.chip.devices if self.chip else 1)


def open_topologies(names: Sequence[str]) -> list[Topology]:
    """What was named: `v5e:16x16`, a slice of that generation and shape, or `cpu:8`, so many
    devices on this machine's CPU.

    Must come before JAX has started its backends, or the CPU has no more devices than it was
    started with. Nothing is taken from an accelerator that this machine has. Raises UserError for a
    name that is none, a shape that the generation does not come in, more CPU devices than there can
    be, and where libtpu is not installed.
    """
    found = []
    for name in names:
        if not (match := FORM.fullmatch(name)):
            raise UserError(
                f"--topology {name!r}; expected a generation and a shape, as v5e:16x16, or cpu:8"
            )
        if match[1] not in KNOWN:
            raise UserError(
                f"no topology {name!r}; the generations are"
                f" {', '.join(KNOWN)}{nearest(match[1], KNOWN)}"
            )
        if match[1] == "cpu" and whole_number(match[2], CPUS) is None:
            raise UserError(f"--topology {name!r}; expected {CPUS} devices, as cpu:8")
        found.append((name, match[1], match[2]))
    devices = _host_devices(
        max([int(shape) for _, kind, shape in found if kind == "cpu"], default=1)
    )
    return [
        (
            Topology(name, devices[: int(shape)], None, host_memory() / int(shape))
            if kind == "cpu"
            else _slice(name, kind, shape)
        )
        for name, kind, shape in found
    ]


def _host_devices(count: int) -> Sequence[Device]:
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # the backends run already: then they must have enough
        pass
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(
            f"--topology cpu:{count} asks for more than the {len(devices)} devices JAX was started"
            " with here"
        )
    return devices


def _slice(name: str, kind: str, shape: str) -> Topology:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"to compile for {name} needs libtpu: pip install -r requirements-tpu.txt (on any Linux"
            " machine)"
        )
    from jax.experimental import topologies

    # The programs never run here, and the seconds are to be true.
    jax.config.update("jax_enable_compilation_cache", False)
    for variable, value in ALONE.items():
        os.environ.setdefault(variable, value)
    chip = CHIPS[kind]
    try:
        devices = topologies.get_topology_desc(f"{chip.name}:{shape}", platform="tpu").devices
    except jax.errors.JaxRuntimeError as error:
        said = str(error).partition("\n")[0].partition(": ")[2]
        raise UserError(
            f"no topology {name!r} ({said}); shapes are as v5e:2x4, v5e:16x16, v5p:2x2x2, v6e:4x4"
        ) from None
    return Topology(name, devices, chip, chip.memory / chip.devices)

"""What fits in memory, known before anything is allocated."""

import os
import pathlib

from advdl.errors import UserError

CGROUP = pathlib.Path("/sys/fs/cgroup/memory.max")


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container that the process runs in."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return physical


def check_fits(needed: float, what: str, advice: str, memory: float | None = None) -> None:
    """Raises UserError where `what` takes more bytes than there are. memory: those that there are
    (default: of this machine)."""
    memory = host_memory() if memory is None else memory
    if needed > memory:
        raise UserError(
            f"{what} needs {needed / 2**30:,.4g} GiB of memory, and there are"
            f" {memory / 2**30:,.4g}; {advice}"
        )

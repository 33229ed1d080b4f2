"""How a process holds its memory between steps."""

import ctypes
import sys


def keep_memory() -> None:
    """On Linux, large blocks of host memory stay with the process; call it before the first array
    is made.

    The C library would map them afresh for every step and the system fill them with zeros: a fifth
    of the time of a ResNet-20 step on two cores. The options are those of mallopt(3): M_MMAP_MAX,
    M_TRIM_THRESHOLD, M_ARENA_MAX.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):
            mallopt(option, value)

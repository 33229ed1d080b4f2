"""What an accelerator has, by generation: memory and the peaks that a roofline is made of.

As published on cloud.google.com/tpu/docs/v4, v5e, v5p and v6e; the interconnect of v4 is that of
Jouppi et al. 2023 (arXiv:2304.01433), six links of 50 GB/s each way. A TPU multiplies bfloat16; at
JAX's default precision float32 matrix products and convolutions take one such pass, so one peak
holds for both.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Chip(NamedTuple):
    """A whole chip.

    name: as libtpu knows the generation. memory: bytes of HBM. flops: peak of bfloat16 products,
    1/s. bandwidth: bytes/s of HBM. interconnect: bytes/s to other chips, both ways together.
    devices: how many devices JAX sees in one; they share all this.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    interconnect: float
    devices: int = 1


GIB = 2**30
CHIPS: Mapping[str, Chip] = {
    "v4": Chip("v4", 32 * GIB, 275e12, 1200e9, 600e9, devices=2),
    "v5e": Chip("v5e", 16 * GIB, 197e12, 819e9, 400e9),
    "v5p": Chip("v5p", 95 * GIB, 459e12, 2765e9, 1200e9),
    "v6e": Chip("v6e", 32 * GIB, 918e12, 1638e9, 800e9),
}

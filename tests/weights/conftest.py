"""What the comparisons with torchvision share."""

import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def torchvision_operators():
    """torchvision's wheels for CUDA do not find their operators on a machine without; its networks
    need none of them.

    Where it does find them, to have declared them before aborts the process: so another process
    tries first.
    """
    torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
    if subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode:
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )

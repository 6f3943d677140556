"""Where the tests of Triton kernels run: on a GPU, or interpreted on the CPU where Triton is installed."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import pytest
import torch


def triton_device() -> str:
    """Return ``cuda``, or ``cpu`` with kernels interpreted; to be called before Triton is imported.

    The module that calls it is skipped where there is no Triton, or one that was imported to compile.
    """
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed", allow_module_level=True)
    if torch.cuda.is_available():
        return "cuda"
    if "triton" in sys.modules and not os.environ.get("TRITON_INTERPRET"):
        pytest.skip("Triton is imported already, to compile", allow_module_level=True)
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
    return "cpu"

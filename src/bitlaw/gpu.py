"""Whether kernels for GPUs can be compiled here."""

from __future__ import annotations

from functools import cache
from typing import Final

LEAST_TRITON: Final = (3, 3)
"""Of older ones the compiler refuses the kernels; torch comes with a newer one since 2.7."""


@cache
def triton_version() -> str | None:
    """Return the version of Triton, or ``None`` where there is none."""
    try:
        import triton  # type: ignore[import-not-found]
    except ImportError:
        return None
    return str(triton.__version__)


def has_triton() -> bool:
    """Return whether there is a Triton that compiles the kernels; without, plain torch gives the same results."""
    version = triton_version()
    return version is not None and tuple(int(part) for part in version.split(".")[:2]) >= LEAST_TRITON

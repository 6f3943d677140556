"""The compiler of the kernels for CPUs."""

from __future__ import annotations

import warnings

from bitlaw.doctor.base import Finding


def check(root: str | None) -> list[Finding]:
    """Return whether the kernels are compiled; at the first time that takes seconds."""
    from bitlaw.formats.kernels import cpu

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = cpu.shared_library() is not None
    if there:
        return [Finding("kernels", "ok", "compiled for this processor")]
    why = " ".join(str(said[-1].message).split())[:200] if said else "none for this processor"
    fix = "install g++ or clang++ or set CXX, and BITLAW_CACHE if the cache cannot be written to; docs/speed.md"
    return [Finding("kernels", "warn", f"{why}; results are the same", fix)]


CHECK = check

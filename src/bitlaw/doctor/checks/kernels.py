"""The compilers of the kernels, for CPUs and for GPUs."""

from __future__ import annotations

import warnings

from bitlaw.doctor.base import Finding


def check(root: str | None) -> list[Finding]:
    """Return whether the kernels are compiled, on a CPU, which takes seconds at the first time, and on GPUs."""
    return [_on_cpu(), *_on_gpus()]


def _on_gpus() -> list[Finding]:
    from torch import cuda

    from bitlaw.gpu import LEAST_TRITON, has_triton, triton_version

    if not cuda.is_available():
        return []
    version = triton_version()
    if has_triton():
        return [Finding("gpu kernels", "ok", f"compiled by Triton {version}")]
    least = ".".join(str(part) for part in LEAST_TRITON)
    says = "there is no Triton" if version is None else f"Triton {version} is too old to compile them"
    fix = f"install Triton {least} or newer, which comes with torch 2.7"
    return [Finding("gpu kernels", "warn", f"{says}; rounding is slower, results are the same", fix)]


def _on_cpu() -> Finding:
    from bitlaw.formats.kernels import cpu

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = cpu.shared_library() is not None
    if there:
        return Finding("kernels", "ok", "compiled for this processor")
    why = " ".join(str(said[-1].message).split())[:200] if said else "none for this processor"
    fix = "install g++ or clang++ or set CXX, and BITLAW_CACHE if the cache cannot be written to; docs/speed.md"
    return Finding("kernels", "warn", f"{why}; results are the same", fix)


CHECK = check

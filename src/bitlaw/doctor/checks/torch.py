"""torch, and the GPU that it sees."""

from __future__ import annotations

import shutil

from bitlaw.doctor.base import Finding, package

ROOM = 2**30
"""Free bytes of a GPU below which a warning is due."""


def check(root: str | None) -> list[Finding]:
    """Return whether torch can be imported, and what it computes on."""
    found = package("torch", "fail", "nothing is computed without it", "pip install torch")
    if found.level == "fail":
        return [found]
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it links to may be missing or of another version
        said = f"cannot be imported: {' '.join(str(error).split())}"
        return [Finding("torch", "fail", said, "pip install --force-reinstall torch")]
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)}"
    found = Finding("torch", "ok", f"{torch.__version__}, {threads}")
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi") is None:
            return [found, Finding("gpu", "warn", "none; the CPU computes, which is slow beyond 1 B parameters")]
        if torch.version.cuda is None:
            says = f"this machine has NVIDIA's driver, but torch {torch.__version__} is built without CUDA"
            return [
                found,
                Finding("gpu", "warn", says, "install a CUDA build of torch: pytorch.org/get-started/locally"),
            ]
        says = f"NVIDIA's driver is there, but torch (CUDA {torch.version.cuda}) sees no GPU"
        return [
            found,
            Finding("gpu", "warn", says, "see what nvidia-smi says; the driver may be too old for this CUDA"),
        ]
    gpus = []
    for at in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(at)
        level = "ok" if free >= ROOM else "warn"
        says = f"{torch.cuda.get_device_name(at)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        fix = "" if free >= ROOM else "end what holds its memory; nvidia-smi names it"
        gpus.append(Finding(f"gpu {at}", "ok" if level == "ok" else "warn", says, fix))
    return [found, *gpus]


CHECK = check

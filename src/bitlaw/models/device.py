"""Where a model is computed, and whether there is room for it."""

from __future__ import annotations

import os
from pathlib import Path

from bitlaw.errors import UserError

_MEMINFO = Path("/proc/meminfo")
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def resolve(device: str) -> str:
    """Return the device that ``device`` means on this machine: for ``auto``, ``cuda`` if there is a GPU, else ``cpu``.

    Raises:
        UserError: a GPU is asked for and torch sees none.
    """
    import torch

    seen = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if seen else "cpu"
    if device.startswith("cuda") and not seen:
        raise UserError(f"device: {device}, but torch {torch.__version__} sees no GPU here; 'auto' takes what there is")
    return device


def name_of(device: str) -> str:
    """Return what ``device`` is on this machine, such as ``NVIDIA H200`` or ``cpu``; recorded with each result."""
    import torch

    resolved = resolve(device)
    return torch.cuda.get_device_name(resolved) if resolved.startswith("cuda") else resolved


def free_bytes(device: str) -> int | None:
    """Return the bytes that a process may still take on ``device``, as it was resolved; null where nothing tells."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for itself and does not use is free too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if not _MEMINFO.is_file():
        return None
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text("ascii").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    if _LIMIT.is_file() and (limit := _LIMIT.read_text("ascii").strip()).isdigit():
        free = min(free, int(limit) - int(_USED.read_text("ascii")))
    return free


def check_room(needed: int, device: str, what: str) -> None:
    """Raise ``UserError`` if ``device``, as it was resolved, has less than ``needed`` bytes for ``what``."""
    free = free_bytes(device)
    if free is not None and free < needed:
        place = "GPU" if device.startswith("cuda") else "machine"
        raise UserError(f"does not fit: {what} needs {_size(needed)}, and the {place} has {_size(free)} free")


def no_memory(error: BaseException) -> UserError | None:
    """Return what to tell the user if ``error`` says that memory ran out, else null; give unused memory back."""
    import torch

    on_gpu = isinstance(error, torch.OutOfMemoryError)
    # On the CPU torch raises an ordinary error with this text.
    on_cpu = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    if not (on_gpu or on_cpu):
        return None
    if on_gpu:
        torch.cuda.empty_cache()
    asked = str(error).split(". ")[0].split("DefaultCPUAllocator: ")[-1].splitlines()[0] if str(error) else "no room"
    free = free_bytes("cuda" if on_gpu else "cpu")
    left = f"; {_size(free)} are free now" if free is not None else ""
    place = "GPU" if on_gpu else f"machine, process {os.getpid()}"
    return UserError(f"out of memory ({place}): {asked}{left}; a smaller batch or window, or another dtype, needs less")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"

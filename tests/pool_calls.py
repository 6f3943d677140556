"""Calling a pool of workers, and looking at its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bitlaw import pool
from bitlaw.pool.server import Watched

HERE = Path(__file__).parent / "unit" / "pool"
SOURCE = Path(pool.__file__).resolve().parents[2]
CLIENT = SOURCE / "bitlaw" / "pool" / "client.py"

Start = Callable[..., str]


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Wait for ``condition``; return whether it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def alive(pid: int) -> bool:
    """Return whether process ``pid`` runs (a zombie does not)."""
    return not Watched(pid).ended()


def server_pid(address: str) -> int:
    return int(Path(address).with_name("pid").read_text())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(CLIENT), *arguments]


def environment(address: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BITLAW_", "HF_"))}
    return {**kept, "BITLAW_POOL": address, **more}


def call(address: str, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(address, **more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def spawn(address: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        env=environment(address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def hang(address: str, tmp_path: Path, name: str = "hangs") -> tuple[subprocess.Popen[str], int, int]:
    """Start a job that never ends; return its client and the ids of its worker and of the worker's child."""
    file = tmp_path / name
    client = spawn(address, "hang", str(file))
    assert until(file.exists)
    worker, child = json.loads(file.read_text())
    return client, worker, child

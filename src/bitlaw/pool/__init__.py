"""A pool of warm workers: processes that keep torch and recent models in memory between the jobs of one run.

A worker is only a cache. The command of a job is the same with and without a pool (``client.py``), and so is its value.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bitlaw.errors import UserError

TARGET = "bitlaw.cli.main:main"
PRELOAD = (
    "torch",
    "safetensors.torch",
    "transformers:PreTrainedModel",
    "transformers:AutoModelForCausalLM",
    "transformers:AutoTokenizer",
)
"""What the server imports before it forks. Nothing here may start a thread (pandas and pyarrow do)."""

_LONGEST_ADDRESS = 100  # bytes; the systems' limits are 104 to 108
_servers: dict[str, subprocess.Popen[bytes]] = {}


def start(
    workers: int,
    watch: int,
    folder: Path,
    *,
    target: str = TARGET,
    preload: tuple[str, ...] = PRELOAD,
    idle: float = 900.0,
) -> str:
    """Start a pool in the background and return the path of its socket, the value for ``BITLAW_POOL``.

    Returns as soon as the pool takes requests; they wait until it has imported its libraries.

    Args:
        workers: how many jobs it runs at once.
        watch: process id of the run; the pool ends when that process does.
        folder: where to write its log, ``pool.log``.
        target: ``module:function`` that takes the list of arguments and returns the exit code.
        preload: modules, or ``module:attribute``, to import before the workers are forked.
        idle: seconds without work after which it ends.

    Raises:
        UserError: it did not start; the message holds the end of its log.
    """
    address = _address()
    options = {"socket": address, "workers": workers, "watch": watch, "idle": idle, "target": target}
    command = [sys.executable, "-m", "bitlaw.pool.server", f"--preload={','.join(preload)}"]
    command += [f"--{name}={value}" for name, value in options.items()]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pool.log").open("ab") as log:
        begin = log.tell()
        server = subprocess.Popen(  # noqa: S603  (this interpreter, this package)
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not listens(address):
        if server.poll() is not None:
            shutil.rmtree(Path(address).parent, ignore_errors=True)
            said = (folder / "pool.log").read_bytes()[begin:].decode("utf-8", "replace").strip()
            raise UserError(f"the pool of workers did not start: {said[-500:]}", place=str(folder / "pool.log"))
        time.sleep(0.01)
    _servers[address] = server
    return address


def stop(address: str) -> None:
    """End the pool at ``address`` and all its workers, whatever they do; return when they are gone.

    A pool that is already gone is no error.
    """
    server = _servers.pop(address, None)
    if server is not None:
        server.terminate()
        server.wait()
        shutil.rmtree(Path(address).parent, ignore_errors=True)  # it does so itself, unless it was killed
    elif listens(address):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            os.kill(int(Path(address).with_name("pid").read_text("ascii")), signal.SIGTERM)
    while listens(address):
        time.sleep(0.01)


def listens(address: str) -> bool:
    """Return whether a pool takes requests at ``address``."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


def _address() -> str:
    """Return a path for a socket in a new folder that only this user can enter."""
    address = Path(tempfile.mkdtemp(prefix="bitlaw-"), "socket")
    if len(os.fsencode(address)) > _LONGEST_ADDRESS:
        address.parent.rmdir()
        address = Path(tempfile.mkdtemp(prefix="bitlaw-", dir="/tmp"), "socket")
    return str(address)

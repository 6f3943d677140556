"""Gets a run past the lock that Snakemake leaves in ``.snakemake/locks`` when it is killed.

Snakemake's lock is a file, and nothing in it says whether its owner lives. So each run also holds a lock of the
operating system, which ends with the process: if nobody holds it, the files are left over and can go. Two studies may
run at once in one folder, so runs share it, and only who gets it alone cleans up.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
from io import TextIOWrapper
from pathlib import Path


def hold(root: Path) -> TextIOWrapper | None:
    """Take a share of the lock ``.bitlaw/run.lock``, after removing locks of Snakemake that nobody holds any more.

    A lock of another machine is left alone, for not every shared file system tells whether it is held: then one line
    says how to remove it.

    Args:
        root: the folder that Snakemake works in.

    Returns:
        The open file, to be kept until the run is over; null where files can not be locked.
    """
    path, locks = root / ".bitlaw" / "run.lock", root / ".snakemake" / "locks"
    try:
        path.parent.mkdir(exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError:
        return None  # a folder that cannot be written to; Snakemake says so
    try:
        if _alone(file):
            _clean(file, locks)
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        file.close()
        return None  # this file system has no locks; Snakemake's own have to do
    file.write(f"{socket.gethostname()}\n")
    file.flush()
    return file


def _alone(file: TextIOWrapper) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clean(file: TextIOWrapper, locks: Path) -> None:
    """Remove what is in ``locks`` if all runs since it was last empty were on this machine."""
    file.seek(0)
    hosts = set(file.read().split())
    left = locks.is_dir() and any(locks.iterdir())
    if left and hosts != {socket.gethostname()}:
        where = ", ".join(sorted(hosts - {socket.gethostname()})) or "an unknown machine"
        print(
            f"bitlaw: .snakemake/locks has the lock of a run on {where}; "
            "if no run is going on there, remove it with `snakemake --unlock`",
            file=sys.stderr,
        )
        return
    if left:
        shutil.rmtree(locks)
        locks.mkdir()
        print("bitlaw: removed the lock of a run that was killed", file=sys.stderr)
    os.ftruncate(file.fileno(), 0)

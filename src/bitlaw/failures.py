"""What a run could not make, told at its end: the error's line, where the log is, how to try again, what waits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

SHOWN = 20
"""Failures told one by one; the rest is counted."""

Orders = Mapping[str, Mapping[str, Any]]
_NAMED = re.compile(r"^bitlaw: failed: (\S+): (.*)$", re.M)  # in the log of a job that makes several artifacts


class Failure(NamedTuple):
    """Why an artifact could not be made, in one line, and the log that says more."""

    reason: str
    log: str


def log_of(path: str) -> str:
    """Return where the log of the job that makes the artifact ``path`` is: named as the artifact, under ``logs/``."""
    return str(PurePosixPath("logs", *PurePosixPath(path).parts[1:]).with_suffix(".log"))


def read_failures(orders: Orders, root: Path, since: float) -> dict[str, Failure]:
    """Return the artifacts that a run tried to make and could not.

    Args:
        orders: of all artifacts that the run was to make.
        root: the project folder.
        since: time stamp of the run's beginning; a log that is older is another run's.
    """
    found: dict[str, Failure] = {}
    for shared in (root / "logs" / "chunk").rglob("*.log"):
        if shared.stat().st_mtime >= since:
            log = str(shared.relative_to(root))
            found |= {path: Failure(why, log) for path, why in _NAMED.findall(shared.read_text("utf-8", "replace"))}
    for path in orders:
        own = root / log_of(path)
        if own.is_file() and own.stat().st_mtime >= since:
            found[path] = Failure(last_line(own.read_text("utf-8", "replace")), log_of(path))
    return {
        path: found[path]
        for path, order in orders.items()
        if path in found and not (root / path).exists() and not _waits(order, root)
    }


def last_line(log: str) -> str:
    """Return the line of a log that says what was wrong: its last one that is not empty."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return re.sub(r"^bitlaw: ", "", lines[-1]) if lines else "it ended without a word: killed, or out of memory or time"


def summary(orders: Orders, failed: Mapping[str, Failure], root: Path, again: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines that tell what failed, how to try it again, and what waits for it.

    Args:
        orders: as for ``read_failures``.
        failed: why, by path.
        root: the project folder.
        again: the command that makes one artifact.
    """
    if failed:
        yield f"bitlaw: {_count(len(failed), 'artifact')} failed:"
    for path, (reason, log) in list(failed.items())[:SHOWN]:
        yield f"  {path}"
        yield f"    {reason.removeprefix(f'{path}: ')}"
        yield f"    log:   {log}"
        yield f"    again: {again(path)}"
    if len(failed) > SHOWN:
        yield f"  and {len(failed) - SHOWN} more; their logs are under logs/"
    blocked = _blocked(orders, failed)
    yield from _waiting(orders, blocked)
    if left := sum(1 for path in orders if path not in blocked and not (root / path).exists()):
        yield f"bitlaw: {_count(left, 'more artifact')} not made: stopped before their turn, or lost by the cluster"


def _waiting(orders: Orders, blocked: set[str]) -> Iterator[str]:
    """Yield what the table waits for, by model and method, and how to do without it."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for order in orders.values():
        if order["stage"] == "table":
            for cell, row in zip(order["inputs"]["cells"], order["spec"]["rows"], strict=True):
                if cell in blocked:
                    pairs.setdefault((row["model"], row["method"]), []).append(row["format"])
    if not pairs:
        return
    yield f"bitlaw: the table, the laws and the report wait for {_count(sum(map(len, pairs.values())), 'cell')}:"
    for (model, method), formats in list(pairs.items())[:SHOWN]:
        yield f"  {model} {'unquantized' if method == 'none' else f'by {method}'}: {', '.join(formats)}"
    if len(pairs) > SHOWN:
        yield f"  and {len(pairs) - SHOWN} more models and methods"
    models, methods = sorted({model for model, _ in pairs}), sorted({method for _, method in pairs} - {"none"})
    less = f"{', '.join(models)} out of 'models'"
    if methods and not any(method == "none" for _, method in pairs):
        less += f", or {', '.join(methods)} out of 'methods',"
    yield f"bitlaw: mend this and run again, what is made is kept; or do without: take {less} of the study"


def _blocked(orders: Orders, failed: Mapping[str, Failure]) -> set[str]:
    """Return what failed and all that is made from it."""
    blocked = set(failed)
    for path, order in orders.items():  # parents come first
        if any(parent in blocked for group in order["inputs"].values() for parent in group):
            blocked.add(path)
    return blocked


def _waits(order: Mapping[str, Any], root: Path) -> bool:
    return any(not (root / parent).exists() for group in order["inputs"].values() for parent in group)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

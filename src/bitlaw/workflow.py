"""What the Snakefile asks: which artifacts are missing, what each waits for, and the command that makes one.

The main process plans and writes the plan to a file; a job that Snakemake runs in a process of its own (on a
cluster) reads that file instead of planning anew, because the store changes while the run goes on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from bitlaw.errors import UserError, unknown
from bitlaw.failures import read_failures, summary
from bitlaw.pool import start, stop
from bitlaw.resources import BASE_MB, mem_mb, runtime
from bitlaw.study import chunks
from bitlaw.study.grid import expand
from bitlaw.study.load import load_study
from bitlaw.study.plan import FINAL, Plan, present, read_orders
from bitlaw.study.publish import FIGURES, publish

_PLAN = "BITLAW_PLAN"
_CONFIG = ("study", "scale", "phase", "chunk")
CHUNKS = ".bitlaw/chunks"


class Workflow:
    """The part of a run that Snakemake does not know.

    Attributes:
        orders: orders of the missing artifacts, by path.
        plan_file: the file that holds them.
    """

    def __init__(self, root: Path, config: Mapping[str, Any], *, main: bool) -> None:
        """Plan the study of ``root``, or read the plan of the run that this job belongs to.

        Args:
            root: the project folder.
            config: Snakemake's; ``study`` and ``scale`` select others than ``params.yaml`` does, the ``phase``
                ``measure`` leaves out the table, the laws and the report, ``chunk`` says how many rows of the grid a
                job makes (0: one job an artifact).
            main: whether this is Snakemake's main process.

        Raises:
            UserError: see ``load_study`` and ``expand``; a ``config`` that is none.
        """
        self.root = root
        self._chosen = {name: str(config[name]) for name in ("study", "scale") if config.get(name)}
        self._pool: str | None = None
        self._plan: Plan | None = None
        self._phase, size = _checked(config)
        old = set((root / CHUNKS).glob("*/*/*.done")) if main else set()
        if main:
            loaded = load_study(root, self._chosen.get("study"), self._chosen.get("scale"))
            self._plan = Plan(expand(loaded), present(root), root)
            self.plan_file = self._plan.write()
            os.environ[_PLAN] = str(self.plan_file)
        elif _PLAN in os.environ:
            self.plan_file = Path(os.environ[_PLAN])
        else:
            raise UserError(f"the job has no {_PLAN}, which names its plan; let the executor pass the environment on")
        self.orders = read_orders(self.plan_file)
        self._folder = f"{CHUNKS}/{self.plan_file.stem}-{size}"
        self._chunks = {chunk.name: chunk for chunk in (chunks.cut(self.orders, size) if size else ())}
        self._done = {path: self._mark(name) for name, chunk in self._chunks.items() for path in chunk.paths}
        if main:
            self._write_chunks(old)

    def _write_chunks(self, old: set[Path]) -> None:
        """Write the manifests of this run's chunks, and take away what says that they are done.

        Args:
            old: the marks that were there before the store was looked at: a chunk whose artifacts were missing after
                that is not done. Marks made since may be another process's, and right.
        """
        chunks.write(self._chunks.values(), self.orders, self.root / self._folder)
        for name in self._chunks:
            if (mark := self.root / self._mark(name)) in old:
                mark.unlink(missing_ok=True)

    def _mark(self, name: str) -> str:
        return f"{self._folder}/{name}.done"

    def targets(self, *, executing: bool, reporting: bool = False) -> list[str]:
        """Return the artifacts to ask for that are missing, or the absolute path of ``params.yaml`` if none is.

        No rule makes an absolute path, so Snakemake finds nothing to do then and calls no hook; this is why the files
        under ``report/`` are brought up to date here.

        Args:
            executing: whether jobs will be run: no dry run, no drawing of the graph.
            reporting: whether no job will be run, dry or not: ``snakemake --report`` tells of what is there, so where
                nothing is missing all artifacts of the study are asked for.
        """
        measure = self._phase == "measure"
        wanted = [path for path, order in self.orders.items() if (order["stage"] in FINAL) != measure]
        if wanted or self._plan is None:
            return list(dict.fromkeys(self._done.get(path, path) for path in wanted))
        if executing:
            publish(self._plan.grid, self.root)
        if reporting:
            have = self._plan.have
            return [artifact.path for artifact in self._plan.grid.artifacts if artifact.path in have]
        return [str(self.root / "params.yaml")]

    def figures(self) -> list[str]:
        """Return the page's figures as SVG, relative to the project folder."""
        return sorted(f"{FIGURES}/svg/{path.name}" for path in (self.root / FIGURES / "svg").glob("*.svg"))

    def inputs(self, path: str) -> list[str]:
        """Return what the job for the artifact ``path`` waits for; nothing if ``path`` is not to be made.

        These are its parents that are missing too, or the marks of the chunks that make them.
        """
        order = self.orders.get(path)
        parents = [parent for group in order["inputs"].values() for parent in group] if order else []
        missing = [parent for parent in parents if parent in self.orders]
        if path in self._done:  # asked for by name: a job of its own, with chunks or without
            return missing
        return list(dict.fromkeys(self._done.get(parent, parent) for parent in missing))

    def chunk_inputs(self, name: str) -> list[str]:
        """Return the missing artifacts that the chunk ``name`` waits for; nothing if there is no such chunk."""
        return list(self._chunks[name].waits) if name in self._chunks else []

    @property
    def client(self) -> str:
        """The shell command that stands for ``bitlaw``, in a warm worker if there is one."""
        return shlex.join([sys.executable, "-S", "-E", str(Path(__file__).with_name("pool") / "client.py")])

    @property
    def command(self) -> str:
        """The shell command that makes the artifact whose path follows."""
        return f"{self.client} make --plan {shlex.quote(str(self.plan_file))}"

    def mem_mb(self, key: str, attempt: int) -> int:
        """Return the megabytes that the job of the artifact with ``key`` may use."""
        return mem_mb(self._by_key[key], self.root, attempt) if key in self._by_key else BASE_MB

    def runtime(self, key: str, attempt: int) -> int:
        """Return the minutes that the job of the artifact with ``key`` may take."""
        return runtime(self._by_key[key], self.root, attempt) if key in self._by_key else 60

    def chunk_mem_mb(self, name: str, attempt: int) -> int:
        """Return the megabytes that the chunk ``name`` may use: those of its largest artifact."""
        orders = [self.orders[path] for path in self._chunks[name].paths] if name in self._chunks else []
        return max((mem_mb(order, self.root, attempt) for order in orders), default=BASE_MB)

    def chunk_runtime(self, name: str, attempt: int) -> int:
        """Return the minutes that the chunk ``name`` may take: its longest artifact's and two for each other."""
        orders = [self.orders[path] for path in self._chunks[name].paths] if name in self._chunks else []
        return max((runtime(order, self.root, attempt) for order in orders), default=60) + 2 * attempt * len(orders)

    @cached_property
    def _by_key(self) -> dict[str, Mapping[str, Any]]:
        return {order["key"]: order for order in self.orders.values()}

    def start(self, workers: int) -> None:
        """Start the warm workers of this run; they end with this process.

        Args:
            workers: how many; 0 on a cluster, whose jobs each have a process, limits and a machine of their own.
        """
        os.utime(self.plan_file)  # a log that is younger is this run's
        if self.orders and workers:
            self._pool = start(max(1, min(workers, len(self.orders))), os.getpid(), self.root / ".bitlaw")
            os.environ["BITLAW_POOL"] = self._pool

    def finish(self, *, success: bool = False) -> None:
        """Stop the workers, bring the files under ``report/`` up to date, and remove what only a failed run needs."""
        if self._pool is not None:
            stop(self._pool)
        if self._plan is not None:
            publish(self._plan.grid, self.root)
            if success:
                shutil.rmtree(self.root / CHUNKS, ignore_errors=True)

    def failures(self) -> Iterator[str]:
        """Yield lines that tell what failed in this run, how to make each again, and what waits for it."""
        failed = read_failures(self.orders, self.root, self.plan_file.stat().st_mtime)
        chosen = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._chosen.items())
        study = f" --config {chosen}" if chosen else ""
        yield from summary(self.orders, failed, self.root, lambda path: f"snakemake --cores 1 {path}{study}")


def _checked(config: Mapping[str, Any]) -> tuple[str, int]:
    """Return the phase and the rows in a chunk, 0 for no chunks. Raises ``UserError`` for a ``config`` that is none."""
    for name in config:
        if name not in _CONFIG:
            raise unknown("key", name, _CONFIG, place="--config")
    phase, size = str(config.get("phase", "all")), config.get("chunk", 0)
    if phase not in ("all", "measure"):
        raise unknown("phase", phase, ["all", "measure"], place="--config phase")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise UserError(f"must be a number of rows, or 0 for one job an artifact, not {size!r}", place="--config chunk")
    return phase, size

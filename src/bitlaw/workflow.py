"""What the Snakefile asks: which artifacts are missing, what each waits for, and the command that makes one.

The main process plans and writes the plan to a file; a job that Snakemake runs in a process of its own (on a
cluster) reads that file instead of planning anew, because the store changes while the run goes on.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitlaw.errors import UserError, unknown
from bitlaw.pool import start, stop
from bitlaw.study.grid import expand
from bitlaw.study.load import load_study
from bitlaw.study.plan import Plan, present, read_orders
from bitlaw.study.publish import publish

_PLAN = "BITLAW_PLAN"
_FINAL = ("table", "laws", "report")


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
            config: Snakemake's; ``study`` selects another study than ``params.yaml`` does, and the ``phase``
                ``measure`` leaves out the table, the laws and the report.
            main: whether this is Snakemake's main process.

        Raises:
            UserError: see ``load_study`` and ``expand``.
        """
        self.root = root
        self._pool: str | None = None
        self._plan: Plan | None = None
        self._phase = config.get("phase", "all")
        if self._phase not in ("all", "measure"):
            raise unknown("phase", str(self._phase), ["all", "measure"], place="--config phase")
        if main:
            self._plan = Plan(expand(load_study(root, config.get("study"))), present(root), root)
            self.plan_file = self._plan.write()
            os.environ[_PLAN] = str(self.plan_file)
        elif _PLAN in os.environ:
            self.plan_file = Path(os.environ[_PLAN])
        else:
            raise UserError(f"the job has no {_PLAN}, which names its plan; let the executor pass the environment on")
        self.orders = read_orders(self.plan_file)

    def targets(self, *, executing: bool) -> list[str]:
        """Return the artifacts to ask for that are missing, or the absolute path of ``params.yaml`` if none is.

        No rule makes an absolute path, so Snakemake finds nothing to do then and calls no hook; this is why the files
        under ``report/`` are brought up to date here.

        Args:
            executing: whether jobs will be run: no dry run, no drawing of the graph.
        """
        measure = self._phase == "measure"
        wanted = [path for path, order in self.orders.items() if (order["stage"] in _FINAL) != measure]
        if wanted or self._plan is None:
            return wanted
        if executing:
            publish(self._plan.grid, self.root)
        return [str(self.root / "params.yaml")]

    def inputs(self, path: str) -> list[str]:
        """Return the parents of ``path`` that are missing too; none if ``path`` is not to be made."""
        order = self.orders.get(path)
        parents = [parent for group in order["inputs"].values() for parent in group] if order else []
        return [parent for parent in parents if parent in self.orders]

    @property
    def command(self) -> str:
        """The shell command that makes the artifact whose path follows, in a warm worker if there is one."""
        client = Path(__file__).with_name("pool") / "client.py"
        return shlex.join([sys.executable, "-S", "-E", str(client), "make", "--plan", str(self.plan_file)])

    def start(self, workers: int) -> None:
        """Start the warm workers of this run; they end with this process."""
        if self.orders:
            self._pool = start(max(1, min(workers, len(self.orders))), os.getpid(), self.root / ".bitlaw")
            os.environ["BITLAW_POOL"] = self._pool

    def finish(self) -> None:
        """Stop the workers and bring the files under ``report/`` up to date."""
        if self._pool is not None:
            stop(self._pool)
        if self._plan is not None:
            publish(self._plan.grid, self.root)

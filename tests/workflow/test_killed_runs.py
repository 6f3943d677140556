"""kill -9 at random moments: what is left is whole, and the next run ends with the very same tables.

``BITLAW_KILLS`` is the number of kills (default 12, some minutes), ``BITLAW_KILLS_SEED`` the seed of their moments, and
``BITLAW_KILLS_SECONDS`` a time after which there are no more. Several processes with a seed each do many at once.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bitlaw.artifacts import read_json, read_table, read_tensors
from checkout import Checkout

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("BITLAW_KILLS", "12"))
SECONDS = float(os.environ.get("BITLAW_KILLS_SECONDS", "inf"))
SEED = int(os.environ.get("BITLAW_KILLS_SEED", "0"))
VIEWS = ("table.parquet", "laws.json", "index.html")
READERS = {".json": read_json, ".safetensors": read_tensors, ".parquet": read_table}
RUNNERS = {
    "bitlaw": [sys.executable, "-m", "bitlaw", "run"],
    "snakemake": [str(Path(sys.executable).with_name("snakemake")), "--cores", "2"],
}
# `bitlaw run` in a fork of a process that has imported all: most of the other runs' time goes into imports, where there
# is little to break, so most kills are of these.
FORKED = "forked"
CHOICES = [*RUNNERS, *[FORKED] * 6]


def checkout_at(root: Path) -> Checkout:
    """Return a checkout with the smallest study that goes through every stage."""
    checkout = Checkout(root)
    checkout.study(models=[{"source": "zoo", "name": "gpt2-0.1m"}], formats=["int4_b64"])
    return checkout


class Fork:
    """A run of ``bitlaw run`` in a fork, with what the tests need of ``subprocess.Popen``."""

    _server = multiprocessing.get_context("forkserver")
    _server.set_forkserver_preload(["bitlaw.cli.main", "torch", "transformers", "pandas", "altair", "scipy.optimize"])

    def __init__(self, root: Path) -> None:
        self.process = self._server.Process(target=bitlaw_run, args=(root,))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("bitlaw run", timeout or 0)
        return self.process.exitcode


def bitlaw_run(root: Path) -> None:
    """Do in this process what ``bitlaw run`` does in ``root``."""
    from bitlaw.cli.main import main

    os.setpgid(0, 0)
    os.chdir(root)
    log = os.open("run.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(["run"]))


def start(checkout: Checkout, runner: str) -> subprocess.Popen[bytes] | Fork:
    """Start a run in a process group of its own."""
    if runner == FORKED:
        return Fork(checkout.root)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BITLAW_", "SNAKEMAKE_"))}
    env |= {"PYTHONPATH": str(checkout.root / "src"), "OMP_NUM_THREADS": "1"}
    log = (checkout.root / "run.log").open("wb")
    return subprocess.Popen(
        RUNNERS[runner], cwd=checkout.root, env=env, stdout=log, stderr=subprocess.STDOUT, process_group=0
    )


def kill(run: subprocess.Popen[bytes] | Fork, chance: random.Random, patience: float) -> None:
    """Kill the whole run, or one of its processes, whose absence the others must survive or end by in good time."""
    family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    if chance.random() < 0.5:
        victim = chance.choice(family)
        if victim.is_running():
            victim.kill()
        try:
            run.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run hangs after {victim} was killed")
    for process in family:
        if process.is_running():
            process.kill()
    run.wait()


def check(checkout: Checkout) -> None:
    """Read every artifact that looks finished: each must be whole."""
    for path in (checkout.root / "results").rglob("*"):
        if path.is_file() and path.suffix in READERS:
            READERS[path.suffix](path)


def test_a_run_survives_kills(tmp_path: Path) -> None:
    undisturbed = checkout_at(tmp_path / "undisturbed")
    longest = {}
    for runner in (*RUNNERS, FORKED, FORKED):  # the first fork waits for the imports
        subprocess.run(["rm", "-rf", *(str(undisturbed.root / name) for name in ("results", "report"))], check=True)
        begun = time.monotonic()
        assert start(undisturbed, runner).wait() == 0, (undisturbed.root / "run.log").read_text()
        longest[runner] = time.monotonic() - begun
        expected = [undisturbed.view(name) for name in VIEWS]
    chance, killed, finished = random.Random(SEED), 0, 0
    checkout = checkout_at(tmp_path / "killed-0")
    begun = time.monotonic()
    while killed < KILLS and time.monotonic() - begun < SECONDS:
        runner = chance.choice(CHOICES)
        run = start(checkout, runner)
        try:
            run.wait(timeout=chance.uniform(0, longest[runner]))
        except subprocess.TimeoutExpired:
            kill(run, chance, 60 + 10 * longest[runner])
            killed += 1
            check(checkout)
            continue
        said = (checkout.root / "run.log").read_text()
        if run.returncode != 0:
            # What may stop a run is a lock that nobody holds, and then it says how to get past it.
            assert runner == "snakemake" and "--unlock" in said, f"{killed} kills: {said}"
            assert checkout.snakemake("--unlock").returncode == 0
            continue
        assert [checkout.view(name) for name in VIEWS] == expected, f"{runner} after {killed} kills"
        finished += 1
        checkout = checkout_at(tmp_path / f"killed-{finished}")
    if (checkout.root / ".snakemake" / "locks").is_dir():
        checkout.snakemake("--unlock")
    checkout.make()
    assert [checkout.view(name) for name in VIEWS] == expected
    leftover = [p for p in psutil.process_iter(["cwd"]) if str(p.info["cwd"] or "").startswith(str(tmp_path))]
    assert not [p for p in leftover if p.status() != psutil.STATUS_ZOMBIE], leftover
    print(f"{killed} kills, {finished} runs finished between them")

"""The workflow on a real SLURM, by sbatch: finished; killed and recovered; out of time and retried with more."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from one_node import Slurm, Unavailable

from blocks import Reader, blocks
from checkout import REPOSITORY, Checkout

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
VIEWS = ("table.parquet", "laws.json", "index.html")
# SLURM here keeps no accounts, so states come from squeue; and nobody wants to wait for the next look.
COMMAND = ("snakemake", "--profile", "workflow/profiles/slurm", "--latency-wait", "10")
COMMAND += ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2")
JOBS = {"model": 1, "calibrate": 1, "factorize": 1, "quantize": 1, "evaluate": 2, "final": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """Return a cluster whose commands the environment finds; skip where there can be none."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `slurm` is not installed")
    try:
        slurm = Slurm()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        slurm.start()
    except Unavailable as error:
        slurm.stop()
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in slurm.env.items():
            patch.setenv(name, value)
        yield slurm
    slurm.stop()


@pytest.fixture(scope="module")
def finished(cluster: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout whose study was run on the cluster; not to be changed."""
    checkout = Checkout(tmp_path_factory.mktemp("slurm") / "finished")
    checkout.params(models=[{"source": "zoo", "name": "gpt2-0.1m"}], formats=["int4_b64"], methods=["gptq"])
    # No worker of a pool may take the jobs of a cluster.
    pool = checkout.root / "src" / "bitlaw" / "pool" / "server.py"
    pool.write_text("raise SystemExit('a pool was started')\n", "utf-8")
    done = checkout.run(*COMMAND, seconds=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def test_each_artifact_is_a_job_and_the_bytes_are_those_of_one_machine(
    cluster: Slurm, finished: Checkout, tmp_path: Path
) -> None:
    jobs = cluster.jobs()
    assert Counter(job["comment"].split("_")[1] for job in jobs) == JOBS
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    again = finished.run(*COMMAND)
    assert "Nothing to be done" in again.stdout + again.stderr
    assert len(cluster.jobs()) == len(jobs)
    alone = finished.copy(tmp_path / "alone")
    for name in ("results", "report"):
        (alone.root / name).rename(tmp_path / name)
    done = alone.run(sys.executable, "-m", "bitlaw", "run")
    assert done.returncode == 0, done.stderr
    for name in VIEWS:
        assert alone.view(name) == finished.view(name), name


def test_the_tutorial(cluster: Slurm, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    shutil.copy2(REPOSITORY / "studies" / "demo.yaml", checkout.root / "studies")
    site = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2, "latency-wait": 10}
    profile = checkout.root / "workflow" / "profiles" / "slurm" / "config.yaml"
    profile.write_text(yaml.safe_dump({**yaml.safe_load(profile.read_text("utf-8")), **site}), "utf-8")
    (tmp_path / "tmp").mkdir()
    reader = Reader(checkout.root, {**checkout.environment(), "TMPDIR": str(tmp_path / "tmp")}, seconds=900)
    before = len(cluster.jobs())
    printed = [reader.do(block) for block in blocks("docs/tutorial/slurm.md") if block.place == "slurm"]
    assert "Nothing to be done" in printed[2]
    jobs = cluster.jobs()[before:]
    assert jobs and {job["state"] for job in jobs} == {"COMPLETED"}


def cancel(cluster: Slurm) -> None:
    cluster.command("scancel", cluster.jobs()[-1]["job"])


def kill(cluster: Slurm) -> None:
    cluster.kill_jobs()


def lose_the_node(cluster: Slurm) -> None:
    cluster.kill_node()
    time.sleep(2)
    cluster.start_node()


@pytest.mark.parametrize("harm", [cancel, kill, lose_the_node])
def test_a_job_that_is_lost_is_made_again(
    cluster: Slurm, finished: Checkout, tmp_path: Path, harm: Callable[[Slurm], None]
) -> None:
    checkout, target = without_one_loss(finished, tmp_path / "lost")
    begun = tmp_path / "begun"
    # The first job hangs, those after it do not. The command line is no part of any key.
    hang(
        checkout,
        f"begun = {str(begun)!r}",
        "if not os.path.exists(begun):",
        "    open(begun, 'w')",
        "    time.sleep(900)",
    )
    before = len(cluster.jobs())
    with run(checkout, target) as running:
        wait_for(begun.exists, running)
        harm(cluster)
        printed = ended(running)
    assert running.returncode == 0, printed
    assert (checkout.root / target).read_bytes() == (finished.root / target).read_bytes()
    first, *others = cluster.jobs()[before:]
    assert first["state"] in ("CANCELLED", "FAILED", "NODE_FAIL")
    assert [job["state"] for job in others] == ["COMPLETED"]


def test_a_job_past_its_limit_is_given_more_time(cluster: Slurm, finished: Checkout, tmp_path: Path) -> None:
    checkout, target = without_one_loss(finished, tmp_path / "slow")
    checkout.edit("resources.py", "return (60 + ", "return (1 + ")  # minutes, the shortest limit that SLURM knows
    hang(checkout, "time.sleep(95)")
    before = len(cluster.jobs())
    with run(checkout, target) as running:
        printed = ended(running)
    assert running.returncode == 0, printed
    assert [(job["state"], job["limit"]) for job in cluster.jobs()[before:]] == [
        ("TIMEOUT", "1:00"),
        ("COMPLETED", "2:00"),
    ]
    assert (checkout.root / target).read_bytes() == (finished.root / target).read_bytes()


def without_one_loss(finished: Checkout, root: Path) -> tuple[Checkout, str]:
    """Return a copy of ``finished`` that lacks one loss and the table, and the path of that loss."""
    checkout = finished.copy(root)
    for stage in ("table", "laws", "report"):
        shutil.rmtree(checkout.root / "results" / stage)
    (loss,) = (checkout.root / "results" / "evaluate" / "gpt2-0.1m" / "int4_b64-gptq").iterdir()
    loss.unlink()
    return checkout, str(loss.relative_to(checkout.root))


def hang(checkout: Checkout, *lines: str) -> None:
    """Put ``lines`` before all that `bitlaw make` does."""
    head = "def _run(options: argparse.Namespace) -> int:\n"
    checkout.edit("cli/make.py", head, head + "".join(f"    {line}\n" for line in ("import os, time", *lines)))


def run(checkout: Checkout, target: str) -> subprocess.Popen[str]:
    """Start Snakemake for one target."""
    environment = checkout.environment()
    command = [str(Path(sys.executable).with_name(COMMAND[0])), *COMMAND[1:], "--", target]
    return subprocess.Popen(
        command, cwd=checkout.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(event: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not event():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < end, "the job has not begun"
        time.sleep(0.2)


def ended(running: subprocess.Popen[str]) -> str:
    """Return what the process printed until its end."""
    try:
        return running.communicate(timeout=400)[0]
    except subprocess.TimeoutExpired:
        running.terminate()
        return running.communicate()[0]

"""A full disk, a folder that cannot be written, and two runs at once: named, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from checkout import Checkout

pytestmark = [pytest.mark.workflow]

VIEWS = ("table.parquet", "laws.json", "index.html")
RUNNERS = {
    "bitlaw": [sys.executable, "-m", "bitlaw", "run"],
    "snakemake": [str(Path(sys.executable).with_name("snakemake")), "--cores", "2"],
}


def small(root: Path) -> Checkout:
    """Return a checkout with the smallest study that goes through every stage."""
    checkout = Checkout(root)
    checkout.study(models=[{"source": "zoo", "name": "gpt2-0.1m"}], formats=["int4_b64"])
    return checkout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return what an undisturbed run shows."""
    checkout = small(tmp_path_factory.mktemp("undisturbed") / "p")
    checkout.make()
    return [checkout.view(name) for name in VIEWS]


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no right to mount a file system here: {done.stderr.strip()}")


@contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """Let ``folder`` be a disk of ``size``."""
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(("runner", "size"), [("bitlaw", "16k"), ("bitlaw", "400k"), ("snakemake", "400k")])
def test_a_full_disk_is_named_and_a_larger_one_goes_on(
    tmp_path: Path, expected: list[bytes], runner: str, size: str
) -> None:
    checkout = small(tmp_path / "p")
    with disk(checkout.root / "results", size):
        done = checkout.run(*RUNNERS[runner])
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "no space left on device" in said.lower() and "Traceback" not in said, said
        assert not list((checkout.root / "results").rglob("*.tmp"))
        mount("-o", "remount,size=64m", str(checkout.root / "results"))
        checkout.make()
        assert [checkout.view(name) for name in VIEWS] == expected


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, expected: list[bytes], runner: str) -> None:
    checkout = small(tmp_path / "p")
    with disk(checkout.root / "results", "64m"):
        assert checkout.run(*RUNNERS["bitlaw"], "--until", "quantize").returncode == 0
        mount("-o", "remount,ro", str(checkout.root / "results"))
        done = checkout.run(*RUNNERS[runner])
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "read-only file system" in said.lower() and "Traceback" not in said, said
        mount("-o", "remount,rw", str(checkout.root / "results"))
        checkout.make()
        assert [checkout.view(name) for name in VIEWS] == expected


@pytest.mark.parametrize(
    ("first", "second"), [("bitlaw", "bitlaw"), ("snakemake", "bitlaw"), ("snakemake", "snakemake")]
)
def test_two_runs_at_once(tmp_path: Path, expected: list[bytes], first: str, second: str) -> None:
    checkout = small(tmp_path / "p")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BITLAW_", "SNAKEMAKE_"))}
    env |= {"PYTHONPATH": str(checkout.root / "src"), "OMP_NUM_THREADS": "1"}
    runs = []
    for runner in (first, second):
        command = RUNNERS[runner]
        runs.append(
            subprocess.Popen(
                command, cwd=checkout.root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
        time.sleep(2)
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert runs[0].returncode == 0, said[0]
    if runs[1].returncode:
        # Snakemake keeps a second one out of the folder, and says so.
        assert first == second == "snakemake" and "lock" in said[1].lower(), said[1]
    checkout.make()
    assert [checkout.view(name) for name in VIEWS] == expected


def test_what_another_run_makes_meanwhile_stays(tmp_path: Path) -> None:
    """Snakemake removes a job's outputs before the job; another run may have made them, and be about to read them."""
    checkout = small(tmp_path / "p")
    checkout.make()
    results, made = checkout.root / "results", tmp_path / "made"
    results.rename(made)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BITLAW_", "SNAKEMAKE_"))}
    env |= {"PYTHONPATH": str(checkout.root / "src"), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        RUNNERS["snakemake"], cwd=checkout.root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while run.poll() is None and not list(results.glob("model/*/*.json")):
        time.sleep(0.01)
    others = {}
    for path in (path for path in made.rglob("*") if path.is_file()):
        target = results / path.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(path, target)
            others[target] = path
    said = run.communicate(timeout=300)[0]
    assert run.returncode == 0, said
    assert len(others) >= 5, f"the run was over before the other one began: {said}"
    assert [target.name for target, path in others.items() if not target.samefile(path)] == []

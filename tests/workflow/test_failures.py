"""Cells that fail: the others are made, and the end says what failed, why, and how to try it again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkout import Checkout

MODELS = [{"source": "zoo", "name": "llama-0.1m"}, {"source": "path", "path": "broken", "name": "broken"}]
REASON = "not finite: the model has bad weights or overflows on the text"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout with a good model and one that has a NaN among its weights; not to be changed."""
    import torch
    from safetensors.torch import load_file, save_file

    checkout = Checkout(tmp_path_factory.mktemp("broken") / "checkout")
    folder = checkout.root / "broken"
    shutil.copytree(checkout.root / "data" / "zoo" / "gpt2-0.1m", folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(weights) if name.endswith("h.0.attn.c_attn.weight"))
    weights[name][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    checkout.params(models=MODELS)
    return checkout


@pytest.fixture(scope="module")
def failed(broken: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, list[str]]:
    """Return a checkout after a run that failed, and the lines of its end."""
    checkout = broken.copy(tmp_path_factory.mktemp("failed") / "checkout")
    done = checkout.snakemake()
    assert done.returncode == 1, done.stderr
    return checkout, told(done)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines of the summary, without the indentation."""
    lines = done.stderr.splitlines()
    begin = next(i for i, line in enumerate(lines) if re.match(r"bitlaw: \d+ artifacts? failed:", line))
    end = next(i for i in range(begin, len(lines)) if lines[i].startswith("bitlaw: mend this"))
    return [line.strip() for line in lines[begin : end + 1]]


def test_the_others_are_made_and_the_end_says_what_failed(failed: tuple[Checkout, list[str]]) -> None:
    checkout, lines = failed
    # RTN looks at no text and makes a cell of the broken model too; its loss is NaN.
    assert checkout.made() == {"model": 2, "calibrate": 2, "factorize": 1, "quantize": 6, "evaluate": 8}
    (log,) = (checkout.root / "logs" / "factorize" / "broken").rglob("*.log")
    target = log.relative_to(checkout.root / "logs").with_suffix(".safetensors")
    assert lines[:5] == [
        "bitlaw: 1 artifact failed:",
        f"results/{target}",
        f"transformer.h.0.attn.c_proj: the Hessian is {REASON}",
        f"log:   {log.relative_to(checkout.root)}",
        f"again: snakemake --cores 1 results/{target}",
    ]
    assert lines[5:7] == [
        "bitlaw: the table, the laws and the report wait for 2 cells:",
        "broken by gptq: int4_b64, mxint4_b32",
    ]
    assert lines[7].endswith("do without: take broken out of 'models', or gptq out of 'methods', of the study")
    assert len(lines) == 8


def test_what_it_says_can_be_done(failed: tuple[Checkout, list[str]], tmp_path: Path) -> None:
    checkout, lines = failed[0].copy(tmp_path / "copy"), failed[1]
    again = checkout.run(*lines[4].removeprefix("again: ").split())
    assert again.returncode == 1
    assert told(again)[:5] == lines[:5]
    checkout.params(models=MODELS[:1])
    assert checkout.jobs() == {"table": 1, "laws": 1, "report": 1}
    checkout.params(models=MODELS, methods=["rtn"])
    assert checkout.jobs() == {"table": 1, "laws": 1, "report": 1}


def test_without_snakemake_it_is_the_same(failed: tuple[Checkout, list[str]], tmp_path: Path) -> None:
    checkout, lines = failed[0].copy(tmp_path / "copy"), failed[1]
    shutil.rmtree(checkout.root / "results" / "evaluate" / "llama-0.1m")
    (log,) = (checkout.root / "logs" / "factorize" / "broken").rglob("*.log")
    log.unlink()
    done = checkout.run(sys.executable, "-m", "bitlaw", "run")
    assert (done.returncode, done.stdout) == (1, "made 5 artifacts\n")
    mine = told(done)
    assert [*mine[:4], *mine[5:]] == [*lines[:4], *lines[5:]]
    assert REASON in log.read_text("utf-8")
    again = checkout.run(sys.executable, "-m", *mine[4].removeprefix("again: ").split())
    assert again.returncode == 2
    assert REASON in again.stderr


def test_a_run_after_a_killed_one_needs_no_unlocking(broken: Checkout, tmp_path: Path) -> None:
    checkout = broken.copy(tmp_path / "killed")
    checkout.params(models=MODELS[:1], methods=["rtn"])
    command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "2"]
    run = subprocess.Popen(
        command, cwd=checkout.root, env=checkout.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    locks = checkout.root / ".snakemake" / "locks"
    while len(list(locks.glob("*"))) < 2:
        assert run.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    # While it runs, its lock holds.
    other = checkout.snakemake()
    assert other.returncode == 1
    assert "cannot be locked" in other.stderr
    assert "bitlaw:" not in other.stderr
    run.kill()
    run.wait()
    assert list(locks.glob("*"))
    assert "removed the lock of a run that was killed" in checkout.make()
    assert "removed" not in checkout.make()

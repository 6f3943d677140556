"""Rows in chunks: the same results as one job an artifact, whatever fails or is killed on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from checkout import STUDY, WHOLE, Checkout

VIEWS = ("table.parquet", "laws.json", "index.html")
# Of each model of STUDY, 3 rows wait for the model (unquantized, RTN), 2 for the factors too.
SHARED = {name: WHOLE[name] for name in ("model", "calibrate", "factorize")}
FINAL = {name: WHOLE[name] for name in ("table", "laws", "report")}


def chunked(checkout: Checkout, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return checkout.snakemake(*arguments, "--config", f"chunk={size}")


def planned(checkout: Checkout, size: int) -> dict[str, int]:
    """Return the jobs by rule that a dry run in chunks announces."""
    done = chunked(checkout, size, "--dry-run")
    printed = done.stdout + done.stderr
    found = re.findall(r"^\s*(\w+)\s+(\d+)\s*$", printed.split("Job stats")[-1].split("total")[0], re.M)
    return {rule: int(count) for rule, count in found if rule != "all"}


def same(checkout: Checkout, other: Checkout) -> None:
    for name in VIEWS:
        assert checkout.view(name) == other.view(name), name


def test_chunks_give_the_same_bytes(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "chunked")
    assert planned(checkout, 2) == {**SHARED, "chunk": 6, **FINAL}
    assert planned(checkout, 50) == {**SHARED, "chunk": 4, **FINAL}
    done = chunked(checkout, 2)
    assert done.returncode == 0, done.stdout + done.stderr
    same(checkout, finished)
    results = {path.relative_to(finished.root) for path in (finished.root / "results").rglob("*")}
    assert {path.relative_to(checkout.root) for path in (checkout.root / "results").rglob("*")} == results
    assert checkout.jobs() == {}
    assert planned(checkout, 2) == {}
    logs = list((checkout.root / "logs" / "chunk").rglob("*.log"))
    assert Counter(path.parent.name for path in logs) == {"gpt2-0.1m": 3, "llama-0.1m": 3}
    assert all(path.read_text("utf-8") == "" for path in logs)
    assert not list((checkout.root / ".bitlaw" / "chunks").rglob("*.jsonl"))


def test_only_what_is_missing_runs_and_an_old_mark_is_no_proof(checkout: Checkout) -> None:
    cells = sorted((checkout.root / "results" / "evaluate" / "gpt2-0.1m").rglob("*.json"))
    for _ in range(2):  # the second time the plan is the same, and a run that had failed would have left its marks
        for path in cells[:3]:
            path.unlink()
        shutil.rmtree(checkout.root / "results" / "table")
        assert planned(checkout, 2) == {"chunk": 2, "table": 1}
        for manifest in (checkout.root / ".bitlaw" / "chunks").rglob("*.jsonl"):
            manifest.with_suffix(".done").touch()
        assert planned(checkout, 2) == {"chunk": 2, "table": 1}
        done = chunked(checkout, 2)
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(path.is_file() for path in cells)


def test_a_cell_that_fails_leaves_its_chunk_alone_and_is_named(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "failing")
    rtn = checkout.root / "src" / "bitlaw" / "methods" / "rtn.py"
    original = rtn.read_text("utf-8")
    # One format, not the last, cannot be rounded by RTN. The keys of RTN's cells change with its code, and back.
    checkout.edit("methods/rtn.py", "        return ", "        assert str(fmt) != 'int4_b64', 'no'\n        return ")
    done = chunked(checkout, 50)
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed
    assert checkout.made() == {**SHARED, "quantize": 6, "evaluate": 8}
    # Snakemake shows the log of a chunk that failed, with lines broken to fit the screen.
    assert "bitlaw: failed:" in printed
    logs = "".join(path.read_text("utf-8") for path in (checkout.root / "logs" / "chunk").rglob("*.log"))
    quantized = re.findall(r"^bitlaw: failed: (results/quantize/\S+): no$", logs, re.M)
    assert sorted(path.split("/")[2:4] for path in quantized) == [
        ["gpt2-0.1m", "int4_b64-rtn"],
        ["llama-0.1m", "int4_b64-rtn"],
    ]
    for path in quantized:
        needs = rf"^bitlaw: failed: results/evaluate/\S+: needs {re.escape(path)}, which could not be made$"
        assert re.search(needs, logs, re.M), logs
    assert logs.count("AssertionError: no") == 2  # where it failed, for it is no mistake of the user
    assert logs.count("2 of 5 failed") == 2
    rtn.write_text(original, "utf-8")
    done = chunked(checkout, 50)
    assert done.returncode == 0, done.stdout + done.stderr
    same(checkout, finished)


def test_a_second_try_makes_the_rest(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "again")
    checkout.study(models=[{"source": "zoo", "name": "gpt2-0.1m"}], formats=["int4_b64"], methods=["rtn"], laws=[])
    fails_at_first = "        from pathlib import Path\n        if not Path('tried').exists():\n"
    fails_at_first += "            Path('tried').touch()\n            raise OSError('not yet')\n"
    checkout.edit("methods/rtn.py", "        return ", f"{fails_at_first}        return ")
    done = chunked(checkout, 50, "--retries", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.made() == {"model": 1, "quantize": 1, "evaluate": 2, **FINAL}
    assert (checkout.root / "tried").exists()


def test_a_killed_chunk_loses_the_cell_in_hand_at_most(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "killed")
    env = {**os.environ, "PYTHONPATH": str(checkout.root / "src")}
    command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "1", "--config", "chunk=50"]
    run = subprocess.Popen(
        command, cwd=checkout.root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    begin = time.monotonic()
    while checkout.made()["evaluate"] < 3:
        assert run.poll() is None
        assert time.monotonic() - begin < 120
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(1)  # the workers end with the run
    before = checkout.made()
    assert before["evaluate"] >= 3
    assert before["evaluate"] < WHOLE["evaluate"]
    stamps = {path: path.stat().st_mtime_ns for path in (checkout.root / "results").rglob("*.*") if path.is_file()}
    assert checkout.snakemake("--unlock").returncode == 0
    # All that was made counts: the next run makes the rest, a cell or so of the chunk among it.
    done = chunked(checkout, 50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    same(checkout, finished)


def test_a_chunk_whose_worker_is_killed_keeps_what_it_made(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "worker")
    rtn = checkout.root / "src" / "bitlaw" / "methods" / "rtn.py"
    original = rtn.read_text("utf-8")
    kill = (
        "        import os\n        if str(fmt) == 'mxint4_b32':\n            os.kill(os.getpid(), 9)\n        return "
    )
    checkout.edit("methods/rtn.py", "        return ", kill)
    done = chunked(checkout, 50)
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed
    assert "worker died (signal 9)" in printed
    # Of RTN's chunks, the cells before the one that killed the worker are there; GPTQ's are whole.
    assert checkout.made() == {**SHARED, "quantize": 6, "evaluate": 8}
    rtn.write_text(original, "utf-8")
    done = chunked(checkout, 50)
    assert done.returncode == 0, done.stdout + done.stderr
    same(checkout, finished)


def test_what_rows_share_fails_for_those_alone_that_need_it(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "shared")
    checkout.study(formats=["int4_b64"], models=[{"source": "zoo", "name": "gpt2-0.1m"}])
    (checkout.root / "calibration.txt").write_text("short", "utf-8")
    done = chunked(checkout, 50)
    assert done.returncode == 1, done.stdout + done.stderr
    assert checkout.made() == {"model": 1, "quantize": 1, "evaluate": 2}


def test_a_wrong_size_is_one_line(checkout: Checkout) -> None:
    for words, line in {
        "chunk=many": "bitlaw: --config chunk: must be a number of rows, or 0 for one job an artifact, not 'many'",
        "chunks=50": "bitlaw: --config: unknown key 'chunks'; did you mean 'chunk'?",
    }.items():
        done = checkout.snakemake("--config", words)
        assert done.returncode == 2
        assert line in done.stderr.splitlines()
        assert done.stdout == ""


def test_the_study_is_the_one_these_counts_are_of() -> None:
    assert STUDY["formats"] == ["int4_b64", "mxint4_b32"]
    assert STUDY["methods"] == ["rtn", "gptq"]

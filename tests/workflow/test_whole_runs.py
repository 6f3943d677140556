"""Whole runs: the same bytes by every road, failures that stay where they are, mistakes that are one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from checkout import STUDY, WHOLE, Checkout

FINAL = {"table": 1, "laws": 1, "report": 1}

VIEWS = ("table.parquet", "laws.json", "index.html")


def test_dvc_repro_gives_the_same_bytes_and_then_does_nothing(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "dvc")
    assert checkout.run("git", "init", "--quiet").returncode == 0
    first = checkout.run("dvc", "repro")
    assert first.returncode == 0, first.stdout + first.stderr
    for name in VIEWS:
        assert checkout.view(name) == finished.view(name), name
    lock = (checkout.root / "dvc.lock").read_text("utf-8")
    assert "path: results/evaluate" in lock
    assert "path: report/index.html" in lock
    shown = checkout.run("dvc", "plots", "show")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    plots = (checkout.root / "dvc_plots" / "index.html").read_text("utf-8")
    for name in figures(checkout):
        assert f"{name}.svg" in plots
    second = checkout.run("dvc", "repro")
    assert second.stdout.count("didn't change, skipping") == 3
    status = checkout.run("dvc", "status")
    assert "up to date" in status.stdout, status.stdout + status.stderr
    assert checkout.jobs() == {}


def figures(checkout: Checkout) -> set[str]:
    """Return the names of the page's figures, each of which is there as SVG and PNG."""
    page = checkout.view("index.html").decode()
    shown = set(re.findall('id="chart-([^"]+)"', page)) - {"explorer"}
    names = shown | set(re.findall('data-figures="([^"]+)"', page)[0].split())
    for kind in ("svg", "png"):
        assert {path.name for path in (checkout.root / "report" / "figures" / kind).iterdir()} == {
            f"{name}.{kind}" for name in names
        }
    return names


def test_the_report_of_snakemake_has_the_page_and_its_figures(checkout: Checkout) -> None:
    done = checkout.run("snakemake", "--report", "report.html")
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    (page,) = (checkout.root / "results" / "report").glob("*.html")
    added = set(re.findall(r"Adding (\S+) \(", printed))
    assert added == {page.name, *(f"{name}.svg" for name in figures(checkout))}
    written = (checkout.root / "report.html").read_text("utf-8")
    for text in ("The page of the study", "A figure of the page", "What a run of bitlaw made"):
        assert text in written
    for rule in WHOLE:  # with the time that its jobs took
        assert f'"rule": "{rule}"' in written or f'"rule":"{rule}"' in written, rule
    assert checkout.jobs() == {}


def test_all_that_a_cell_can_be_measured_by(checkout: Checkout) -> None:
    questions = [{"context": f"The {noun} of a", "continuation": "list"} for noun in ("end", "length", "type")]
    (checkout.root / "last.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions), "utf-8")
    before = pd.read_parquet(checkout.root / "report" / "table.parquet").set_index("key")
    short = {**STUDY["evaluation"], "name": "short", "window": 32, "stride": 32, "dtype": "bfloat16"}
    checkout.params(
        evaluation=[STUDY["evaluation"], short], tasks=[{"task": "lambada", "data": "last.jsonl"}], output_sqnr=True
    )
    assert checkout.jobs() == {"evaluate": 10, "zeroshot": 10, "output_error": 8, **FINAL}
    checkout.make()
    table = pd.read_parquet(checkout.root / "report" / "table.parquet").set_index("key")
    assert len(table) == 2 * len(before) and set(table["text"]) == {"evaluation", "short"}
    again = table.loc[before.index]
    measured = ["accuracy", "accuracy_stderr", "tasks", "output_sqnr_db"]
    pd.testing.assert_frame_equal(again.drop(columns=measured), before.drop(columns=measured))
    assert before[measured].isna().all(axis=None)
    assert set(table["tasks"]) == {"lambada"} and table["accuracy"].between(0, 1).all()
    assert (table["output_sqnr_db"].isna() == (table["format"] == "unquantized")).all()
    assert checkout.jobs() == {}


def test_a_clone_that_pulls_has_nothing_to_do(finished: Checkout, tmp_path: Path) -> None:
    checkout = finished.copy(tmp_path / "mine")

    def run(where: Checkout, *commands: str) -> None:
        for command in commands:
            done = where.run(*command.split())
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    run(
        checkout,
        "git init --quiet",
        "git config user.name tester",
        "git config user.email tester@example.invalid",
        f"dvc remote add --default team {tmp_path / 'remote'}",
        "dvc repro --quiet",
        "git add --all",
        "git commit --quiet -m results",
        "dvc push --quiet",
        f"git clone --quiet . {tmp_path / 'theirs'}",
    )
    clone = object.__new__(Checkout)
    clone.root = tmp_path / "theirs"
    assert not (clone.root / "results").exists()
    assert clone.jobs() == WHOLE
    run(clone, "dvc pull --quiet")
    assert clone.jobs() == {}
    assert "up to date" in clone.run("dvc", "status").stdout
    for name in VIEWS:
        assert clone.view(name) == finished.view(name), name


def test_without_snakemake_the_bytes_are_the_same(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "alone")
    done = checkout.run(sys.executable, "-m", "bitlaw", "run", "--until", "evaluate")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"made {sum(WHOLE.values()) - 3} artifacts\n"
    assert checkout.jobs() == {"table": 1, "laws": 1, "report": 1}
    done = checkout.run(sys.executable, "-m", "bitlaw", "run")
    assert done.returncode == 0, done.stderr
    for name in VIEWS:
        assert checkout.view(name) == finished.view(name), name


def test_every_job_runs_in_a_warm_worker(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "warm")
    # Without a pool the client becomes `python -m bitlaw`; here that fails, so only the workers can have done it.
    (checkout.root / "src" / "bitlaw" / "__main__.py").write_text("raise SystemExit('no pool')\n", "utf-8")
    checkout.make()
    assert checkout.jobs() == {}


def test_without_a_pool_a_job_runs_in_its_own_process(checkout: Checkout) -> None:
    plan = next((checkout.root / ".bitlaw" / "plans").glob("*.jsonl"))
    table = next((checkout.root / "results" / "table").iterdir())
    before = table.read_bytes()
    table.unlink()
    client = checkout.root / "src" / "bitlaw" / "pool" / "client.py"
    target = str(table.relative_to(checkout.root))
    done = checkout.run(sys.executable, "-S", "-E", str(client), "make", "--plan", str(plan), target)
    assert done.returncode == 0, done.stderr
    assert table.read_bytes() == before


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "failing")
    weights = checkout.root / "data" / "zoo" / "gpt2-0.1m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = checkout.snakemake()
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed
    assert "Traceback" not in printed
    results = [path for path in (checkout.root / "results").rglob("*") if path.is_file()]
    made = Counter(path.relative_to(checkout.root).parts[1] for path in results)
    # The other model's are whole; of the broken one there is the description, which reads no weights.
    assert made == {"model": 2, "calibrate": 1, "factorize": 1, "quantize": 4, "evaluate": 5}
    assert not list((checkout.root / "results").rglob("*.tmp"))
    assert not (checkout.root / "report").exists()


@pytest.mark.parametrize("seconds", [7.0, 9.0])
def test_killed_in_the_middle_it_goes_on_where_it_was(finished: Checkout, tmp_path: Path, seconds: float) -> None:
    checkout = Checkout(tmp_path / "killed")
    env = {**os.environ, "PYTHONPATH": str(checkout.root / "src")}
    command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "2"]
    run = subprocess.Popen(
        command, cwd=checkout.root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    checkout.make()
    for name in VIEWS:
        assert checkout.view(name) == finished.view(name), name


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("formats", ["it_row"], "params.yaml:2: formats[0]: unknown number format 'it_row'; did you mean 'int8_row'?"),
        ("methods", ["gptk"], "params.yaml:2: methods[0]: unknown method 'gptk'; did you mean 'gptq'?"),
        ("formatz", ["int4_b64"], "params.yaml:1: formatz: unknown key 'formatz'; did you mean 'formats'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(checkout: Checkout, key: str, value: object, line: str) -> None:
    checkout.params(**{key: value})
    before = sorted(checkout.root.joinpath("results").rglob("*"))
    done = checkout.snakemake()
    assert done.returncode == 2
    said = [one for one in done.stderr.splitlines() if one and not one.startswith("Using workflow specific profile")]
    assert [one.split(": ", 1)[1] for one in said if one.startswith("bitlaw: ")] == [line]
    assert len(said) == 1, done.stderr
    assert done.stdout == ""
    assert sorted(checkout.root.joinpath("results").rglob("*")) == before


def test_one_study_can_be_run_beside_another(checkout: Checkout) -> None:
    (checkout.root / "studies" / "one.yaml").write_text((checkout.root / "studies" / "small.yaml").read_text())
    checkout.study(formats=["int8_row"])
    done = checkout.snakemake("--config", "study=one", "--dry-run")
    # The page says which study it is of; all else is there.
    assert re.findall(r"^ *(report|laws|table|evaluate) +(\d+)", done.stdout + done.stderr, re.M) == [("report", "1")]
    assert checkout.jobs()["quantize"] == 2 * len(STUDY["methods"])

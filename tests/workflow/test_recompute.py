"""What a change recomputes: real dry runs of Snakemake over a finished study, jobs counted by rule."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from checkout import STUDY, WHOLE, Checkout, text

FINAL = {"table": 1, "laws": 1, "report": 1}


def test_a_bare_checkout_makes_everything_and_then_nothing(checkout: Checkout) -> None:
    assert checkout.jobs() == {}
    shutil.rmtree(checkout.root / "results")
    assert checkout.jobs() == WHOLE


def test_one_format_recomputes_its_cells_and_going_back_recomputes_nothing(checkout: Checkout) -> None:
    checkout.params(formats=["int5_b64", "mxint4_b32"])
    assert checkout.jobs() == {"quantize": 4, "evaluate": 4, **FINAL}
    before = {name: checkout.view(name) for name in ("table.parquet", "laws.json", "index.html")}
    checkout.make()
    assert checkout.jobs() == {}
    assert checkout.view("table.parquet") != before["table.parquet"]
    checkout.params()
    assert checkout.jobs() == {}
    assert "Nothing to be done" in checkout.make()
    # The files under fixed names follow the parameters although no job ran.
    assert {name: checkout.view(name) for name in before} == before


def override(**changes: object) -> Callable[[Checkout], None]:
    return lambda checkout: checkout.params(**changes)


def edit(module: str, old: str, new: str) -> Callable[[Checkout], None]:
    return lambda checkout: checkout.edit(module, old, new)


def write(name: str, seed: int) -> Callable[[Checkout], None]:
    def change(checkout: Checkout) -> None:
        (checkout.root / name).write_text(text(seed), "utf-8")

    return change


def upgrade(library: str) -> Callable[[Checkout], None]:
    """Return a change after which ``library`` says that it is another version."""

    def change(checkout: Checkout) -> None:
        record = checkout.root / "src" / f"{library}-99.0.dist-info" / "METADATA"
        record.parent.mkdir()
        record.write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 99.0\n", "utf-8")

    return change


def pretend(checkout: Checkout) -> None:
    """Put an empty file where each missing artifact would be; planning looks no closer."""
    done = checkout.run(sys.executable, "-m", "bitlaw", "plan", "--missing")
    assert done.returncode == 0, done.stderr
    for path in map(checkout.root.joinpath, done.stdout.splitlines()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def snapshot(checkout: Checkout) -> dict[Path, bytes]:
    """Return what a user can change, by path: all files but results and what tools keep."""
    kept = ("params.yaml", "studies", "src", "calibration.txt", "evaluation.txt")
    found = [path for name in kept for path in (checkout.root / name, *(checkout.root / name).rglob("*"))]
    return {path: path.read_bytes() for path in found if path.is_file() and path.suffix != ".pyc"}


def restore(checkout: Checkout, before: Mapping[Path, bytes]) -> None:
    """Put back what ``snapshot`` found, and remove what is new."""
    for path in snapshot(checkout).keys() - before.keys():
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    for path, data in before.items():
        path.write_bytes(data)


MORE_MODELS = [{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m", "opt-0.1m"]}]
CASES: dict[str, tuple[Callable[[Checkout], None], dict[str, int]]] = {
    "add a model": (
        override(models=MORE_MODELS),
        {"model": 1, "calibrate": 1, "factorize": 1, "quantize": 4, "evaluate": 5, **FINAL},
    ),
    "remove a format": (override(formats=["int4_b64"]), FINAL),
    "remove a method": (override(methods=["rtn"]), FINAL),
    "a setting of GPTQ": (
        override(methods=["rtn", {"name": "gptq", "damping": 0.02}]),
        {"factorize": 2, "quantize": 4, "evaluate": 4, **FINAL},
    ),
    "a setting of GPTQ that its factors do not depend on": (
        override(methods=["rtn", {"name": "gptq", "static_groups": True}]),
        {"quantize": 4, "evaluate": 4, **FINAL},
    ),
    "the default of a setting, spelled out": (override(methods=["rtn", {"name": "gptq", "damping": 0.01}]), {}),
    "the calibration's seed": (
        override(calibration={"seed": 1}),
        {"calibrate": 2, "factorize": 2, "quantize": 4, "evaluate": 4, **FINAL},
    ),
    "the calibration text": (
        write("calibration.txt", 20),
        {"calibrate": 2, "factorize": 2, "quantize": 4, "evaluate": 4, **FINAL},
    ),
    "the evaluation text": (write("evaluation.txt", 20), {"evaluate": 10, **FINAL}),
    "the evaluation's window": (override(evaluation={"window": 32, "stride": 31}), {"evaluate": 10, **FINAL}),
    "one more evaluation": (
        override(
            evaluation=[STUDY["evaluation"], {**STUDY["evaluation"], "name": "short", "window": 32, "stride": 32}]
        ),
        {"evaluate": 10, **FINAL},
    ),
    "zero-shot tasks": (
        override(tasks=[{"task": "lambada", "data": "evaluation.txt"}]),  # planning reads no question
        {"zeroshot": 10, **FINAL},
    ),
    "output errors": (override(output_sqnr=True), {"output_error": 8, **FINAL}),
    "the seed of the fits": (override(seed=1), {"laws": 1, "report": 1}),
    "the laws": (override(laws=["kumar"]), {"laws": 1, "report": 1}),
    "the title": (override(title="Another title"), {"report": 1}),
    "code of the GPTQ solver": (
        edit("methods/gptq_solver.py", "def solve(", "EDITED = True\n\n\ndef solve("),
        {"quantize": 4, "evaluate": 4, **FINAL},
    ),
    "code of RTN": (
        edit("methods/rtn.py", "METHOD: Method =", "EDITED = True\nMETHOD: Method ="),
        {"quantize": 4, "evaluate": 4, **FINAL},
    ),
    "code of one format": (
        edit("formats/integer.py", "KIND: Kind =", "EDITED = True\nKIND: Kind ="),
        {"quantize": 4, "evaluate": 4, **FINAL},
    ),
    "code of the calibration": (
        edit("models/calibration.py", "def moments(", "EDITED = True\n\n\ndef moments("),
        {"calibrate": 2, "factorize": 2, "quantize": 4, "evaluate": 4, **FINAL},
    ),
    "code of the evaluation": (
        edit("evaluation/nll.py", "def window_sums(", "EDITED = True\n\n\ndef window_sums("),
        {"evaluate": 10, **FINAL},
    ),
    "code of a law": (edit("laws/kumar.py", "LAW = ", "EDITED = True\nLAW = "), {"laws": 1, "report": 1}),
    "code of the report": (edit("report/page.py", "def page(", "EDITED = True\n\n\ndef page("), {"report": 1}),
    "code of the command line": (edit("cli/plan.py", "def _run(", "EDITED = True\n\n\ndef _run("), {}),
    "code of the planning": (edit("study/plan.py", "def present(", "EDITED = True\n\n\ndef present("), {}),
    "code of the pool": (edit("pool/worker.py", "def work(", "EDITED = True\n\n\ndef work("), {}),
    "another version of a library": (upgrade("torch"), {}),
    "versions of libraries in the keys": (override(strict_env=True), WHOLE),
}


@pytest.mark.parametrize("change", CASES)
def test_a_change_recomputes_what_depends_on_it_and_going_back_nothing(checkout: Checkout, change: str) -> None:
    apply, expected = CASES[change]
    before = snapshot(checkout)
    apply(checkout)
    assert snapshot(checkout) != before
    assert checkout.jobs() == expected
    restore(checkout, before)
    assert checkout.jobs() == {}


HUB = {"source": "hub", "repo": "someone/tiny", "name": "tiny"}


def test_one_models_revision_recomputes_what_is_made_from_that_model(checkout: Checkout) -> None:
    zoo = {"source": "zoo", "name": "gpt2-0.1m"}
    checkout.params(models=[zoo, {**HUB, "revision": "v1"}])
    pretend(checkout)
    assert checkout.jobs() == {}
    checkout.params(models=[zoo, {**HUB, "revision": "v2"}])
    assert checkout.jobs() == {"model": 1, "calibrate": 1, "factorize": 1, "quantize": 4, "evaluate": 5, **FINAL}
    checkout.params(models=[zoo, {**HUB, "revision": "v1"}])
    assert checkout.jobs() == {}


@pytest.mark.parametrize(
    ("library", "expected"),
    [("tokenizers", WHOLE), ("scipy", {"laws": 1, "report": 1}), ("altair", {"report": 1}), ("pyarrow", {})],
)
def test_an_upgrade_under_strict_env_recomputes_what_computes_with_the_library(
    checkout: Checkout, library: str, expected: dict[str, int]
) -> None:
    checkout.params(strict_env=True)
    pretend(checkout)
    before = snapshot(checkout)
    upgrade(library)(checkout)
    assert checkout.jobs() == expected
    restore(checkout, before)
    assert checkout.jobs() == {}


def test_comments_docstrings_and_layout_recompute_nothing(checkout: Checkout) -> None:
    for path in (checkout.root / "src" / "bitlaw").rglob("*.py"):
        source = path.read_text("utf-8")
        source = source.replace('"""', '"""Edited. ', 1) if source.startswith('"""') else source
        path.write_text(f"# A comment.\n{source}\n\n# Another one.\n", "utf-8")
    for path in (checkout.root / "workflow" / "rules").glob("*.smk"):
        path.write_text(f"# A comment.\n{path.read_text('utf-8')}", "utf-8")
    study = checkout.root / "studies" / "small.yaml"
    study.write_text(f"# A comment.\n{study.read_text('utf-8')}", "utf-8")
    assert checkout.jobs() == {}


def test_time_stamps_and_records_of_snakemake_decide_nothing(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".snakemake")
    chance = random.Random(0)
    for path in (checkout.root / "results").rglob("*"):
        moment = chance.uniform(1e9, 2e9)
        os.utime(path, (moment, moment))
    assert checkout.jobs() == {}


def test_results_of_evaluate_alone_are_enough(checkout: Checkout) -> None:
    for stage in ("model", "calibrate", "factorize", "quantize", "table", "laws", "report"):
        shutil.rmtree(checkout.root / "results" / stage)
    assert checkout.jobs() == FINAL


def test_another_users_results_are_joined(checkout: Checkout, finished: Checkout, tmp_path: Path) -> None:
    other = Checkout(tmp_path / "other")
    other.params(models=MORE_MODELS)
    shutil.copytree(finished.root / "results", other.root / "results")
    assert other.jobs() == {"model": 1, "calibrate": 1, "factorize": 1, "quantize": 4, "evaluate": 5, **FINAL}


def test_the_study_of_the_tests_is_what_was_counted() -> None:
    models, formats, methods = 2, len(STUDY["formats"]), len(STUDY["methods"])
    assert WHOLE["quantize"] == models * formats * methods
    assert WHOLE["evaluate"] == models * (formats * methods + 1)

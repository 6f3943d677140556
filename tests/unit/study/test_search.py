"""The search for the largest share: against every share of the order, and nothing made twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.study.load import load_study, validate
from bitlaw.study.search import search
from projects import Project

NAMED = ["--model", "gpt2-0.1m", "--format", "int3_b64", "--method", "rtn", "--select", "output_error"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Project(tmp_path_factory.mktemp("search") / "p").root


def run(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["search", "--root", str(root), *NAMED, "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (root / "results").rglob("*") if path.is_file()}


def test_it_finds_the_largest_share_and_makes_nothing_twice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = run(root, capsys, "--delta-nll", "100")
    assert everything["best"]["share"] == 1.0
    assert len(everything["probes"]) == 2
    limit = everything["best"]["delta_nll"] / 2
    found = run(root, capsys, "--delta-nll", str(limit))
    assert 0 < found["best"]["share"] < 1
    assert found["best"]["delta_nll"] <= limit
    # Bisection: the best is the largest share that was seen to meet the loss, and the next one did not.
    failed = min(probe["share"] for probe in found["probes"] if not probe["meets"])
    assert found["best"]["share"] < failed
    assert all(probe["meets"] == (probe["delta_nll"] <= limit) for probe in found["probes"])
    assert all((root / probe["path"]).is_file() for probe in found["probes"])
    before = files(root)
    assert run(root, capsys, "--delta-nll", str(limit)) == found
    assert files(root) == before
    # The same limit as a loss asks for the same cells.
    plain = found["probes"][0]["nll"]
    assert run(root, capsys, "--nll", str(plain + limit))["best"]["path"] == found["best"]["path"]
    assert files(root) == before


def test_it_is_monotone_in_what_is_allowed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = run(root, capsys, "--delta-nll", "100")["best"]["delta_nll"]
    shares = [run(root, capsys, "--delta-nll", str(whole * part))["best"]["share"] for part in (0.2, 0.5, 0.8, 1.0)]
    assert shares == sorted(shares)
    assert run(root, capsys, "--delta-nll", "0")["best"]["share"] < 0.5


def test_a_probe_is_the_cell_that_a_study_has(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(root, capsys, "--delta-nll", "0.05", "--granularity", "layer", "--high", "int8_b64")
    probe = next(one for one in found["probes"] if 0 < one["share"] < 1)
    mix = {"q_ratio": [0.5], "granularity": "layer", "select": "output_error", "high": "int8_b64"}
    project = Project(root.parent / "other", formats=["int3_b64"], methods=["rtn"], mixes=[mix])
    assert probe["path"] in {artifact.path for artifact in project.artifacts()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "gpt2-0.2m"], "--model: unknown model 'gpt2-0.2m'; did you mean 'gpt2-0.1m'"),
        (["--format", "int3_b6x"], "the command line: .*unknown number format 'int3_b6x'"),
        (["--method", "rtm"], "unknown method 'rtm'; did you mean 'rtn'"),
        (["--select", "output_eror"], "unknown order 'output_eror'; did you mean 'output_error'"),
        (["--select", "random"], "unknown order 'random'"),
        (["--high", "int3_b64"], "'int3_b64' is both the format and the high one"),
        (["--delta-nll", "nan"], "the loss must be a number"),
        (["--delta-nll", "-1"], "the unquantized model's loss, .*, is above what is asked"),
    ],
)
def test_mistakes(root: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    limit = [] if "--delta-nll" in options else ["--delta-nll", "0.1"]
    assert main(["search", "--root", str(root), *NAMED, *limit, *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said)


def test_a_selection_by_chance_has_no_order(root: Path) -> None:
    entry = {"q_ratio": [0.5], "granularity": "layer", "select": "random", "formats": ["int3_b64"], "methods": ["rtn"]}
    mix = validate({"models": [{"source": "zoo"}], "mixes": [entry]}, []).mixes[0]
    with pytest.raises(UserError, match="a search goes along an order, and 'random' gives none"):
        list(search(load_study(root), "gpt2-0.1m", mix, delta_nll=0.01))

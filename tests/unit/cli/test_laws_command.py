"""``bitlaw laws``: fits and comparison on any table, and one line for what cannot be fitted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import synthetic
from bitlaw.cli.main import main


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "table.parquet"
    synthetic.table().to_parquet(path)
    return str(path)


def run(*arguments: str) -> int:
    return main(["laws", *arguments])


def test_constants_intervals_warnings_and_the_comparison_are_printed(table: str, capsys) -> None:
    assert run("--table", table, "--law", "kumar", "--law", "power_offset", "--bootstraps", "20") == 0
    said = capsys.readouterr().out
    assert "## kumar: Loss added by quantization" in said
    assert "gamma_post = 0.6" in said and "bootstrap" in said and "profile" in said
    assert "warning: 4 degrees of freedom" in said
    assert "| `kumar` | 3 |" in said and "Which law to trust where:" in said


def test_json_has_everything(table: str, capsys) -> None:
    assert run("--table", table, "--law", "kumar", "--bootstraps", "5", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]["study"]["kumar"]["fits"][0]["constants"]
    assert found["comparison"]["study"]["groups"][0]["trust"]


def test_the_published_results_are_compared_source_by_source(capsys) -> None:
    assert run("--published", "--law", "kumar", "--compare") == 0
    said = capsys.readouterr().out
    assert "# gptq\n" in said and "# omniquant\n" in said
    assert "gptq, wikitext-2, GPTQ, windows of 2048" in said


def test_a_page_is_written_between_its_marks(table: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- laws: study -->\nold\n<!-- end -->\nafter\n", "utf-8")
    for _ in range(2):
        assert run("--table", table, "--law", "kumar", "--into", str(page)) == 0
    text = page.read_text("utf-8")
    assert text.startswith("before\n<!-- laws: study -->\n") and text.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in text and text.count("| `kumar` |") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--law", "kumr"], "--law: unknown law 'kumr'; did you mean 'kumar'?"),
        (["--table", "nowhere.parquet"], "nowhere.parquet: no such table; give a Parquet file"),
        (["--chinchilla", "nowhere.csv"], "nowhere.csv: no such file; it is a copy of github.com/epoch-research"),
        (["--published", "--into", "nowhere.md"], "nowhere.md: there is no '<!-- laws: published -->'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, capsys) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_table_that_no_law_can_be_fitted_to_is_one_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "few.parquet"
    synthetic.table(families=("opt",), sizes=(100_000,), formats=(("int", 4, "64"),)).to_parquet(path)
    assert run("--table", str(path), "--law", "kumar") == 2
    error = capsys.readouterr().err
    assert "no law can be fitted: no model has cells 0.5 bits apart" in error and error.count("\n") == 1

"""The published results: every line is sound, the traps of the sources are marked, and a bad line is named."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.published.load import EXTRA, UNNAMED, load, losses
from bitlaw.table import COLUMNS, UNQUANTIZED

FOLDER = Path(__file__).parents[3] / "data" / "published"


@pytest.fixture(scope="module")
def table():
    return load()


def test_the_table_has_the_columns_of_a_results_table(table):
    declared = [c.name for c in COLUMNS]
    assert [*table.columns] == [*declared, *(name for name in EXTRA if name not in declared)]
    assert all(table[c.name].dtype == c.dtype for c in COLUMNS)
    assert table["key"].is_unique


@pytest.mark.parametrize(
    ("source", "model", "form", "method", "text", "perplexity"),
    [
        ("gptq", "bloom-176b", UNQUANTIZED, "none", "wikitext-2", 8.11),
        ("gptq", "opt-175b", "int3_row_asym", "gptq", "ptb", 12.86),
        ("gptq", "opt-125m", "int4_row_asym", "rtn", "wikitext-2", 37.28),
        ("sharify", "llama-2-7b", "mxint4_b128", "gptq", "wikitext-2", 5.45),
        ("llama.cpp", "llama-2-7b", "q2_k", "gguf", "wikitext-2", 6.420104),
    ],
)
def test_cells_are_as_printed(table, source, model, form, method, text, perplexity):
    where = {"source": source, "model": model, "format": form, "method": method, "text": text}
    rows = table[(table[list(where)] == list(where.values())).all(axis=1)]
    assert rows["perplexity"].tolist() == [perplexity]
    assert rows["nll"].tolist() == [pytest.approx(math.log(perplexity))]


def test_deltas_are_against_the_same_source_text_and_window(table):
    rows = losses(table)
    baselines = rows[rows["format"] == UNQUANTIZED]
    assert (baselines["delta_nll"] == 0.0).all()
    row = rows[
        (rows["source"] == "sharify") & (rows["format"] == "mxint4_b128") & (rows["model"] == "llama-2-7b")
    ].iloc[0]
    assert row["delta_nll"] == pytest.approx(math.log(row["perplexity"] / 5.12))


def test_what_speaks_against_a_cell_is_marked(table):
    assert set(table.loc[table["model"] == "opt-66b", "flag"]) <= {"outlier", "suspect", ""}
    broken = table[(table["model"] == "opt-66b") & table["source"].isin(["gptq", "omniquant"])]
    assert broken["flag"].ne("").all()
    assert table["flag"].eq("suspect").sum() == 8 + 3 + 2
    assert not losses(table)["flag"].ne("").any()
    assert not table.loc[table["perplexity"].isna(), "finite"].any()


def test_effective_bits_are_those_of_the_grammar(table):
    import pandas as pd

    models = pd.read_csv(FOLDER / "models.csv").set_index("model")["width"]
    for row in table[table["source"].isin(["gptq", "omniquant", "awq", "sharify"])].itertuples():
        if row.format != UNQUANTIZED and row.model != UNNAMED:
            width = int(models[row.model])
            expected = grammar.parse(row.format).effective_bits((width, width))
            assert row.effective_bits == pytest.approx(expected, abs=6e-5), row.key


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "published")
    return tmp_path / "published"


def edited(folder: Path, line: int, old: str, new: str) -> str:
    path = folder / "gptq_paper.csv"
    lines = path.read_text("utf-8").splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(UserError) as caught:
        load(["gptq_paper"], folder=folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (2, "27.65", "x27", "gptq_paper.csv line 2, column value: Input should be a valid number"),
        (2, "27.65", "0.5", "a perplexity is at least 1"),
        (
            2,
            "opt-125m",
            "opt-125n",
            "line 2, column model: unknown model 'opt-125n'; did you mean 'opt-125m'?",
        ),
        (2, "gptq,", "gtpq,", "column source: unknown source 'gtpq'; did you mean 'gptq'?"),
        (2, ",none,none,", ",none,", "line 2: the line must have 18 values"),
        (11, "int4_row_asym,4", "int4_row_asym,3", "line 11: 'int4_row_asym' has 4 bits and block row"),
        (3, "opt-350m", "opt-125m", "line 3: the same cell as gptq_paper.csv line 2"),
        (1, "window", "windows", "line 1: the columns must be source, table"),
    ],
)
def test_a_bad_line_is_named(copy, line, old, new, said):
    assert said in edited(copy, line, old, new)


def test_a_wrong_file_name_gets_the_nearest():
    with pytest.raises(UserError, match="did you mean 'omniquant'"):
        load(["omniquants"])

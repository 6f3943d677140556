"""The table stage: joins, refusals, types and bytes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import synthetic
from bitlaw.artifacts import read_table, write_json
from bitlaw.errors import UserError
from bitlaw.reference.shipped import MADE
from bitlaw.stage import Header, Job
from bitlaw.stages.laws import STAGE as LAWS_STAGE
from bitlaw.stages.table import STAGE
from bitlaw.table import COLUMNS, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

MODEL = {"family": "gpt2", "architecture": "x", "n_params": 1000, "n_embedding": 500, "n_total": 1500, "vocab_size": 50,
         "context": 64, "n_tokens": None, "dtype": "float32", "tokenizer_sha256": "t"}  # fmt: skip
LABELS = {"model": "a", "family": "gpt2", "source": "zoo", "n_tokens": 9000, "format": "unquantized", "method": "none",
          "text": "manual", "calibration_text": None}  # fmt: skip
QUANTIZED = {
    "effective_bits": 4.25,
    "sqnr_db": 19.0,
    "weights": 800,
    "kept": 0,
    "format": "int4_b64",
    "method": "rtn",
    "settings": {},
}


class Cells:
    """Evaluate artifacts in a folder, and the job that makes a table of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows, self.paths, self.keys = folder, [], [], []
        self.others: dict[str, tuple[Path, ...]] = {}

    def add(
        self,
        nll: float,
        quantized: dict[str, Any] | None = None,
        text: str = "ab",
        window: int = 64,
        dtype: str = "float32",
        **labels: Any,
    ) -> None:
        spec = {
            "text": {"sha256": text},
            "window": window,
            "stride": 32,
            "max_tokens": None,
            "batch": 1,
            "dtype": dtype,
        }
        key = f"{len(self.keys):032x}"
        path = self.folder / f"{key}.json"
        result = {
            "nll": nll, "finite": math.isfinite(nll), "n_tokens": 500, "n_bytes": 1500, "bits_per_byte": nll / 3,
            "window": window, "stride": 32, "dtype": dtype,
            "kl": 0.25, "top1_agreement": 0.75, "part_nll": [nll], "part_tokens": [500],
            "model": MODEL, "quantized": quantized,
        }  # fmt: skip
        write_json(path, Header("evaluate", key, spec, {}, "c"), result)
        if quantized:
            labels = {"format": quantized["format"], "method": quantized["method"], **labels}
        self.rows.append({**LABELS, **labels})
        self.paths.append(path)
        self.keys.append(key)

    def job(self, out: str = "table.parquet") -> Job:
        header = Header("table", "k" * 32, {"rows": self.rows}, {"cells": self.keys}, "c")
        inputs = {"cells": tuple(self.paths), **self.others}
        return Job(header, inputs, self.folder / out, self.folder / "payload")

    def other(self, role: str, *results: dict[str, Any]) -> None:
        self.others[role] = tuple(self.folder / f"{role}-{place}.json" for place in range(len(results)))
        for path, result in zip(self.others[role], results, strict=True):
            write_json(path, Header(role, "0" * 32, {}, {}, "c"), result)

    def table(self) -> pd.DataFrame:
        job = self.job()
        STAGE.run(job)
        return read_table(job.out)


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path)


def test_a_row_joins_its_baseline_and_counts_its_bits(cells: Cells) -> None:
    cells.add(2.5, {**QUANTIZED, "settings": {"b": 1, "a": 2}})
    cells.add(2.0)
    cells.add(3.0, text="cd")
    table = cells.table()
    row = table[table["format"] == "int4_b64"].iloc[0]
    assert row["delta_nll"] == 0.5
    assert row["model_bits"] == 800 * 4.25 + 16 * 700
    assert (row["element"], row["bits"], row["block"]) == ("int4", 4, "64")
    assert row["settings"] == '{"a":2,"b":1}'
    assert row["perplexity"] == pytest.approx(math.exp(2.5))
    assert row["key"] == cells.keys[0] and row["n_tokens"] == 9000
    baseline = table[(table["format"] == "unquantized") & (table["text_sha256"] == "ab")].iloc[0]
    assert (baseline["effective_bits"], baseline["q_ratio"], baseline["delta_nll"]) == (16.0, 0.0, 0.0)
    assert baseline["model_bits"] == 16 * 1500 and math.isnan(baseline["sqnr_db"])


def test_weights_kept_in_16_bits_are_not_quantized_ones(cells: Cells) -> None:
    cells.add(2.0)
    cells.add(2.5, {**QUANTIZED, "method": "proxy", "settings": {"p": 0.02}, "kept": 16})
    row = cells.table().set_index("method").loc["proxy"]
    assert row["q_ratio"] == pytest.approx(0.98)
    assert row["model_bits"] == 800 * 4.25 + 16 * 700
    assert row["settings"] == '{"p":0.02}'


def test_calibration_is_in_the_row(cells: Cells) -> None:
    calibration = {"text": {"sha256": "ee"}, "samples": 8, "length": 32, "seed": 3}
    cells.add(2.0)
    cells.add(2.2, {**QUANTIZED, "method": "gptq", "calibration": calibration}, calibration_text="train")
    row = cells.table().set_index("method").loc["gptq"]
    assert (row["calibration_text"], row["calibration_text_sha256"]) == ("train", "ee")
    assert (row["calibration_samples"], row["calibration_length"], row["seed"]) == (8, 32, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, 800.0])
def test_a_loss_without_bounds_survives(cells: Cells, value: float) -> None:
    cells.add(2.0)
    cells.add(value, QUANTIZED)
    row = cells.table().set_index("format").loc["int4_b64"]
    assert row["finite"] == math.isfinite(value)
    assert row["nll"] == value or (math.isnan(row["nll"]) and math.isnan(value))
    assert row["perplexity"] == math.inf or math.isnan(value)


def test_each_window_has_its_own_baseline(cells: Cells) -> None:
    cells.add(2.0)
    cells.add(2.5, QUANTIZED)
    cells.add(2.1, QUANTIZED, window=48)
    with pytest.raises(
        UserError, match="no unquantized cell to compare with: a, int4_b64, rtn, text manual, window 48"
    ):
        cells.table()
    cells.add(1.9, window=48)
    assert sorted(cells.table()["delta_nll"].round(6)) == [0.0, 0.0, 0.2, 0.5]


def test_each_precision_has_its_own_baseline(cells: Cells) -> None:
    cells.add(2.0)
    cells.add(2.5, QUANTIZED)
    cells.add(2.1, dtype="bfloat16")
    cells.add(2.4, QUANTIZED, dtype="bfloat16")
    table = cells.table()
    assert sorted(zip(table["dtype"], table["delta_nll"].round(6), strict=True)) == [
        ("bfloat16", 0.0),
        ("bfloat16", 0.3),
        ("float32", 0.0),
        ("float32", 0.5),
    ]


def test_distances_are_in_the_row(cells: Cells) -> None:
    cells.add(2.0)
    assert cells.table()[["kl", "top1_agreement"]].to_numpy().tolist() == [[0.25, 0.75]]


def test_rows_find_what_they_share_by_its_place(cells: Cells) -> None:
    cells.other("output_error", {"output_sqnr_db": 12.5, "linears": {}})
    scores = [
        {"accuracy": value, "accuracy_stderr": 0.01, "tasks": [{"name": "lambada"}, {"name": "copa"}]}
        for value in (0.5, 0.4)
    ]
    cells.other("zeroshot", *scores)
    cells.add(2.0, zeroshot=0)
    cells.add(2.5, QUANTIZED, zeroshot=1, output_error=0)
    cells.add(3.0, text="cd", zeroshot=0)
    cells.add(3.5, QUANTIZED, text="cd", zeroshot=1, output_error=0)
    table = cells.table()
    quantized = table["format"] == "int4_b64"
    assert set(table.loc[quantized, "accuracy"]) == {0.4} and set(table.loc[~quantized, "accuracy"]) == {0.5}
    assert set(table["tasks"]) == {"lambada, copa"} and set(table["accuracy_stderr"]) == {0.01}
    assert (
        set(table.loc[quantized, "output_sqnr_db"]) == {12.5} and table.loc[~quantized, "output_sqnr_db"].isna().all()
    )


def test_what_is_not_measured_is_missing(cells: Cells) -> None:
    cells.add(2.0)
    (row,) = cells.table()[["accuracy", "accuracy_stderr", "tasks", "output_sqnr_db"]].isna().to_numpy().tolist()
    assert row == [True] * 4


def test_the_same_cell_twice_is_refused(cells: Cells) -> None:
    cells.add(2.0)
    cells.add(2.5, QUANTIZED)
    cells.add(2.5, QUANTIZED)
    with pytest.raises(UserError, match="2 cells are the same: a, int4_b64, rtn"):
        cells.table()


def test_types_are_those_declared_even_of_empty_columns(cells: Cells) -> None:
    cells.add(2.0, family=None, n_tokens=None)
    table = cells.table()
    assert list(table.columns) == [column.name for column in COLUMNS]
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {c.name: c.dtype for c in COLUMNS}
    assert table["family"].isna().all() and table["n_tokens"].isna().all()


def test_equal_cells_give_equal_bytes_in_any_order_of_rows(cells: Cells, tmp_path: Path) -> None:
    cells.add(2.0)
    cells.add(2.5, QUANTIZED)
    cells.add(2.3, {**QUANTIZED, "format": "int5_b64"})
    first, again = cells.job("first"), cells.job("again")
    STAGE.run(first)
    STAGE.run(again)
    assert first.out.read_bytes() == again.out.read_bytes()
    assert list(read_table(first.out)["format"]) == ["int4_b64", "int5_b64", "unquantized"]


def test_the_code_of_a_table_is_that_of_its_formats() -> None:
    rows = [{"format": "int4_b64"}, {"format": "unquantized"}, {"format": "mxint4_b32"}]
    assert STAGE.code({"rows": rows}) == ("bitlaw.formats.integer", "bitlaw.formats.mxint")


def test_the_documentation_has_every_column_as_declared() -> None:
    text = (Path(__file__).parents[3] / "docs" / "table.md").read_text("utf-8")
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert documented == [tuple(column) for column in (*COLUMNS, *MADE)]


def test_a_row_without_a_declared_column_is_an_error() -> None:
    row = synthetic.row()
    del row["nll"]
    with pytest.raises(KeyError, match="nll"):
        frame([row])


def test_the_laws_stage_reads_a_table(tmp_path: Path, write_synthetic: Callable[[Path], None]) -> None:
    write_synthetic(tmp_path / "table.parquet")
    spec = {"laws": {"kumar": {"saturated_above": 2.0}, "power_offset": {}}, "seed": 0, "bootstraps": 20}
    job = Job(
        Header("laws", "k", spec, {"table": ["t"]}, "c"),
        {"table": (tmp_path / "table.parquet",)},
        tmp_path / "out",
        tmp_path,
    )
    LAWS_STAGE.run(job)
    result = json.loads(job.out.read_text())["result"]
    assert set(result["laws"]) == {"kumar", "power_offset"}
    assert result["laws"]["kumar"]["settings"]["saturated_above"] == 2.0
    assert LAWS_STAGE.code(spec) == ("bitlaw.laws.kumar", "bitlaw.laws.power_offset")


@pytest.fixture
def write_synthetic() -> Callable[[Path], None]:
    from bitlaw.artifacts import write_table

    return lambda path: write_table(path, Header("table", "t", {}, {}, "c"), synthetic.table())

"""Each claim holds on a table made so, does not hold on one made the other way round, and stays open without data."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.claims import CLAIMS
from bitlaw.claims.base import FAILS, HOLDS, OPEN, above, mean
from bitlaw.claims.rows import pairs, prepared, whole
from bitlaw.claims.run import MOST_POINTS, run
from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.table import frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAMILIES = ("bloom", "gpt2", "llama", "neox", "opt", "pythia")
SIZES = (10**8, 10**9, 10**10)
Loss = dict[str, Any]


def made(cells: list[Loss], added: Callable[[Loss], float], seed: int = 0) -> pd.DataFrame:
    """Return a table of all ``FAMILIES`` and ``SIZES`` with ``cells``, whose loss ``added`` says, with 2 % noise."""
    rng, rows = np.random.default_rng(seed), []
    for family in FAMILIES:
        for n in SIZES:
            base = 5.0 - 0.2 * math.log10(n)
            model = {"model": f"{family}-{n}", "family": family, "n_params": n, "n_total": n}
            rows.append(synthetic.row(**model, nll=base, model_bits=16.0 * n))
            for cell in cells:
                bits = cell["bits"] + (16 / int(cell["block"]) if cell["block"].isdigit() else 0.0)
                delta = added({**cell, "n": n}) * math.exp(0.02 * rng.standard_normal())
                given = {"scale_rule": "absmax", "q_ratio": 1.0, "effective_bits": bits, "model_bits": n * bits}
                given |= {"delta_nll": delta, "nll": base + delta, **model, **cell}
                extra = {name: given.pop(name) for name in EXTRA if name in given}
                rows.append({**synthetic.row(**given), **extra})
                rows[-1]["key"] = "/".join(str(rows[-1][name]) for name in ("model", "format", "method", "q_ratio"))
                rows[-1]["key"] += f"/{extra.get('mix')}"
    table = frame(rows)
    found = {row["key"]: row for row in rows}
    for name in EXTRA:
        values = [found[key].get(name) for key in table["key"]]
        if any(value is not None for value in values):
            table[name] = values
    return table


EXTRA = ("output_sqnr_db", "mix", "accuracy", "step_db")


def cell(element: str, bits: int, block: str, method: str, **more: Any) -> Loss:
    name = f"{element}{bits}_{'b' + block if block.isdigit() else block}{more.pop('option', '')}"
    return {"format": name, "element": f"{element}{bits}", "bits": bits, "block": block, "method": method, **more}


def noise(one: Loss, per_block: float = 0.25) -> float:
    """Return a loss that falls by four for a bit and rises with the block."""
    block = int(one["block"]) if one["block"].isdigit() else 4096
    return 20.0 * 4.0 ** -one["bits"] * block**per_block * (one["n"] / 1e8) ** -0.3


KBIT = [cell("int", bits, block, "rtn") for bits in (3, 4, 5, 6, 8) for block in ("64", "1024")]


def mixed(better: str) -> pd.DataFrame:
    cells = [
        {**cell("mxint", 4, "32", "rtn"), "q_ratio": q, "mix": mix}
        for q in (0.5, 0.7, 0.9)
        for mix in ("layer", "matmul")
    ]
    gain = {better: 0.7}
    return made(cells, lambda c: gain.get(c["mix"], 1.0) * math.exp(4.0 * c["q_ratio"] - 5) * (c["n"] / 1e8) ** -0.4)


def with_rtn(method: str, gain: Callable[[Loss], float], bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)) -> pd.DataFrame:
    cells = [cell("int", b, "64", name) for b in bits for name in ("rtn", method)]
    return made(cells, lambda c: noise(c) * (gain(c) if c["method"] == method else 1.0))


def with_column(name: str, value: Callable[[Any], float]) -> pd.DataFrame:
    table = made([cell("int", b, "64", m) for b in (3, 4, 5) for m in ("rtn", "gptq")], noise)
    return table.assign(**{name: [value(row) for row in table.itertuples()]})


def option(gain: float, element: str = "int", name: str = "_centered") -> pd.DataFrame:
    cells = [cell("int", 4, "64", "rtn"), cell(element, 4, "64", "rtn", option=name)]
    return made(cells, lambda c: noise(c) * (gain if name and name in c["format"] else 1.0))


def types(gains: dict[str, float]) -> pd.DataFrame:
    cells = [cell(kind, 4, "64", "rtn") for kind in ("int", "quantile")] + [
        {**cell("fp", 4, "64", "rtn"), "format": "fp4_e2m1_b64", "element": "fp4_e2m1"}
    ]
    return made(
        cells, lambda c: noise(c) * gains.get("".join(x for x in c["element"].split("_")[0] if x.isalpha()), 1.0)
    )


def by_size(exponent: float) -> pd.DataFrame:
    return made(KBIT, lambda c: noise({**c, "n": 1e8}) * (c["n"] / 1e8) ** exponent)


def window(db: float) -> pd.DataFrame:
    """Return a table in which GPTQ saves most nats where RTN's SQNR is ``db``."""
    cells = [cell("int", b, "64", m) for b in (2, 3, 4, 5, 6, 8) for m in ("rtn", "gptq")]
    table = made(
        cells, lambda c: 1.0 if c["method"] == "rtn" else 1.0 - 0.5 * math.exp(-(((6.02 * c["bits"] - db) / 4) ** 2))
    )
    return table.assign(sqnr_db=6.02 * table["bits"].astype("float64"))


def forest(known: bool) -> pd.DataFrame:
    """Return a table whose losses follow from size and bits, or from nothing."""
    table = made(KBIT, noise)
    rng = np.random.default_rng(0)
    scaled = table["delta_nll"] if known else pd.Series(rng.uniform(0.0, 2.0, len(table)))
    return table.assign(delta_nll=scaled, nll=table["nll"] - table["delta_nll"] + scaled)


TRUE: dict[str, Callable[[], pd.DataFrame]] = {
    "four_bits": lambda: made(KBIT, lambda c: 0.0 if c["bits"] == 4 else 1.0 if c["bits"] == 3 else 0.05),
    "three_bits": lambda: by_size(0.3),
    "small_blocks": lambda: made(KBIT, noise),
    "data_types": lambda: types({"fp": 0.8, "quantile": 0.7}),
    "centering": lambda: option(1.0),
    "proxy": lambda: with_rtn("proxy", lambda c: 0.5 if c["bits"] == 3 else 1.1, (3, 4, 5)),
    "flatter": lambda: with_column("step_db", lambda row: 20 - 2 * math.log10(row.n_params)),
    "gptq_window": lambda: window(20),
    "gptq_outputs": lambda: with_column(
        "output_sqnr_db", lambda row: 20 + row.bits + (1.8 + 0.1 * math.sin(row.Index)) * (row.method == "gptq")
    ),
    "forest": lambda: forest(known=True),
    "mixed_size": lambda: mixed("matmul"),
    "granularity": lambda: mixed("matmul"),
    "blocks_and_size": lambda: made(KBIT, lambda c: noise({**c, "n": 1e8}) * (c["n"] / 1e8) ** -0.5),
    "accuracy": lambda: with_column("accuracy", lambda row: 0.9 - 0.1 * row.nll),
}
FALSE: dict[str, Callable[[], pd.DataFrame]] = {
    "four_bits": lambda: made(KBIT, lambda c: 0.0 if c["bits"] == 8 else 3.0),
    "three_bits": lambda: by_size(-0.3),
    "small_blocks": lambda: made(KBIT, lambda c: noise(c, per_block=-0.1)),
    "data_types": lambda: types({"fp": 1.3, "quantile": 0.7}),
    "centering": lambda: option(0.8),
    "proxy": lambda: with_rtn("proxy", lambda c: 1.2, (3, 4, 5)),
    "flatter": lambda: with_column("step_db", lambda row: 2 * math.log10(row.n_params)),
    "gptq_window": lambda: window(36),
    "gptq_outputs": lambda: with_column("output_sqnr_db", lambda row: 20 - (row.method == "gptq")),
    "forest": lambda: forest(known=False),
    "mixed_size": lambda: mixed_falling(),
    "granularity": lambda: mixed("layer"),
    "blocks_and_size": lambda: made(KBIT, lambda c: noise({**c, "n": 1e8}) * (c["n"] / 1e8) ** 0.5),
    "accuracy": lambda: with_column("accuracy", lambda row: 0.5 + 0.1 * math.sin(1000 * row.nll)),
}


def mixed_falling() -> pd.DataFrame:
    cells = [{**cell("mxint", 4, "32", "rtn"), "q_ratio": q, "mix": "layer"} for q in (0.5, 0.7, 0.9)]
    return made(cells, lambda c: math.exp(4.0 * c["q_ratio"] - 5) * (c["n"] / 1e8) ** 0.4)


def test_every_claim_has_a_table_either_way() -> None:
    assert set(TRUE) == set(FALSE) == set(CLAIMS)


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_claim_that_is_true_holds(name: str) -> None:
    (one,) = run(TRUE[name](), 0, [name])
    assert one["verdict"] == HOLDS, one["why"]
    assert one["low"] <= one["statistic"] <= one["high"] and one["n"] >= 5
    assert one["figure"]["points"]


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_claim_that_is_false_does_not_hold(name: str) -> None:
    (one,) = run(FALSE[name](), 0, [name])
    assert one["verdict"] == FAILS, (one["why"], one["statistic"], one["low"], one["high"])


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_claim_without_data_stays_open(name: str) -> None:
    bare = made([cell("ternary", 2, "none", "rtn")], lambda c: 0.1).query("family == 'opt'")
    bare = pd.concat(
        [bare, made([cell("int", 6, "row", "awq")], lambda c: 0.1).query("family == 'opt' and method == 'awq'")]
    )
    (one,) = run(bare, 0, [name])
    assert one["verdict"] == OPEN and one["why"]


def test_known_numbers_come_out() -> None:
    (outputs,) = run(TRUE["gptq_outputs"](), 0, ["gptq_outputs"])
    assert outputs["statistic"] == pytest.approx(1.8, abs=0.03) and "within" in outputs["why"]
    (blocks,) = run(TRUE["small_blocks"](), 0, ["small_blocks"])
    # Four halvings of the block are worth 0.25 * 4 / 2 bits, and their scales take 16 / 64 - 16 / 1024.
    assert blocks["statistic"] == pytest.approx(0.5 - 0.234, abs=0.03)
    (ratio,) = run(TRUE["mixed_size"](), 0, ["mixed_size"])
    assert ratio["statistic"] == pytest.approx(0.4 * math.log(10) / 4.0, abs=0.02)
    (flat,) = run(TRUE["flatter"](), 0, ["flatter"])
    assert flat["statistic"] == pytest.approx(2.0)


def test_the_same_seed_gives_the_same_verdicts_and_plain_values() -> None:
    table = pd.concat([TRUE["small_blocks"](), mixed("matmul")], ignore_index=True).drop_duplicates("key")
    found = run(table, 1)
    json.dumps(found, allow_nan=False)
    assert found == run(table.sample(frac=1.0, random_state=0), 1) or found == run(table, 1)
    assert all(one["figure"] is None or len(one["figure"]["points"]) <= MOST_POINTS for one in found)


def test_tables_that_no_claim_can_be_tested_on() -> None:
    table = TRUE["small_blocks"]()
    with pytest.raises(UserError, match="4 rows are too few"):
        run(table.head(4), 0)
    with pytest.raises(UserError, match="'delta_nll' of the table has no value"):
        run(table.assign(delta_nll=float("nan")), 0)
    with pytest.raises(UserError, match="no column 'nll'"):
        run(table.drop(columns="nll"), 0)
    with pytest.raises(UserError, match="2 rows are the same cell"):
        run(pd.concat([table, table.head(1).assign(key="x")]), 0)
    with pytest.raises(UserError, match="unknown claim 'centring'; did you mean 'centering'"):
        run(table, 0, ["centring"])


def test_cells_are_compared_within_one_evaluation_only() -> None:
    table = TRUE["granularity"]()
    layer, matmul = (table[(table["mix"] == mix) | table["mix"].isna()] for mix in ("layer", "matmul"))
    apart = pd.concat([layer, matmul.assign(text="novel")], ignore_index=True)
    (one,) = run(apart, 0, ["granularity"])
    assert one["verdict"] == OPEN


def test_pairs_differ_in_one_thing() -> None:
    rows = whole(prepared(with_rtn("gptq", lambda c: 0.5)))
    found = pairs(rows, rows[rows["method"] == "rtn"], rows[rows["method"] == "gptq"], ("method", "settings"))
    assert len(found) == 18 * 6 and (found["a"] / found["b"]).to_numpy() == pytest.approx(2.0, rel=0.2)
    assert pairs(rows, rows[rows["bits"] == 3], rows[rows["bits"] == 4], ("method",)).empty


def test_intervals_are_over_clusters() -> None:
    values, clusters = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    wide, narrow = mean(values, clusters, 0), mean(values, range(100), 0)
    assert wide is not None and narrow is not None
    assert (wide.low, wide.high) == (0.0, 1.0) and 0.35 < narrow.low < narrow.high < 0.65
    assert mean(values[:4], clusters[:4], 0) is None
    assert above(wide, 0.5, "said").verdict == OPEN and above(None, 0.5, "said").verdict == OPEN
    assert above(narrow, 0.2, "said").verdict == HOLDS and above(narrow, 0.8, "said").verdict == FAILS


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = tmp_path / "table.parquet", tmp_path / "page.md"
    TRUE["small_blocks"]().to_parquet(file)
    assert main(["claims", "small_blocks", "--table", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Smaller blocks help") and ": holds" in said
    page.write_text("before\n<!-- zoo -->\nwhat was there\n<!-- end -->\nafter\n")
    assert main(["claims", "--table", str(file), "--write", f"{page}:zoo"]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- zoo -->\n| claim |") and text.endswith("<!-- end -->\nafter\n")
    assert text.count("\n| ") == len(CLAIMS) + 2 and "what was there" not in text
    capsys.readouterr()
    assert main(["claims", "--table", str(file), "--write", f"{page}:other"]) == 2
    assert "has no lines <!-- other -->" in capsys.readouterr().err

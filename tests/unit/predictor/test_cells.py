"""What cannot be learned from is one clear error, never a fit."""

from __future__ import annotations

import pandas as pd
import pytest

import synthetic
from bitlaw.errors import UserError
from bitlaw.predictor.cells import collect, evaluations
from bitlaw.predictor.features import features


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return synthetic.table()


def test_quantized_cells_with_what_they_start_from(table: pd.DataFrame) -> None:
    cells = collect(table)
    assert len(cells.y) == (table["format"] != "unquantized").sum()
    assert cells.excluded == {"the baseline itself": 15}
    assert cells.rows["base_nll"].to_numpy() == pytest.approx((cells.rows["nll"] - cells.y).to_numpy())


def test_fewer_than_five_cells(table: pd.DataFrame) -> None:
    quantized = table[table["format"] != "unquantized"]
    assert len(collect(quantized.head(5)).y) == 5
    with pytest.raises(UserError, match="4 cells to learn from are too few; it takes 5"):
        collect(quantized.head(4))
    with pytest.raises(UserError, match="no rows"):
        collect(table.head(0))


@pytest.mark.parametrize("column", ["n_params", "effective_bits"])
def test_a_column_without_values(table: pd.DataFrame, column: str) -> None:
    with pytest.raises(UserError, match=f"'{column}' of the table has no value"):
        collect(table.assign(**{column: pd.Series([None] * len(table), dtype=table[column].dtype)}))
    with pytest.raises(UserError, match=f"no column '{column}'"):
        collect(table.drop(columns=column))


def test_no_loss_at_all(table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no cell has a delta_nll"):
        collect(table.assign(delta_nll=float("nan")))


def test_a_cell_twice(table: pd.DataFrame) -> None:
    again = pd.concat([table, table.tail(1).assign(key="other", nll=9.0)])
    with pytest.raises(UserError, match="2 rows are the same cell as another, the first is opt-1600000"):
        collect(again)


def test_evaluations_mixed(table: pd.DataFrame) -> None:
    other = table.assign(text="novel", key=table["key"] + "/novel", text_sha256="cd" * 32)
    both = pd.concat([table, other], ignore_index=True)
    with pytest.raises(UserError, match=r"mixes evaluations.*manual@128 \(225 cells\), novel@128 .*--text"):
        collect(both)
    assert set(collect(both, text="novel").rows["text"]) == {"novel"}
    assert set(collect(both, text="manual@128").rows["text"]) == {"manual"}
    assert list(evaluations(both).index) == ["manual@128", "novel@128"]
    with pytest.raises(UserError, match=r"unknown evaluation text 'navel'.*novel"):
        collect(both, text="navel")
    windows = pd.concat([table, table.assign(window=64, key=table["key"] + "/64")], ignore_index=True)
    with pytest.raises(UserError, match="mixes evaluations"):
        collect(windows, text="manual")


def test_a_loss_that_is_not_finite_is_left_out_and_counted(table: pd.DataFrame) -> None:
    broken = table.copy()
    broken.loc[broken["format"] == "int2_b64", "delta_nll"] = float("inf")
    assert collect(broken).excluded["no finite loss, or none of the unquantized model"] == 30


def test_accuracy_as_the_target(table: pd.DataFrame) -> None:
    cells = collect(table.assign(accuracy=0.6 - 0.1 * table["delta_nll"]), target="accuracy_drop")
    assert cells.y == pytest.approx(0.1 * cells.rows["delta_nll"].to_numpy("float64"))
    with pytest.raises(UserError, match="no zero-shot accuracy"):
        collect(table, target="accuracy_drop")


def test_features_say_what_rounding_to_nearest_does(table: pd.DataFrame) -> None:
    rows = features(collect(table.assign(sqnr_db=table["sqnr_db"] + table["method"].eq("gptq").astype("float64"))))
    by = rows.groupby(["model", "format"])["noise_db"].nunique()
    assert (by == 1).all()  # GPTQ's cell has the SQNR of RTN's
    assert set(rows.loc[rows["bits"] == 4, "noise_db"]) == {6.02 * 4}
    alone = features(collect(table.assign(sqnr_db=float("nan"))))
    assert alone.loc[alone["format"] == "int4_b64", "noise_db"].iloc[0] == pytest.approx(19.36, abs=0.2)


def test_a_feature_that_no_row_has_and_a_format_that_only_its_source_knows(table: pd.DataFrame) -> None:
    named = table.assign(sqnr_db=float("nan"), format=table["format"].replace("int4_b64", "q4_k_m"))
    rows = features(collect(named))
    assert rows["log_radial"].isna().all() and rows["noise_db"].notna().all()
    unknown = rows.loc[rows["format"] == "q4_k_m", "noise_db"].iloc[0]
    assert 15 < unknown < 25

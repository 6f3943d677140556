"""Shipped tables: small, exact where it matters, the same bytes for the same table, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.errors import DamagedArtifactError, UserError
from bitlaw.landscape.columns import LANDSCAPE_COLUMNS
from bitlaw.reference import shipped
from bitlaw.report.landscape import radial_points
from bitlaw.table import COLUMNS


def made(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` as it is shipped."""
    named = {name: pd.Series("1.0", index=table.index, dtype="string") for name in ("device", *shipped.VERSIONS)}
    return table.assign(**named, seconds=0.1, dollars=np.nan)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    table = made(synthetic.table())
    size = shipped.write(tmp_path / "a.parquet", table, {"table": "abc"})
    found = shipped.read(tmp_path / "a.parquet")
    assert size == (tmp_path / "a.parquet").stat().st_size
    assert list(found.columns) == [*(c.name for c in COLUMNS), *(c.name for c in shipped.MADE)]
    assert {name: str(kind) for name, kind in found.dtypes.items()} == {
        c.name: c.dtype for c in (*COLUMNS, *shipped.MADE)
    }
    for name in shipped.EXACT:
        assert found[name].equals(table[name])
    rest = [c.name for c in COLUMNS if c.name not in shipped.EXACT]
    pd.testing.assert_frame_equal(found[rest], table[rest], rtol=1e-6, check_exact=False)
    assert not found["perplexity"].equals(table["perplexity"])  # single precision
    assert shipped.about(tmp_path / "a.parquet") == {"table": "abc"}
    assert list(shipped.plain(found).columns) == [c.name for c in COLUMNS]


def test_equal_tables_are_equal_bytes_and_a_cell_takes_few(tmp_path: Path) -> None:
    texts = [synthetic.table(seed=seed).assign(text=f"text-{seed}") for seed in range(12)]
    table = made(pd.concat(texts, ignore_index=True))
    table["key"] = [f"{number:032x}" for number in np.random.default_rng(0).integers(0, 2**62, len(table))]
    first, again = (shipped.write(tmp_path / name, table) for name in ("a.parquet", "b.parquet"))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert first == again and first / len(table) < 150  # 35,000 cells in 5 MB, though a file has 15 kB to begin with


def test_a_damaged_file_and_one_that_is_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bitlaw pack"):
        shipped.read(tmp_path / "a.parquet")
    shipped.write(tmp_path / "a.parquet", made(synthetic.table()))
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[len(data) // 4] ^= 1
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(DamagedArtifactError, match="damaged"):
        shipped.read(tmp_path / "a.parquet")


def test_a_study_that_does_not_come_with_this_bitlaw_is_said_to_lack() -> None:
    with pytest.raises(UserError, match="comes without the reference study"):
        shipped.load("nothing.parquet")


def test_profiles_come_back_as_the_landscape_stage_says_them(tmp_path: Path) -> None:
    table = synthetic.table(families=("opt",))
    said = synthetic.landscapes(table)
    rows = [
        (model, kind, at, r_db, loss, radial["step"]["height"])
        for model, one in said.items()
        for kind, radial in one["radial"].items()
        for at, losses in enumerate(radial["delta_nll"])
        for r_db, loss in zip(radial["r_db"], losses, strict=True)
    ]
    points = pd.DataFrame(rows, columns=["model", "kind", "direction", "r_db", "delta_nll", "height"])
    shipped.write(tmp_path / "a.parquet", points)
    found = shipped.landscapes(shipped.read(tmp_path / "a.parquet"))
    assert found == said and "step_db" in LANDSCAPE_COLUMNS
    assert len(radial_points(found, table)) == 15

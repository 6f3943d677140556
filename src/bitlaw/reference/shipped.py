"""The files of a study that is shipped as data: what is in them, writing them small, and reading those of bitlaw.

Floats but those of ``EXACT`` are kept in single precision, which has more digits than a measured figure. They are split
into their bytes, of which the first hardly differ from cell to cell; all else is a dictionary.
"""

from __future__ import annotations

import io
import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_table, replace_file
from bitlaw.errors import UserError
from bitlaw.table import COLUMNS, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

RESULTS, LANDSCAPE, CURVES = "results.parquet", "landscape.parquet", "curves.parquet"
VERSIONS = ("torch", "transformers", "bitlaw")
MADE: tuple[Column, ...] = (
    Column("device", "string", "-", "What the loss was computed on."),
    *(Column(name, "string", "-", f"Version of {name} that the loss was computed with.") for name in VERSIONS),
    Column(
        "seconds",
        "float64",
        "s",
        "Wall time of the cell in its process: of its loss, and its share of what it has in common with other cells "
        "(quantized weights, factors, calibration, landscape); training not counted.",
    ),
    Column("dollars", "float64", "US dollars", "The same at the price of the device that `bitlaw pack` was given."),
)
"""Columns that a shipped table has beside those of ``bitlaw.table``."""
EXACT = ("nll", "delta_nll")
"""Losses keep every digit, so that laws and claims come out as they do from the study's own table."""
_ABOUT = b"bitlaw.shipped"


def write(path: Path, table: pd.DataFrame, about: Mapping[str, Any] | None = None) -> int:
    """Write ``table`` to ``path`` and return the bytes; equal tables give equal bytes with one version of pyarrow.

    Args:
        path: the file; it is replaced as a whole.
        table: any table; floats not named in ``EXACT`` lose what single precision does not hold.
        about: plain JSON values that are kept in the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    single = [name for name, kind in table.dtypes.items() if str(kind) == "float64" and name not in EXACT]
    arrow = pa.Table.from_pandas(table.astype(dict.fromkeys(single, "float32")), preserve_index=False)
    said = json.dumps(about or {}, sort_keys=True).encode()
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _ABOUT: said})
    floats = [field.name for field in arrow.schema if pa.types.is_floating(field.type)]
    repeated = [name for name in arrow.column_names if name not in floats and name != "key"]
    sink = io.BytesIO()
    pq.write_table(
        arrow,
        sink,
        compression="zstd",
        compression_level=19,
        row_group_size=max(1, len(table)),
        use_dictionary=repeated,
        use_byte_stream_split=floats,
        write_page_checksum=True,
    )
    replace_file(path, sink.getvalue())
    return len(sink.getvalue())


def is_there(name: str = RESULTS) -> bool:
    """Return whether the file ``name`` comes with this bitlaw."""
    return (files("bitlaw.reference") / "data" / name).is_file()


def read(path: Path) -> pd.DataFrame:
    """Return the table in ``path`` with floats in double precision.

    Raises:
        UserError: there is no such file.
        DamagedArtifactError: its checksums do not match.
    """
    if not path.is_file():
        raise UserError("no such file of shipped results; `bitlaw pack` writes them", place=str(path))
    table = read_table(path)
    single = [name for name, kind in table.dtypes.items() if str(kind) == "float32"]
    return table.astype(dict.fromkeys(single, "float64"))


def about(path: Path) -> dict[str, Any]:
    """Return what ``write`` was told of the table in ``path``; empty for a file that it did not write."""
    import pyarrow.parquet as pq

    found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_ABOUT, b"{}"))
    return found


def load(name: str = RESULTS) -> pd.DataFrame:
    """Return a table of the reference study that comes with bitlaw.

    Args:
        name: ``RESULTS``, with the columns of ``bitlaw.table`` and ``MADE``, ``LANDSCAPE`` or ``CURVES``.

    Raises:
        UserError: this bitlaw comes without it.
    """
    if not is_there(name):
        raise UserError("this bitlaw comes without the reference study", place=f"data/reference/{name}")
    with as_file(files("bitlaw.reference") / "data" / name) as path:
        return read(path)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with the columns of ``bitlaw.table`` alone, without how a cell was made."""
    return table[[column.name for column in COLUMNS if column.name in table.columns]]


def landscapes(points: pd.DataFrame) -> dict[str, Any]:
    """Return what the report knows of the loss around the weights of each model.

    Args:
        points: the table ``LANDSCAPE``, see ``bitlaw.study.pack.profiles``.

    Returns:
        by model ``{"radial": {kind: {"r_db", "delta_nll", "step": {"height"}}}}``, as the landscape stage says it.
    """
    found: dict[str, Any] = {}
    for (model, kind), part in points.groupby(["model", "kind"], sort=True):
        each = [one.sort_values("r_db") for _, one in part.groupby("direction", sort=True)]
        radial = {
            "r_db": [float(r) for r in each[0]["r_db"]],
            "delta_nll": [one["delta_nll"].astype("float64").tolist() for one in each],
            "step": {"height": float(part["height"].iloc[0])},
        }
        found.setdefault(str(model), {"radial": {}})["radial"][str(kind)] = radial
    return found

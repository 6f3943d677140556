"""The training runs behind Chinchilla's third approach, read off its figure by Epoch AI; not part of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.errors import UserError
from bitlaw.table import COLUMNS, UNQUANTIZED, frame

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

SOURCE = "github.com/epoch-research/analyzing-chinchilla @92258837, data/svg_extracted_data.csv"
HIGHEST_DROPPED = 5


def points(path: Path) -> pd.DataFrame:
    """Return the runs in ``path``, a copy of ``SOURCE``, as a results table of unquantized models.

    The five runs of highest loss are left out, as in Besiroglu et al. 2024 (arXiv 2404.10102), which leaves 240.
    ``n_params`` is all parameters, as the figure gives them; D = C / (6 N).

    Raises:
        UserError: the file is not there or has other columns.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"no such file; it is a copy of {SOURCE}", place=str(path))
    data = pd.read_csv(path)
    for column in ("Model Size", "Training FLOP", "loss"):
        if column not in data.columns:
            raise UserError(f"there is no column '{column}'", place=str(path))
    data = data.sort_values("loss", kind="stable").iloc[: len(data) - HIGHEST_DROPPED]
    known = {c.name: False if c.dtype == "bool" else None for c in COLUMNS}
    rows = [
        {
            **known,
            "model": f"run-{index}",
            "family": "chinchilla",
            "source": "epoch",
            "n_params": round(size),
            "n_total": round(size),
            "n_tokens": round(flop / (6.0 * size)),
            "format": UNQUANTIZED,
            "method": "none",
            "nll": loss,
            "finite": True,
            "text": "massive-text",
            "key": f"run-{index}",
        }
        for index, size, flop, loss in zip(
            data.index, data["Model Size"], data["Training FLOP"], data["loss"], strict=True
        )
    ]
    return frame(rows)

"""What is known of a model without running it: from its folder, from the table, or from its name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.formats.base import Format

LARGEST_READ = 2**28
"""Weight files of at most so many bytes are read to see what rounding does to them; larger ones would take long."""
ROW = 4096
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)\s*([bmk])(?![a-z0-9])")
_UNITS = {"b": 1e9, "m": 1e6, "k": 1e3}


@dataclass(frozen=True)
class Known:
    """A model that may never have been run.

    Attributes:
        name: what it is called.
        family: its family, if known.
        n_params: non-embedding parameters.
        n_total: all parameters.
        n_tokens: training tokens, if known.
        shapes: (out, in) of its quantizable linears; empty if not known.
        folder: where its files are, if on this machine.
        notes: what was assumed.
    """

    name: str
    family: str | None
    n_params: float
    n_total: float
    n_tokens: float | None
    shapes: tuple[tuple[int, int], ...] = ()
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    def effective_bits(self, fmt: Format) -> float:
        """Return the bits that a weight takes with scales: exact for known shapes, else of rows of ``ROW`` weights."""
        shapes = self.shapes or ((ROW, ROW),)
        return sum(fmt.storage_bits(shape) for shape in shapes) / sum(rows * columns for rows, columns in shapes)


def find(name: str, table: pd.DataFrame, *, params: float | None = None) -> Known:
    """Return what is known of the model ``name``; asks no network.

    Args:
        name: a folder in Hugging Face's form, the name of a model of ``table``, or any name that tells its size, such
            as ``EleutherAI/pythia-1.4b``.
        table: the results to learn from.
        params: non-embedding parameters, if the name does not tell.

    Raises:
        UserError: the size of the model cannot be told.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return _of_folder(folder)
    if folder.is_dir():
        raise UserError("the folder holds no config.json", place=name)
    models = table.dropna(subset=["n_params"]).drop_duplicates("model").set_index("model")
    plain = {_plain(model): model for model in models.index}
    if _plain(name) in plain:
        own = models.loc[plain[_plain(name)]]
        family = str(own["family"]) if isinstance(own["family"], str) else None
        tokens = own.get("n_tokens")
        return Known(
            str(own.name), family, float(own["n_params"]), float(own["n_total"]), _number(tokens), notes=()
        )  # fmt: skip
    family = _family(name, {str(one) for one in models["family"].dropna()})
    if params is not None:
        return Known(name, family, params, params, None, notes=("training tokens are not known",))
    sizes = _SIZE.findall(name.lower())
    if not sizes:
        hint = did_you_mean(name, models.index)
        raise UserError(f"'{name}' is no folder, no model of the table, and its name tells no size{hint}; add --params")
    total = float(sizes[-1][0]) * _UNITS[sizes[-1][1]]
    note = f"{total:.3g} parameters, from the name: embeddings are counted as if they were quantized"
    return Known(name, family, total, total, None, notes=(note,))


def _of_folder(folder: Path) -> Known:
    from bitlaw.models.describe import describe
    from bitlaw.models.files import n_tokens
    from bitlaw.models.load import skeleton

    about = describe(skeleton({"pretrained": str(folder), "revision": None, "trust_remote_code": False}))
    shapes = tuple((int(rows), int(columns)) for rows, columns in (linear["shape"] for linear in about["linears"]))
    tokens = _number(n_tokens(folder))
    return Known(
        folder.resolve().name, about["family"], about["n_params"], about["n_total"], tokens, shapes, folder
    )  # fmt: skip


def weights_db(known: Known, fmt: Format) -> float:
    """Return the SQNR in dB of the model's weights rounded to nearest; NaN where its files are not here or large."""
    if known.folder is None:
        return math.nan
    files = list(known.folder.glob("*.safetensors"))
    if not files or sum(file.stat().st_size for file in files) > LARGEST_READ:
        return math.nan
    from bitlaw.models.linears import quantizable
    from bitlaw.models.load import load_model

    model = load_model({"pretrained": str(known.folder), "revision": None, "trust_remote_code": False})
    power, noise = 0.0, 0.0
    for linear in quantizable(model):
        weight = linear.weight().contiguous()
        power += float(weight.double().square().sum())
        noise += float((fmt.fake_quantize(weight) - weight).double().square().sum())
    return 10.0 * math.log10(power / noise) if noise > 0 and power > 0 else math.nan


def _plain(name: str) -> str:
    """Return ``name`` as it is compared: without the owner, in small letters and digits."""
    return re.sub(r"[^a-z0-9.]", "", str(name).lower().rpartition("/")[2])


def _family(name: str, families: set[str]) -> str | None:
    """Return the family whose name is in ``name``; the longest of several."""
    fitting = [family for family in families if re.sub(r"[^a-z0-9.]", "", family.lower()) in _plain(name)]
    return max(fitting, key=len, default=None)


def _number(value: object) -> float | None:
    import pandas as pd

    return None if value is None or pd.isna(value) else float(str(value))  # type: ignore[call-overload]

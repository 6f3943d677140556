"""What is known of a model without running it: from its folder, from the table, or from its name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.errors import UserError, did_you_mean
from bitlaw.published.load import models as published

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
        layers: number of transformer blocks, if known.
        kv_width: numbers that a block keeps of a token as its key, and as many as its value, if known.
    """

    name: str
    family: str | None
    n_params: float
    n_total: float
    n_tokens: float | None
    shapes: tuple[tuple[int, int], ...] = ()
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    layers: int | None = None
    kv_width: int | None = None

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
        return of_folder(folder)
    if folder.is_dir():
        raise UserError("the folder holds no config.json", place=name)
    models = table.dropna(subset=["n_params"]).drop_duplicates("model").set_index("model")
    plain = {_plain(model): model for model in models.index}
    shipped = {_plain(label): model for label, model in published().items()}
    shape = shipped.get(_plain(name))
    layers, kv_width = (shape.layers, shape.kv_width) if shape else (None, None)
    if _plain(name) in plain:
        own = models.loc[plain[_plain(name)]]
        family = str(own["family"]) if isinstance(own["family"], str) else None
        sizes = float(own["n_params"]), float(own["n_total"]), _number(own.get("n_tokens"))
        return Known(str(own.name), family, *sizes, layers=layers, kv_width=kv_width)
    if shape is not None and params is None:
        tokens = _number(shape.n_tokens)
        return Known(shape.model, shape.family, shape.n_params, shape.n_total, tokens, layers=layers, kv_width=kv_width)
    family = _family(name, {str(one) for one in models["family"].dropna()})
    if params is not None:
        return Known(name, family, params, params, None, notes=("training tokens are not known",))
    total = size(name)
    if total is None:
        hint = did_you_mean(name, models.index)
        raise UserError(f"'{name}' is no folder, no model of the table, and its name tells no size{hint}; add --params")
    note = f"{total:.3g} parameters, from the name: embeddings are counted as if they were quantized"
    return Known(name, family, total, total, None, notes=(note,))


def size(name: str) -> float | None:
    """Return the parameters that ``name`` tells: 7e9 for ``my-model-7b``; ``None`` if it tells none."""
    sizes = _SIZE.findall(name.lower())
    return float(sizes[-1][0]) * _UNITS[sizes[-1][1]] if sizes else None


def of_folder(folder: Path, name: str | None = None) -> Known:
    """Return what the configuration in ``folder`` tells of a model.

    Args:
        folder: holds ``config.json`` at least.
        name: what to call it; the folder's name if not given.

    Raises:
        UserError: it is no causal language model, or one that cannot be quantized.
    """
    from bitlaw.models.describe import describe
    from bitlaw.models.files import n_tokens
    from bitlaw.models.load import skeleton

    model = skeleton({"pretrained": str(folder), "revision": None, "trust_remote_code": False})
    about, config = describe(model), model.config.get_text_config()
    shapes = tuple((int(rows), int(columns)) for rows, columns in (linear["shape"] for linear in about["linears"]))
    heads = getattr(config, "num_attention_heads", None)
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)
    return Known(
        name or folder.resolve().name,
        about["family"],
        about["n_params"],
        about["n_total"],
        _number(n_tokens(folder)),
        shapes,
        folder,
        layers=getattr(config, "num_hidden_layers", None),
        kv_width=shared * width if shared and width else None,
    )


def weights_db(known: Known, fmt: Format, largest: int = LARGEST_READ) -> float:
    """Return the SQNR in dB of the model's weights rounded to nearest; NaN where its files are not here.

    Args:
        known: the model.
        fmt: the format.
        largest: bytes of files above which they are not read either.
    """
    if known.folder is None:
        return math.nan
    files = list(known.folder.glob("*.safetensors"))
    if not files or sum(file.stat().st_size for file in files) > largest:
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

"""What laws of the loss that quantization adds have in common: which rows they are about, and how these are grouped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant, LawSettings, Problem, Selection
from bitlaw.table import UNQUANTIZED, element_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from bitlaw.laws.base import Array

    Pool = Callable[[pd.DataFrame], tuple[tuple[Constant, ...], tuple[str, ...]]]

ALWAYS = ("text", "window", "stride", "method")
MIXES = ("granularity", "mix", "high", "select", "select_settings")
IF_VARIED = ("settings", "calibration_text", "calibration_samples", "calibration_length", *MIXES)
# What an input must vary by before an exponent can be read off it: bits within one model, and a factor of sizes.
BITS_APART = 0.5
SIZES_APART = 2.0


class DamageSettings(LawSettings):
    """Settings of a law of ``delta_nll``.

    Attributes:
        huber: residuals of logarithms up to this count squared, larger ones linearly.
        saturated_above: cells that lose more than this (nats per token) are left out: the loss of a broken model is
            bounded by that of a guess, which the law does not know.
    """

    huber: float = Field(0.25, gt=0)
    saturated_above: float = Field(1.0, gt=0)


def drop_undamaged(selection: Selection) -> None:
    """Leave the quantized rows whose ``delta_nll`` has a logarithm."""
    selection.drop(selection.rows["format"] == UNQUANTIZED, "the baseline itself")
    selection.drop(selection.rows["delta_nll"].isna(), "there is no unquantized loss to compare with")
    selection.drop(selection.rows["delta_nll"] <= 0, "delta_nll is zero or negative: it has no logarithm")


def drop_mixed(selection: Selection) -> None:
    """Leave the rows of which all weights were quantized, but for single ones that a method keeps."""
    if "mix" in selection.rows.columns:
        mix = selection.rows["mix"].astype("string").fillna("none")
        selection.drop(mix != "none", "only a share of the weights was quantized, which the law does not know")


def drop_saturated(selection: Selection, above: float) -> None:
    """Leave the rows that lose at most ``above`` nats per token."""
    selection.drop(selection.rows["delta_nll"] > above, f"saturated: delta_nll above {above:g} nats")


def grouped(
    rows: pd.DataFrame, always: tuple[str, ...] = ALWAYS, varied: tuple[str, ...] = IF_VARIED
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield the rows of each text, method and what else must not be mixed, with what they have in common."""
    if rows.empty:
        return
    varied = tuple(name for name in varied if name in rows.columns)
    for values, part in rows.groupby([*always, *varied], sort=True, dropna=False):
        by = {name: str(value) for name, value in zip((*always, *varied), values, strict=True)}
        of_method = rows[rows["method"] == by["method"]]
        yield {name: by[name] for name in by if name in always or of_method[name].nunique(dropna=False) > 1}, part


def problems(
    pool: Pool,
    *also: str,
    varied: tuple[str, ...] = IF_VARIED,
    bits: bool = False,
    mixed: bool = False,
    ratios: bool = False,
) -> Callable[[Selection, DamageSettings], list[Problem]]:
    """Return the selection of a law of ``delta_nll``: a problem for each text and method.

    Args:
        pool: the law's ``pool``.
        also: further columns that are not mixed, ``element`` standing for the kind of element.
        varied: columns that are not mixed where a method ran with several values.
        bits: whether a problem must have cells of one model ``BITS_APART``.
        mixed: whether the law knows cells in which only a share of the weights was quantized.
        ratios: whether only formats are of interest in which several shares of the weights were quantized.
    """

    def select(selection: Selection, settings: DamageSettings) -> list[Problem]:
        drop_undamaged(selection)
        if not mixed:
            drop_mixed(selection)
        drop_saturated(selection, settings.saturated_above)
        if ratios and len(selection.rows):
            several = selection.rows.groupby(["text", "method", "format"])["q_ratio"].transform("nunique") > 1
            selection.drop(~several, "only one share of the weights was quantized in this format")
        rows = selection.rows
        rows = rows.assign(element=element_kind(rows)) if "element" in also else rows
        found = []
        for by, part in grouped(rows, (*ALWAYS, *also), varied):
            effective = part.groupby("model")["effective_bits"]
            if bits and (effective.max() - effective.min()).max() < BITS_APART:
                reason = f"no model has cells {BITS_APART:g} bits apart: what bits do cannot be seen"
                selection.refuse(by, len(part), reason)
                continue
            constants, notes = pool(part)
            found.append(Problem(by, part, constants, notes=notes))
        return found

    return select


def sizes_vary(rows: pd.DataFrame) -> bool:
    """Return whether the sizes differ by a factor from which an exponent can be read."""
    return bool(rows["n_params"].max() >= SIZES_APART * rows["n_params"].min())


def tokens_vary(rows: pd.DataFrame) -> bool:
    """Return whether log D moves on its own: by more than a tenth (as e-folds) once log N is taken out."""
    import numpy as np

    log_n, log_d = (np.log(rows[name].to_numpy("float64")) for name in ("n_params", "n_tokens"))
    design = np.stack([np.ones_like(log_n), log_n], axis=1)
    rest = log_d - design @ np.linalg.lstsq(design, log_d, rcond=None)[0]
    return bool(rest.std() > 0.1)


def hold_n(rows: pd.DataFrame, constant: Constant, notes: list[str]) -> Constant:
    """Return the exponent of size, held at what is published where the sizes of ``rows`` cannot tell it."""
    if sizes_vary(rows):
        return constant
    return constant.hold_published(f"the sizes differ by less than a factor of {SIZES_APART:g}", notes)


def hold_d(rows: pd.DataFrame, constant: Constant, notes: list[str]) -> Constant:
    """Return the exponent of training tokens, held at what is published where ``rows`` cannot tell it."""
    if tokens_vary(rows):
        return constant
    return constant.hold_published("the training tokens do not vary independently of the parameters", notes)


def hold_unvaried(rows: pd.DataFrame, column: str, constant: Constant, notes: list[str]) -> Constant:
    """Return the constant that belongs to ``column``, held at what is published where the column has one value."""
    if rows[column].nunique() > 1:
        return constant
    return constant.hold_published(f"{column} does not vary", notes)


def clipped_exp(exponent: Array) -> Array:
    """Return exp of ``exponent``, elementwise; a fit may drive it anywhere, and there is no overflow."""
    import numpy as np

    return np.asarray(np.exp(np.clip(exponent, -700.0, 700.0)))

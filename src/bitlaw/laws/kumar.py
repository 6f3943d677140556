"""Loss added by quantization after training, against size, training tokens and bits (Kumar et al. 2024)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from bitlaw.laws.base import Constant, Law, LawSettings, Problem, Selection
from bitlaw.table import UNQUANTIZED, element_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from bitlaw.laws.base import Array, Values


ALWAYS = ("text", "window", "stride", "method", "element")
IF_VARIED = ("settings", "calibration_text", "calibration_samples", "calibration_length")
# What an input must vary by before an exponent can be read off it: bits within one model, and a factor of sizes.
BITS_APART = 0.5
SIZES_APART = 2.0


class Settings(LawSettings):
    """Settings of ``kumar``.

    Attributes:
        saturated_above: cells that lose more than this (nats per token) are left out: the loss of a broken model is
            bounded by that of a guess, which the law does not know.
    """

    huber: float = Field(0.25, gt=0)
    saturated_above: float = Field(1.0, gt=0)


C_T = Constant("C_T", "C_T", "scale", (1e-12, 1e12), (1e-6, 1e4), log=True, published=0.0598)
GAMMA_D = Constant("gamma_D", r"\gamma_D", "exponent of training tokens", (-3.0, 3.0), (0.0, 1.0), published=0.5068)
GAMMA_N = Constant("gamma_N", r"\gamma_N", "exponent of size", (-3.0, 3.0), (0.0, 1.0), published=0.3439)
GAMMA_POST = Constant(
    "gamma_post",
    r"\gamma_{post}",
    "bits in which the loss falls by e",
    (0.05, 20.0),
    (0.2, 2.0),
    log=True,
    published=0.5907,
)


def function(inputs: Values, constants: Values) -> Array:
    """Return C_T D^gamma_D N^-gamma_N exp(-P / gamma_post) in nats per token."""
    import numpy as np

    size = np.log(inputs["n_tokens"]) * constants["gamma_D"] - np.log(inputs["n_params"]) * constants["gamma_N"]
    exponent = np.log(constants["C_T"]) + size - inputs["effective_bits"] / constants["gamma_post"]
    return np.asarray(np.exp(np.clip(exponent, -700.0, 700.0)))


def plain(constants: Mapping[str, float]) -> str:
    """Return what a bit and ten times the parameters do, as far as ``constants`` tell."""
    said = []
    if "gamma_post" in constants:
        said.append(f"one more bit divides it by {math.exp(1.0 / constants['gamma_post']):.2g}")
    if "gamma_N" in constants:
        exponent = constants["gamma_N"]
        does = "divide" if exponent >= 0 else "multiply"
        said.append(f"ten times the parameters {does} it by {10.0 ** abs(exponent):.2g}")
    return ", ".join(said)


def select(selection: Selection, settings: Settings) -> list[Problem]:
    """Return one problem for each text, method and kind of element, and for each setting that a method was run with."""
    selection.drop(selection.rows["format"] == UNQUANTIZED, "the baseline itself")
    selection.drop(selection.rows["delta_nll"] <= 0, "delta_nll is zero or negative: it has no logarithm")
    saturated = f"saturated: delta_nll above {settings.saturated_above:g} nats"
    selection.drop(selection.rows["delta_nll"] > settings.saturated_above, saturated)
    rows = selection.rows.assign(element=element_kind(selection.rows))
    problems = []
    for values, part in rows.groupby([*ALWAYS, *IF_VARIED], sort=True, dropna=False):
        by = {name: str(value) for name, value in zip((*ALWAYS, *IF_VARIED), values, strict=True)}
        of_method = rows[rows["method"] == by["method"]]
        by = {name: by[name] for name in by if name in ALWAYS or of_method[name].nunique(dropna=False) > 1}
        bits = part.groupby("model")["effective_bits"]
        if (bits.max() - bits.min()).max() < BITS_APART:
            reason = f"no model has cells {BITS_APART:g} bits apart: gamma_post has nothing to be seen in"
            selection.refuse(by, len(part), reason)
        else:
            problems.append(_problem(by, part))
    return problems


def _problem(by: dict[str, str], rows: pd.DataFrame) -> Problem:
    """Hold the exponents that the rows cannot tell."""
    notes = ["C_T stands for the paper's C_T times exp(b): its offset b = 1.1277 cannot be told from C_T."]
    gamma_n, gamma_d = GAMMA_N, GAMMA_D
    if rows["n_params"].max() < SIZES_APART * rows["n_params"].min():
        gamma_n = _held(GAMMA_N, f"the sizes differ by less than a factor of {SIZES_APART:g}", notes)
    if not _independent(rows):
        gamma_d = _held(GAMMA_D, "the training tokens do not vary independently of the parameters", notes)
    return Problem(by, rows, (C_T, gamma_d, gamma_n, GAMMA_POST), notes=tuple(notes))


def _held(constant: Constant, reason: str, notes: list[str]) -> Constant:
    assert constant.published is not None
    notes.append(f"{constant.name} is held at the published {constant.published:g}: {reason}.")
    return constant.hold(constant.published)


def _independent(rows: pd.DataFrame) -> bool:
    """Return whether log D moves on its own: by more than a tenth (as e-folds) once log N is taken out."""
    import numpy as np

    log_n, log_d = (np.log(rows[name].to_numpy("float64")) for name in ("n_params", "n_tokens"))
    design = np.stack([np.ones_like(log_n), log_n], axis=1)
    rest = log_d - design @ np.linalg.lstsq(design, log_d, rcond=None)[0]
    return bool(rest.std() > 0.1)


LAW = Law(
    name="kumar",
    title="Loss added by quantization",
    formula=r"\delta(N, D, P) = C_T \, \frac{D^{\gamma_D}}{N^{\gamma_N}} \, \exp\left(-\frac{P}{\gamma_{post}}\right)",
    source="Kumar et al. 2024, arXiv:2411.04330, post-training term, constants of Table 2",
    target="delta_nll",
    inputs=("n_params", "n_tokens", "effective_bits"),
    constants=(C_T, GAMMA_D, GAMMA_N, GAMMA_POST),
    function=function,
    select=select,
    settings=Settings,
    resample="model",
    plain=plain,
)

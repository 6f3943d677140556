"""The results table: one row per cell, tidy. Every column is declared here and documented in ``docs/table.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

UNQUANTIZED = "unquantized"


class Column(NamedTuple):
    """One column.

    Attributes:
        name: its name in the file.
        dtype: pandas dtype: ``string`` and ``Int64`` may be missing, ``float64`` may be NaN or infinite, ``bool``.
        unit: unit of its values, or ``-``.
        meaning: one sentence.
    """

    name: str
    dtype: str
    unit: str
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("model", "string", "-", "Label of the model in the study."),
    Column("family", "string", "-", "Family of the model; missing if the study names none."),
    Column("source", "string", "-", "Where the model came from: the name of the model source."),
    Column("n_params", "Int64", "parameters", "N: all parameters but embeddings and an untied head."),
    Column("n_total", "Int64", "parameters", "All parameters of the model."),
    Column("n_tokens", "Int64", "tokens", "D: tokens the model was trained on; missing if unknown."),
    Column("format", "string", "-", "Canonical name of the number format; `unquantized` for the baseline."),
    Column("element", "string", "-", "Element type of the format; `none` for the baseline."),
    Column("bits", "Int64", "bits", "Bits of one element, scales not counted; 16 for the baseline."),
    Column("block", "string", "weights", "Weights that share a scale: a number, `row` or `none`."),
    Column("scale_rule", "string", "-", "How a scale follows from its block; `none` for the baseline."),
    Column("scale_dtype", "string", "-", "How a scale is stored; `none` for the baseline."),
    Column(
        "effective_bits",
        "float64",
        "bits per weight",
        "Stored bits per quantizable weight with scales, weights kept in 16 bits counted; 16 for the baseline.",
    ),
    Column("method", "string", "-", "Rounding method; `none` for the baseline."),
    Column("settings", "string", "-", "Settings of the method as canonical JSON."),
    Column("seed", "Int64", "-", "Seed of the calibration sample; missing where nothing was calibrated."),
    Column("q_ratio", "float64", "-", "Share of the quantizable parameters in the format; 0 for the baseline."),
    Column("mix", "string", "-", "What is chosen as a whole in a mixed cell: `layer` or `matmul`; else `none`."),
    Column(
        "high", "string", "-", "Format of the weights of a mixed cell that `format` does not hold; `none`: 16 bits."
    ),
    Column("select", "string", "-", "How the share in the format was chosen; `none` where all weights are in it."),
    Column("select_settings", "string", "-", "Settings of the selection as canonical JSON."),
    Column("q_target", "float64", "-", "Share that a mixed cell was to have; its units come as near as they can."),
    Column("trial", "Int64", "-", "Number of the random trial of a mixed cell; missing without trials."),
    Column(
        "model_bits", "float64", "bits", "Bits of the whole model: quantized weights at effective bits, all else at 16."
    ),
    Column("sqnr_db", "float64", "dB", "Signal to quantization noise ratio of the weights; NaN for the baseline."),
    Column("nll", "float64", "nats per token", "Mean negative log-likelihood of the text."),
    Column(
        "delta_nll",
        "float64",
        "nats per token",
        "nll minus the nll of the same model, unquantized, on the same windows.",
    ),
    Column("perplexity", "float64", "-", "exp(nll)."),
    Column(
        "bits_per_byte", "float64", "bits per byte", "Total negative log-likelihood in bits over the bytes of the text."
    ),
    Column(
        "kl",
        "float64",
        "nats per token",
        "Mean KL divergence from the unquantized model's token distribution; 0 for the baseline.",
    ),
    Column(
        "top1_agreement",
        "float64",
        "-",
        "Share of predicted tokens at which the unquantized model rates the same one highest; 1 for the baseline.",
    ),
    Column(
        "output_sqnr_db",
        "float64",
        "dB",
        "Signal to noise ratio of all linears' outputs on the calibration text; NaN if not measured.",
    ),
    Column("accuracy", "float64", "-", "Mean zero-shot accuracy over the tasks; NaN without tasks."),
    Column("accuracy_stderr", "float64", "-", "Standard error of `accuracy`, the tasks taken as independent."),
    Column("tasks", "string", "-", "The zero-shot tasks, in the order of the study; missing if there are none."),
    Column("finite", "bool", "-", "Whether every loss of the cell is a finite number."),
    Column("window", "Int64", "tokens", "Length of an evaluation window."),
    Column("stride", "Int64", "tokens", "Step from one window to the next."),
    Column("dtype", "string", "-", "Precision that the loss was computed in."),
    Column("eval_tokens", "Int64", "tokens", "Predicted tokens in the mean."),
    Column("eval_bytes", "Int64", "bytes", "UTF-8 bytes of the predicted tokens."),
    Column("text", "string", "-", "Label of the evaluation text."),
    Column("text_sha256", "string", "-", "SHA-256 of the evaluation text."),
    Column("step_db", "float64", "dB", "SQNR at which the loss begins to climb along random directions."),
    Column("step_error_db", "float64", "dB", "Standard error of step_db over directions."),
    Column("step_width_db", "float64", "dB", "From where the loss begins to climb to where it has nearly climbed."),
    Column(
        "radial_delta_nll",
        "float64",
        "nats per token",
        "What random noise of the cell's SQNR adds, by the model's radial profile; NaN outside of it.",
    ),
    Column("hessian_trace", "float64", "nats per token", "Trace of the loss's Hessian in the quantizable weights."),
    Column("hessian_trace_error", "float64", "nats per token", "Standard error of hessian_trace over probes."),
    Column("top_eigenvalue", "float64", "nats per token", "Largest eigenvalue of that Hessian."),
    Column(
        "noise_sensitivity",
        "float64",
        "nats per token",
        "What random noise as strong as the weights would add by that trace; a tenth of it at 10 dB.",
    ),
    Column("error_step_db", "float64", "dB", "As step_db, along the cell's own quantization error."),
    Column("error_step_width_db", "float64", "dB", "As step_width_db, along the cell's own quantization error."),
    Column("gradient_term", "float64", "nats per token", "First-order change of the loss by the quantization error."),
    Column("curvature_term", "float64", "nats per token", "Second-order change: half the error's quadratic form."),
    Column(
        "predicted_delta_nll",
        "float64",
        "nats per token",
        "gradient_term plus curvature_term: delta_nll if the loss were a parabola.",
    ),
    Column("landscape_text_sha256", "string", "-", "SHA-256 of the landscape's text; missing where none was measured."),
    Column("landscape_tokens", "Int64", "tokens", "Predicted tokens in the landscape's losses."),
    Column("calibration_text", "string", "-", "Label of the calibration text; missing where nothing was calibrated."),
    Column("calibration_text_sha256", "string", "-", "SHA-256 of the calibration text."),
    Column("calibration_samples", "Int64", "samples", "Number of calibration samples."),
    Column("calibration_length", "Int64", "tokens", "Tokens in a calibration sample."),
    Column("key", "string", "-", "Key of the evaluate artifact that the row was made from."),
)

MIX_IDENTITY = ("mix", "high", "select", "select_settings", "q_target", "trial")
"""Columns that tell mixed cells of one format and method apart."""

SORTED_BY = ("family", "n_params", "model", "format", "method", "settings", *MIX_IDENTITY, "key")


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return ``rows`` as a table with exactly the declared columns and dtypes, sorted by ``SORTED_BY``.

    Args:
        rows: one mapping per cell with a value for every declared column; ``None`` is missing.

    Raises:
        KeyError: a row lacks a declared column.
    """
    import pandas as pd

    data = {c.name: pd.Series([_value(row[c.name], c.dtype) for row in rows], dtype=c.dtype) for c in COLUMNS}
    return pd.DataFrame(data).sort_values(list(SORTED_BY), kind="stable", na_position="last", ignore_index=True)


def _value(value: Any, dtype: str) -> Any:
    return float("nan") if value is None and dtype == "float64" else value


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``table`` in which all weights are in one precision: all but the mixed cells."""
    return table[~is_mixed(table)]


def is_mixed(table: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows of ``table`` are mixed cells; none of a table that does not tell."""
    import pandas as pd

    if "mix" not in table:
        return pd.Series(False, index=table.index)
    return table["mix"].fillna("none") != "none"


PLAIN_RULES = ("none", "absmax", "floor", "absmean", "two-level")
"""The scale rules that need no word beside the element: each is the usual one of its elements."""


def element_kind(table: pd.DataFrame) -> pd.Series[str]:
    """Return the kind of each row's element: its type without the width, and a scale rule that is not the usual one.

    ``mxint`` for ``mxint3``, ``mxfp even`` for ``mxfp4_e2m1`` with the scale rule ``even``.
    """
    kind = table["element"].astype("string").str.extract("^([A-Za-z]+)", expand=False).fillna("none")
    rule = table["scale_rule"].astype("string").fillna("none")
    return kind.where(rule.isin(PLAIN_RULES), kind + " " + rule)

"""table: the evaluate results of all cells as one tidy Parquet file (columns: ``bitlaw.table``)."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import canonical, read_header, read_json, write_table
from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.landscape.columns import LANDSCAPE_COLUMNS, of_error, of_model, radial_delta_nll, radial_profile
from bitlaw.table import MIX_IDENTITY, UNQUANTIZED, frame

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from pathlib import Path

    from bitlaw.stage import Job


class Table:
    """Spec: ``rows``, labels, one mapping per cell. Parents: ``cells``, their losses in the same order.

    If there are parents ``zeroshot``, ``output_error``, ``landscape`` (of the model) and ``error_landscape`` (of the
    cell), which several rows share, a row has under these names the place of its own, if it has one.
    """

    suffix = ".parquet"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules that say what the format names of the rows mean."""
        names = {row["format"] for row in spec["rows"]} - {UNQUANTIZED}
        return tuple(sorted({module for name in names for module in grammar.modules(name)}))

    def run(self, job: Job) -> None:
        """Write the table of ``job.inputs["cells"]``.

        Raises:
            UserError: two rows are the same cell, or a quantized cell has no unquantized one to compare with.
        """
        cells = zip(job.spec["rows"], job.inputs["cells"], job.header.parents["cells"], strict=True)
        others = {
            "zeroshot": [_zeroshot(read_json(path)) for path in job.inputs.get("zeroshot", ())],
            "output_error": [_output_error(read_json(path)) for path in job.inputs.get("output_error", ())],
            "landscape": [of_model(path) for path in job.inputs.get("landscape", ())],
            "error_landscape": [of_error(path) for path in job.inputs.get("error_landscape", ())],
        }
        profiles = [radial_profile(path) for path in job.inputs.get("landscape", ())]
        rows = collect([(labels, path, key) for labels, path, key in cells])
        for labels, row in zip(job.spec["rows"], rows, strict=True):
            for role in others.keys() & labels.keys():
                row.update(others[role][labels[role]])
            if "landscape" in labels:
                row["radial_delta_nll"] = radial_delta_nll(profiles[labels["landscape"]], row["sqnr_db"])
        write_table(job.out, job.header, frame(rows))


STAGE = Table()

_NOT_MEASURED = dict.fromkeys(("accuracy", "accuracy_stderr", "tasks", "output_sqnr_db", *LANDSCAPE_COLUMNS))


def _zeroshot(result: Mapping[str, Any]) -> dict[str, Any]:
    names = ", ".join(record["name"] for record in result["tasks"])
    return {"accuracy": result["accuracy"], "accuracy_stderr": result["accuracy_stderr"], "tasks": names}


def _output_error(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"output_sqnr_db": result["output_sqnr_db"]}


def collect(cells: list[tuple[Mapping[str, Any], Path, str]]) -> list[dict[str, Any]]:
    """Return the rows of ``cells``, each with ``delta_nll`` against its baseline.

    Args:
        cells: for each cell its labels, its evaluate artifact and that artifact's key.

    Raises:
        UserError: duplicates, or no baseline.
    """
    rows, baselines = [], {}
    found = [(_row(labels, read_json(path), read_header(path)["spec"], key)) for labels, path, key in cells]
    counts = Counter(_cell(row, where) for row, where in found)
    for (row, where), times in ((pair, counts[_cell(*pair)]) for pair in found):
        if times > 1:
            raise UserError(
                f"{times} cells are the same: {_name(row)}; give each model one label and each cell one place"
            )
        if row["format"] == UNQUANTIZED:
            baselines[where] = row["nll"]
    for row, where in found:
        if where not in baselines:
            raise UserError(
                f"no unquantized cell to compare with: {_name(row)}; evaluate the model without a format too"
            )
        rows.append({**row, "delta_nll": row["nll"] - baselines[where]})
    return rows


def _row(
    labels: Mapping[str, Any], result: Mapping[str, Any], spec: Mapping[str, Any], key: str
) -> tuple[dict[str, Any], tuple[Hashable, ...]]:
    """Return one row without ``delta_nll`` and what its baseline must share with it."""
    model, nll = result["model"], float(result["nll"])
    protocol = (spec["window"], spec["stride"], spec["max_tokens"], spec["dtype"], spec["batch"])
    where = (labels["model"], spec["text"]["sha256"], *protocol)
    row = {
        **{name: labels[name] for name in ("model", "family", "source", "text")},
        "n_params": model["n_params"],
        "n_total": model["n_total"],
        "n_tokens": labels["n_tokens"],
        **_quantized(labels, result["quantized"], model["n_total"]),
        "nll": nll,
        "perplexity": _exp(nll),
        "bits_per_byte": float(result["bits_per_byte"]),
        "kl": float(result["kl"]),
        "top1_agreement": float(result["top1_agreement"]),
        "finite": bool(result["finite"]),
        "window": result["window"],
        "stride": result["stride"],
        "dtype": result["dtype"],
        "eval_tokens": result["n_tokens"],
        "eval_bytes": result["n_bytes"],
        "text_sha256": spec["text"]["sha256"],
        "key": key,
        **_NOT_MEASURED,
    }
    return row, where


def _quantized(labels: Mapping[str, Any], quantized: Mapping[str, Any] | None, n_total: int) -> dict[str, Any]:
    """Return the columns that differ between a quantized cell and a baseline."""
    calibration = (quantized or {}).get("calibration") or {}
    columns = {
        "format": labels["format"],
        "method": labels["method"],
        "calibration_text": labels["calibration_text"],
        "calibration_text_sha256": calibration.get("text", {}).get("sha256"),
        "calibration_samples": calibration.get("samples"),
        "calibration_length": calibration.get("length"),
        "seed": calibration.get("seed"),
    }
    if quantized is None:
        baseline: dict[str, Any] = {
            "element": "none",
            "bits": 16,
            "block": "none",
            "settings": "{}",
            "scale_rule": "none",
            "scale_dtype": "none",
            **_mix(None, None),
        }
        numbers = {"effective_bits": 16.0, "q_ratio": 0.0, "model_bits": 16.0 * n_total, "sqnr_db": math.nan}
        return {**columns, **baseline, **numbers}
    number = grammar.parse(quantized["format"])
    weights, bits = quantized["weights"], float(quantized["effective_bits"])
    return {
        **columns,
        "format": str(number),
        "element": number.element.name,
        "bits": number.bits,
        "block": str(number.block),
        "scale_rule": number.scale_rule,
        "scale_dtype": number.scale_dtype,
        "settings": canonical(quantized["settings"]),
        "effective_bits": bits,
        **_mix(quantized.get("mix"), quantized.get("high")),
        "q_ratio": 1.0 - quantized["kept"] / weights,
        "model_bits": weights * bits + 16.0 * (n_total - weights),
        "sqnr_db": float(quantized["sqnr_db"]),
    }


def _mix(mix: Mapping[str, Any] | None, high: str | None) -> dict[str, Any]:
    """Return the columns that tell of a mix; ``mix`` is the spec of its artifact."""
    if mix is None:
        return {**dict.fromkeys(("mix", "high", "select"), "none"), "select_settings": "{}"} | dict.fromkeys(
            ("q_target", "trial")
        )
    return {
        "mix": mix["granularity"],
        "high": high or "none",
        "select": mix["select"],
        "select_settings": canonical(mix["settings"]),
        "q_target": mix["q_ratio"],
        "trial": mix["trial"],
    }


def _cell(row: Mapping[str, Any], where: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    own = (
        "format",
        "method",
        "settings",
        "calibration_text_sha256",
        "calibration_samples",
        "calibration_length",
        "seed",
        *MIX_IDENTITY,
    )
    return (*where, *(row[name] for name in own))


def _name(row: Mapping[str, Any]) -> str:
    parts = (row["model"], row["format"], row["method"], f"text {row['text']}", f"window {row['window']}")
    return ", ".join(str(part) for part in parts)


def _exp(nll: float) -> float:
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf

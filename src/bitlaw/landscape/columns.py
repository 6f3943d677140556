"""The columns of the results table that landscape artifacts fill."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bitlaw.artifacts import read_header, read_json

LANDSCAPE_COLUMNS = (
    "step_db",
    "step_error_db",
    "step_width_db",
    "radial_delta_nll",
    "hessian_trace",
    "hessian_trace_error",
    "top_eigenvalue",
    "noise_sensitivity",
    "error_step_db",
    "error_step_width_db",
    "gradient_term",
    "curvature_term",
    "predicted_delta_nll",
    "landscape_text_sha256",
    "landscape_tokens",
)


def noise_sensitivity(trace: float, norm: float, n_weights: int) -> float:
    """Return what independent noise as strong as the weights adds if the loss is a parabola: tr(H) ||W||^2 / (2 n).

    Noise of relative distance r adds r^2 times that on average, that is 10^(-SQNR / 10) times.

    Args:
        trace: of the Hessian, nats.
        norm: of the weights.
        n_weights: their number.
    """
    return trace * norm**2 / (2 * n_weights)


def of_model(path: Path) -> dict[str, Any]:
    """Return the columns that the landscape of a model, at ``path``, fills."""
    result, spec = read_json(path), read_header(path)["spec"]
    found: dict[str, Any] = {"landscape_text_sha256": spec["text"]["sha256"]}
    if result["radial"]:
        step = result["radial"][spec["kinds"][0]]["step"]
        names = ("step_db", "step_error_db", "width_db")
        found |= dict(zip(("step_db", "step_error_db", "step_width_db"), (step[name] for name in names), strict=True))
    if result["curvature"]:
        trace = result["curvature"]["trace"]
        found |= {
            "hessian_trace": trace["value"],
            "hessian_trace_error": trace["error"],
            "top_eigenvalue": result["curvature"]["extremes"]["top"],
            "noise_sensitivity": noise_sensitivity(trace["value"], result["norm"], result["n_weights"]),
        }
    return {**found, "landscape_tokens": result["n_tokens"]}


def radial_profile(path: Path) -> list[tuple[float, float]]:
    """Return SQNR in dB, rising, and mean loss added in nats, of the landscape of a model; empty if none was measured.

    Directions are normalized by rows if the study has such, for so is the error of formats with a scale for a block.
    """
    radial = read_json(path)["radial"] or {}
    if not radial:
        return []
    profile = radial.get("filter", next(iter(radial.values())))
    means = [math.fsum(losses) / len(losses) for losses in zip(*profile["delta_nll"], strict=True)]
    return sorted((-r_db, mean) for r_db, mean in zip(profile["r_db"], means, strict=True))


def radial_delta_nll(profile: list[tuple[float, float]], sqnr_db: float | None) -> float:
    """Return what random noise of ``sqnr_db`` adds, nats: logarithmic between points above zero; NaN outside."""
    if sqnr_db is None or not profile or not profile[0][0] <= sqnr_db <= profile[-1][0]:
        return math.nan
    at = next(i for i in range(1, len(profile)) if profile[i][0] >= sqnr_db)
    (x0, y0), (x1, y1) = profile[at - 1], profile[at]
    share = (sqnr_db - x0) / (x1 - x0)
    if min(y0, y1) > 0:
        return math.exp((1 - share) * math.log(y0) + share * math.log(y1))
    return (1 - share) * y0 + share * y1


def of_error(path: Path) -> dict[str, Any]:
    """Return the columns that the landscape of a cell, at ``path``, fills."""
    result = read_json(path)
    step = (result["radial"] or {}).get("step") or {"step_db": math.nan, "width_db": math.nan}
    terms = {name: result[name] for name in ("gradient_term", "curvature_term")}
    return {
        **terms,
        "predicted_delta_nll": sum(terms.values()),
        "error_step_db": step["step_db"],
        "error_step_width_db": step["width_db"],
        "landscape_text_sha256": read_header(path)["spec"]["text"]["sha256"],
        "landscape_tokens": result["n_tokens"],
    }

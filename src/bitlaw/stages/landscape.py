"""The loss around a model's weights, along random directions and along a cell's quantization error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_json, write_json
from bitlaw.stage import Job

if TYPE_CHECKING:
    from bitlaw.landscape.surface import Surface
    from bitlaw.landscape.vectors import Weights


class LandscapeStage:
    """Of a model, or of a cell if there is a parent ``quantized``; both have a parent ``model``.

    Spec of both: ``{"text": {"sha256"}, "tokens", "window", "batch"}``; of a model also ``seed`` and what is asked for:
    ``points``, ``kinds`` and ``directions``, and ``probes`` and ``lanczos``; of a cell also ``points``. Computed in
    float32.

    Result of both: ``loss`` (nats per token), ``n_tokens`` (scored ones), ``n_weights``, ``norm`` (of all quantizable
    weights as one vector), ``cost`` (``forwards`` over the text and ``hvps``).

    Of a model, each null if it is not asked for: ``radial``, by kind of direction ``r_db``, ``seeds``, ``delta_nll``
    (by direction, then distance) and ``step`` (see ``bitlaw.landscape.step``), and ``curvature``: ``trace`` and
    ``extremes`` (see ``bitlaw.landscape.curvature``).

    Of a cell: ``sqnr_db``, ``delta_nll`` (at the quantized weights, on this text), ``gradient_term`` and
    ``curvature_term`` (g.d and d.H.d / 2 for the error d, nats), ``radial`` as above with one profile (null for no
    points or no error), and ``quantized``: format, method and settings.
    """

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: all code is imported here."""
        return ()

    def run(self, job: Job) -> None:
        """Write the features; what is NaN or infinite is written as such.

        Raises:
            UserError: another text than the spec says, or one that is too short or that the model cannot read.
        """
        from bitlaw.landscape.surface import Surface, cut
        from bitlaw.landscape.vectors import norm
        from bitlaw.models.load import load_model
        from bitlaw.models.tokens import check_fits, tokens_of

        spec, location = job.spec, job.hints["model"]
        ids = tokens_of(location, Path(job.hints["text"]), spec["text"]["sha256"], spec["tokens"]).ids
        check_fits(ids, read_json(job.one("model")), spec["window"], "window")
        model = load_model(location, "float32")
        surface = Surface(model, cut(ids, spec["window"]), spec["batch"])
        found = {
            "loss": surface.loss,
            "n_tokens": surface.n_tokens,
            "n_weights": surface.n_weights,
            "norm": norm(surface.weights),
        }
        quantized = job.inputs.get("quantized")
        found |= _of_cell(surface, job.one("quantized"), spec) if quantized else _of_model(surface, spec)
        cost = {"forwards": surface.forwards, "hvps": surface.hvps}
        write_json(job.out, job.header, {**found, "cost": cost})


STAGE = LandscapeStage()


def _of_model(surface: Surface, spec: Mapping[str, Any]) -> dict[str, Any]:
    from bitlaw.landscape.curvature import extremes, trace
    from bitlaw.landscape.radial import distances_db, profiles
    from bitlaw.landscape.vectors import KINDS, seeds

    found: dict[str, Any] = {"radial": None, "curvature": None}
    if "kinds" in spec:
        r_db, chosen, found["radial"] = distances_db(spec["points"]), seeds(spec["seed"], spec["directions"]), {}
        for kind in spec["kinds"]:
            directions = (KINDS[kind](surface.weights, seed) for seed in chosen)
            profile = _located(surface, r_db, profiles(surface, directions, r_db))
            found["radial"][kind] = {"seeds": chosen, **profile}
    if "probes" in spec:
        found["curvature"] = {
            "trace": asdict(trace(surface.hvp, surface.weights, spec["probes"], spec["seed"])),
            "extremes": asdict(extremes(surface.hvp, surface.weights, spec["lanczos"], spec["seed"])),
        }
    return found


def _of_cell(surface: Surface, path: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    from bitlaw.landscape.error import quantization_error

    error, about = quantization_error(path, surface.linears)
    quantized = {name: about[name] for name in ("format", "method", "settings")}
    return {**along_error(surface, error, spec["points"]), "quantized": quantized}


def along_error(surface: Surface, error: Weights, points: int) -> dict[str, Any]:
    """Return what the stage says of a cell whose weights are off by ``error``, with a profile of ``points`` or none.

    An error that is not finite gives NaN and no profile.
    """
    from bitlaw.landscape.radial import distances_db, profiles
    from bitlaw.landscape.vectors import moved, norm, scaled

    length, whole = norm(error), norm(surface.weights)
    slope, bend = surface.expansion(error)
    radial = None
    if points and 0 < length < math.inf:
        r_db = distances_db(points)
        radial = _located(surface, r_db, profiles(surface, [scaled(error, whole / length)], r_db))
    return {
        "sqnr_db": 20 * math.log10(whole / length) if length else math.inf,
        "delta_nll": surface.losses([moved(surface.weights, error, 1.0)])[0] - surface.loss,
        "gradient_term": slope,
        "curvature_term": bend,
        "radial": radial,
    }


def _located(surface: Surface, r_db: list[float], found: list[list[float]]) -> dict[str, Any]:
    """Return the profiles with the step in them."""
    from bitlaw.landscape.step import locate

    vocabulary = int(surface.model.config.get_text_config().vocab_size)
    return {"r_db": r_db, "delta_nll": found, "step": asdict(locate(r_db, found, surface.loss, vocabulary))}

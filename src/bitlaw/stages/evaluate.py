"""The loss of a model, quantized or not, on held-out text, and how far quantization moves its predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bitlaw.artifacts import read_json, write_json
from bitlaw.stage import Job

PARTS = 64
"""Into how many runs of windows the loss is broken up: enough for errors of paired differences, and a small file."""


class EvaluateStage:
    """Spec ``{"text": {"sha256"}, "window", "stride", "max_tokens", "batch", "dtype", "compile"}``.

    Parents: ``model``; ``quantized`` unless it is the baseline; ``mix`` for a mixed cell, which has a second
    ``quantized`` if the linears that are not in the first are not in 16 bits.

    Result: ``nll`` (nats per token), ``finite``, ``n_tokens`` and ``n_bytes`` (scored ones), ``bits_per_byte``, ``kl``
    (nats per token) and ``top1_agreement`` (see ``evaluation.divergence``; 0 and 1 for the baseline), ``window``,
    ``stride``, ``dtype``, ``part_nll`` (nats in each of up to ``PARTS`` runs of windows), ``part_tokens``, ``model``
    and ``quantized``: what the parents say of themselves, without their lists of linears; see ``mixing.mixed`` for a
    mixed cell.
    """

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: the code of the weights' format is in the key of the quantized weights."""
        return ()

    def run(self, job: Job) -> None:
        """Write the loss; one that is NaN or infinite is written as such.

        Raises:
            UserError: another text than the spec says, or one that the model cannot read.
        """
        from bitlaw.evaluation.divergence import Text, compare, own_loss
        from bitlaw.mixing.mixed import cell_swap
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import cache_key, load_model, local_folder
        from bitlaw.models.tokens import check_fits, tokens_of

        spec, location = job.spec, job.hints["model"]
        about = read_json(job.one("model"))
        tokens = tokens_of(location, Path(job.hints["text"]), spec["text"]["sha256"], spec["max_tokens"])
        check_fits(tokens.ids, about, min(spec["window"], len(tokens)), "window")
        model = load_model(location, spec["dtype"], compiled=spec["compile"])
        text = Text(tokens.ids.to(model.device), spec["window"], spec["stride"], spec["batch"])
        key = (cache_key(local_folder(location)), str(model.device), *sorted((n, str(v)) for n, v in spec.items()))
        if job.inputs.get("quantized"):
            swap, quantized = cell_swap(job.inputs, quantizable(model))
            compared = compare(model, swap, text, key)
            loss, kl, agreement = compared.loss, compared.kl, compared.top1_agreement
        else:
            loss, kl, agreement, quantized = own_loss(model, text, key), 0.0, 1.0, None
        n_bytes = tokens.n_bytes([span.first for span in loss.spans], [span.end for span in loss.spans])
        result = {
            "nll": loss.nll,
            "finite": loss.finite,
            "n_tokens": sum(loss.counts),
            "n_bytes": n_bytes,
            # A few tokens inside one character can have no byte of their own.
            "bits_per_byte": sum(loss.sums) / math.log(2) / n_bytes if n_bytes else math.nan,
            "kl": kl,
            "top1_agreement": agreement,
            "window": spec["window"],
            "stride": spec["stride"],
            "dtype": spec["dtype"],
            "part_nll": _parts(loss.sums),
            "part_tokens": _parts(loss.counts),
            "model": {name: value for name, value in about.items() if name != "linears"},
            "quantized": quantized,
        }
        write_json(job.out, job.header, result)


def _parts(windows: Sequence[float]) -> list[float]:
    """Return the sums of consecutive ``windows``, of as many to a part as make at most ``PARTS`` parts."""
    size = math.ceil(len(windows) / PARTS)
    sums = (sum(windows[start : start + size]) for start in range(0, len(windows), size))
    # Eight digits, which is what losses in float32 have: these lists are most of the file.
    return [one if isinstance(one, int) else float(f"{one:.8g}") for one in sums]


STAGE = EvaluateStage()

"""The loss of a model, quantized or not, on held-out text, and how far quantization moves its predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bitlaw.artifacts import read_json, write_json
from bitlaw.errors import UserError
from bitlaw.stage import Job

if TYPE_CHECKING:
    from bitlaw.evaluation.nll import WindowLoss
    from bitlaw.models.tokens import Tokens

PARTS = 64
"""Into how many runs of windows the loss is broken up: enough for errors of paired differences, and a small file."""


class EvaluateStage:
    """Spec ``{"text": {"sha256"}, "window", "stride", "max_tokens", "batch", "dtype", "compile", "variants"}``.

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

    def together(self, spec: Mapping[str, Any], inputs: Mapping[str, Sequence[Path]]) -> int:
        """Return how many cells go through the model in one pass; the baseline comes alone."""
        try:
            return _together(spec, inputs["model"][0]) if inputs.get("quantized") else 1
        except (UserError, FileNotFoundError):
            return 1  # whoever makes it is told

    def run(self, job: Job) -> None:
        """Write the loss; one that is NaN or infinite is written as such.

        Raises:
            UserError: another text than the spec says, or one that the model cannot read, or variants that the model
                cannot compute together.
        """
        self.run_together([job])

    def run_together(self, jobs: Sequence[Job]) -> None:
        """Do as ``run`` for each of ``jobs``."""
        from bitlaw.evaluation.divergence import Text, compare_all, own_loss
        from bitlaw.mixing.mixed import cell_swap
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import cache_key, load_model, local_folder
        from bitlaw.models.tokens import check_fits, tokens_of
        from bitlaw.models.variants import are_plain

        spec, location = jobs[0].spec, jobs[0].hints["model"]
        about = read_json(jobs[0].one("model"))
        tokens = tokens_of(location, Path(jobs[0].hints["text"]), spec["text"]["sha256"], spec["max_tokens"])
        check_fits(tokens.ids, about, min(spec["window"], len(tokens)), "window")
        model = load_model(location, spec["dtype"], compiled=spec["compile"])
        text = Text(tokens.ids.to(model.device), spec["window"], spec["stride"], spec["batch"])
        key = (cache_key(local_folder(location)), str(model.device), *sorted((n, str(v)) for n, v in spec.items()))
        linears = quantizable(model)
        count = _together(spec, jobs[0].one("model")) if are_plain(linears) else 1
        if not jobs[0].inputs.get("quantized"):
            found = _Found(own_loss(model, text, key, count), 0.0, 1.0, None)
            for job in jobs:
                self._write(job, about, tokens, found)
            return
        swaps, known = zip(*(cell_swap(job.inputs, linears) for job in jobs), strict=True)
        compared = compare_all(model, swaps, text, key, count)
        for job, one, quantized in zip(jobs, compared, known, strict=True):
            self._write(job, about, tokens, _Found(one.loss, one.kl, one.top1_agreement, quantized))

    def _write(self, job: Job, about: Mapping[str, Any], tokens: Tokens, found: _Found) -> None:
        """Write the artifact of ``job``; ``about`` is what its model says of itself."""
        spec, loss = job.spec, found.loss
        n_bytes = tokens.n_bytes([span.first for span in loss.spans], [span.end for span in loss.spans])
        result = {
            "nll": loss.nll,
            "finite": loss.finite,
            "n_tokens": sum(loss.counts),
            "n_bytes": n_bytes,
            # A few tokens inside one character can have no byte of their own.
            "bits_per_byte": sum(loss.sums) / math.log(2) / n_bytes if n_bytes else math.nan,
            "kl": found.kl,
            "top1_agreement": found.top1_agreement,
            "window": spec["window"],
            "stride": spec["stride"],
            "dtype": spec["dtype"],
            "part_nll": _parts(loss.sums),
            "part_tokens": _parts(loss.counts),
            "model": {name: value for name, value in about.items() if name != "linears"},
            "quantized": found.quantized,
        }
        write_json(job.out, job.header, result)


class _Found(NamedTuple):
    """What was measured of a cell, and what its weights say of themselves; None for the baseline's."""

    loss: WindowLoss
    kl: float
    top1_agreement: float
    quantized: Mapping[str, Any] | None


def _together(spec: Mapping[str, Any], model: Path) -> int:
    """Return how many cells of the model in the artifact ``model`` go through it in one pass."""
    count: int = spec["variants"]
    return count if count > 1 and _is_small(model) else 1


@lru_cache(maxsize=64)
def _is_small(model: Path) -> bool:
    from bitlaw.models.variants import is_small

    return is_small(linear["shape"] for linear in read_json(model)["linears"])


def _parts(windows: Sequence[float]) -> list[float]:
    """Return the sums of consecutive ``windows``, of as many to a part as make at most ``PARTS`` parts."""
    size = math.ceil(len(windows) / PARTS)
    sums = (sum(windows[start : start + size]) for start in range(0, len(windows), size))
    # Eight digits, which is what losses in float32 have: these lists are most of the file.
    return [one if isinstance(one, int) else float(f"{one:.8g}") for one in sums]


STAGE = EvaluateStage()

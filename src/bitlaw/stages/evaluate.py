"""The loss of a model, quantized or not, on held-out text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import read_header, read_json, read_tensors, write_json
from bitlaw.stage import Job

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class EvaluateStage:
    """Spec ``{"text": {"sha256"}, "window", "stride", "max_tokens", "batch", "dtype"}``.

    Parents: ``model``, and ``quantized`` unless it is the baseline.

    Result: ``nll`` (nats per token), ``finite``, ``n_tokens`` and ``n_bytes`` (scored ones), ``bits_per_byte``,
    ``window``, ``stride``, ``window_nll`` (nats in each window), ``window_tokens``, ``model`` and ``quantized``: what
    the parents say of themselves, without their lists of linears.
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
        from bitlaw.evaluation.nll import nll
        from bitlaw.models.load import load_model
        from bitlaw.models.tokens import check_fits, tokens_of

        spec, location = job.spec, job.hints["model"]
        about = read_json(job.one("model"))
        tokens = tokens_of(location, Path(job.hints["text"]), spec["text"]["sha256"], spec["max_tokens"])
        check_fits(tokens.ids, about, min(spec["window"], len(tokens)), "window")
        model = load_model(location, spec["dtype"])
        quantized = None
        with ExitStack() as stack:
            if job.inputs.get("quantized"):
                quantized = self._swap_in(model, job.one("quantized"), stack)
            loss = nll(model, tokens.ids, spec["window"], spec["stride"], spec["batch"])
        n_bytes = sum(tokens.n_bytes(span.first, span.end) for span in loss.spans)
        result = {
            "nll": loss.nll,
            "finite": loss.finite,
            "n_tokens": sum(loss.counts),
            "n_bytes": n_bytes,
            # A few tokens inside one character can have no byte of their own.
            "bits_per_byte": sum(loss.sums) / math.log(2) / n_bytes if n_bytes else math.nan,
            "window": spec["window"],
            "stride": spec["stride"],
            "window_nll": loss.sums,
            "window_tokens": loss.counts,
            "model": {name: value for name, value in about.items() if name != "linears"},
            "quantized": quantized,
        }
        write_json(job.out, job.header, result)

    def _swap_in(self, model: PreTrainedModel, path: Path, stack: ExitStack) -> dict[str, Any]:
        """Let ``model`` compute with the weights in ``path`` until ``stack`` closes; return their description."""
        from bitlaw.formats.grammar import parse
        from bitlaw.methods.stored import stored_linears
        from bitlaw.models.linears import quantizable, swapped

        linears = quantizable(model)
        tensors, result = read_tensors(path)
        tensors = {name: tensor.to(model.device) for name, tensor in tensors.items()}
        header = read_header(path)
        shapes = {linear.name: linear.shape for linear in linears}
        stored = stored_linears(tensors, parse(header["spec"]["format"]), shapes)
        stack.enter_context(swapped(linears, {name: one.weight() for name, one in stored.items()}))
        about = {name: value for name, value in result.items() if name != "linears"}
        return {**about, **{name: header["spec"][name] for name in ("format", "method", "settings")}}


STAGE = EvaluateStage()

"""How far the outputs of quantized linears are from those of the model's own, on calibration text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitlaw.artifacts import read_json, read_tensors, write_json
from bitlaw.stage import Job


class OutputErrorStage:
    """Spec ``{}``. Parents: ``model``, ``calibration`` and ``quantized``.

    Result: ``output_sqnr_db`` of the whole model, ``tokens`` (of the calibration), and ``linears``, by name ``signal``,
    ``noise`` and ``output_sqnr_db``; see ``evaluation.output_error``. Every linear sees the inputs that it has in the
    model as it is, not those that quantized linears before it would give it.
    """

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: the code of the weights' format is in the key of the quantized weights."""
        return ()

    def run(self, job: Job) -> None:
        """Write the errors; one that is NaN or infinite is written as such."""
        import torch

        from bitlaw.evaluation.output_error import output_energies, sqnr_db
        from bitlaw.methods.swap import read_weights
        from bitlaw.methods.work import index_of
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model

        read_json(job.one("model"))  # is it whole?
        linears = quantizable(load_model(job.hints["model"]))
        weights, _ = read_weights(job.one("quantized"), linears)
        tensors, known = read_tensors(job.one("calibration"))
        energies = {}
        for linear in linears:
            if linear.name in weights:
                own = linear.weight()
                hessian = tensors[f"hessian.{index_of(known, linear.name)}"].to(own.device)
                energies[linear.name] = output_energies(own, weights[linear.name].to(own.device), hessian)
        pairs = torch.stack(list(energies.values())).tolist()  # a GPU is waited for once
        errors = {
            name: {"signal": signal, "noise": noise, "output_sqnr_db": sqnr_db(signal, noise)}
            for name, (signal, noise) in zip(energies, pairs, strict=True)
        }
        whole = [sum(error[part] for error in errors.values()) for part in ("signal", "noise")]
        result = {"output_sqnr_db": sqnr_db(*whole), "tokens": known["tokens"], "linears": errors}
        write_json(job.out, job.header, result)


STAGE = OutputErrorStage()

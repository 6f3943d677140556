"""Cholesky factors of what a model's linears see, as GPTQ works with them: made once, shared by all formats."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bitlaw import held
from bitlaw.artifacts import read_header, read_tensors, write_tensors
from bitlaw.held import Live
from bitlaw.stage import Job

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.methods.gptq_factor import Factor


class FactorizeStage:
    """Spec ``{"damping", "act_order"}``; parents ``model`` and ``calibration``.

    Tensors ``upper.<i>`` (float32, the upper triangle of the factor row by row: n(n+1)/2 numbers), ``order.<i>`` (n,)
    int32 and ``dead.<i>`` (n,) bool, for each distinct Hessian. Result: ``of`` (which factor belongs to each linear),
    ``factors`` (for each ``damping`` as used, ``damping_tries``, ``shift``, what was added to the diagonal,
    ``dead_columns`` and ``in_order``), ``energy`` (``tr(W H W^T)`` by linear) and ``calibration``, the
    spec of the calibration.
    """

    suffix = ".safetensors"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: all code is imported here."""
        return ()

    def run(self, job: Job) -> None:
        """Write the factors.

        Raises:
            HessianError: a Hessian that cannot be factorized; its place names the linears.
        """
        from bitlaw.methods.factors import inputs_of, packed, record_of
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model

        hessians, calibrated = read_tensors(job.one("calibration"))
        model = load_model(job.hints["model"], "float32")
        linears = quantizable(model)
        tensors: dict[str, Tensor] = {}
        factors: dict[int, Factor] = {}
        size = sum(one.numel() for name, one in hessians.items() if name.startswith("hessian"))
        live = held.stays_live(job.out, size)
        records: list[dict[str, Any]] = []
        energies: dict[str, float | None] = {}
        for i in range(1 + max(calibrated["of"].values())):
            sharing = [linear for linear in linears if calibrated["of"].get(linear.name) == i]
            found = inputs_of(hessians[f"hessian.{i}"].to(model.device), sharing, **job.spec)
            factor = found[sharing[0].name].factor
            assert factor is not None
            if live:
                factors[i] = factor
            else:
                tensors |= packed({i: factor})
            records.append(record_of(factor))
            energies |= {name: inputs.energy for name, inputs in found.items()}
        calibration = read_header(job.one("calibration"))["spec"]
        result = {"of": calibrated["of"], "factors": records, "energy": energies, "calibration": calibration}
        written = Live(factors, size, partial(packed, factors)) if live else tensors
        write_tensors(job.out, job.header, written, result)


STAGE = FactorizeStage()

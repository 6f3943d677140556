"""GPTQ (Frantar et al. 2023, arXiv 2210.17323): round column by column, and let later columns make up for the error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from bitlaw.methods.base import Method, MethodSettings

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized


class GptqSettings(MethodSettings):
    """Settings of GPTQ.

    "GPTQ" alone does not name one algorithm: scales from the first weights and scales from the updated ones differ
    in most codes, so both choices are settings.

    Attributes:
        damping: added to the Hessian's diagonal, as a share of its mean.
        block_columns: columns a lazy update covers; a matter of speed, but for float32's order of summation.
        act_order: take columns by falling diagonal of the Hessian (stable order) instead of from left to right.
        static_groups: take all scales from the weights as given, before any update; else take the scale of a block
            when its first column is reached, from the block's weights as updated until then.
    """

    damping: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    block_columns: int = Field(default=128, ge=1)
    act_order: bool = False
    static_groups: bool = False


class Gptq:
    """GPTQ with real codes and scales as its result."""

    Settings: type[MethodSettings] = GptqSettings
    needs_calibration = True

    def quantize(
        self, w: Tensor, fmt: Format, settings: GptqSettings, hessian: Tensor | None = None
    ) -> tuple[Quantized, dict[str, Any]]:
        """Return ``w`` rounded by GPTQ; see ``Method.quantize`` and ``gptq_solver.solve``.

        Returns:
            The quantized matrix, and ``damping`` (as used), ``damping_tries``, ``dead_columns``, ``proxy_loss``.

        Raises:
            ValueError: without a Hessian, or with one of the wrong shape.
            HessianError: if the Hessian is not finite, or not positive definite at any damping tried.
        """
        from bitlaw.methods.gptq_solver import solve

        if hessian is None:
            raise ValueError("GPTQ needs the Hessian of the layer's inputs")
        return solve(
            w,
            hessian,
            fmt,
            damping=settings.damping,
            block_columns=settings.block_columns,
            act_order=settings.act_order,
            static_groups=settings.static_groups,
        )


METHOD: Method = Gptq()

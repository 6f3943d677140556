"""GPTQ (Frantar et al. 2023, arXiv 2210.17323): round column by column, and let later columns make up for the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from bitlaw.errors import UserError
from bitlaw.methods.base import MatrixMethod, Method, MethodSettings, Need
from bitlaw.methods.work import Inputs, Work

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized
    from bitlaw.methods.stored import StoredLinear
    from bitlaw.models.linears import Linear


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
        whole_block: round all columns of a block at once (Sharify et al. 2024, arXiv 2405.07135, Algorithm 1).
        sequential: let each transformer block see what the quantized blocks before it put out; else all Hessians are
            those of the unquantized model, and their factors are shared by all formats.
    """

    damping: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    block_columns: int = Field(default=128, ge=1)
    act_order: bool = False
    static_groups: bool = False
    whole_block: bool = False
    sequential: bool = False

    @model_validator(mode="after")
    def _whole_blocks_stay_together(self) -> Self:
        if self.whole_block and self.act_order:
            raise UserError("whole_block needs act_order: false, for it rounds the columns of a block together")
        return self


class Gptq(MatrixMethod):
    """GPTQ with real codes and scales as its result."""

    Settings = GptqSettings

    def needs(self, settings: GptqSettings) -> Need:
        """Return the calibration text if blocks are quantized one after the other, else the shared factors."""
        return "windows" if settings.sequential else "factors"

    def check(self, fmt: Format, settings: GptqSettings) -> None:
        """Raise ``UserError`` for whole blocks that are rows or matrices: nothing would be left to update."""
        if settings.whole_block and not isinstance(fmt.block, int):
            raise UserError(f"whole_block needs a format with blocks of a number of weights; {fmt} has '{fmt.block}'")

    def factor_settings(self, settings: GptqSettings) -> dict[str, Any]:
        """Return damping and order."""
        return {"damping": settings.damping, "act_order": settings.act_order}

    def inputs(self, tensors: Mapping[str, Tensor], result: Mapping[str, Any]) -> Callable[[str], Inputs]:
        """Return what an artifact of the factorize stage holds; see ``Method.inputs``."""
        from bitlaw.methods.factors import inputs

        return inputs(tensors, result)

    def quantize(
        self, w: Tensor, fmt: Format, settings: GptqSettings, inputs: Inputs | None = None
    ) -> tuple[Quantized, dict[str, Any]]:
        """Return ``w`` rounded by GPTQ; see ``MatrixMethod.quantize`` and ``gptq_solver.solve``.

        Returns:
            The quantized matrix, and ``damping`` (as used), ``damping_tries``, ``dead_columns``, ``proxy_loss``.

        Raises:
            ValueError: without a factor, or with one of the wrong shape.
            UserError: see ``check``.
        """
        from bitlaw.methods.gptq_solver import solve

        self.check(fmt, settings)
        if inputs is None or inputs.factor is None:
            raise ValueError("GPTQ needs the factor of the Hessian of the layer's inputs")
        return solve(
            w,
            inputs.factor,
            fmt,
            block_columns=settings.block_columns,
            static_groups=settings.static_groups,
            whole_block=settings.whole_block,
            energy=inputs.energy,
        )

    def quantize_model(
        self, work: Work, fmt: Format, settings: GptqSettings
    ) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
        """Yield each linear; see ``Method.quantize_model`` and ``sequential.quantize_blocks``."""
        if not settings.sequential:
            yield from super().quantize_model(work, fmt, settings)
            return
        from bitlaw.methods.factors import inputs_of
        from bitlaw.methods.sequential import quantize_blocks

        def known(hessian: Tensor, linears: list[Linear]) -> dict[str, Inputs]:
            return inputs_of(hessian, linears, **self.factor_settings(settings))

        def rounded(linear: Linear, inputs: Inputs) -> tuple[Quantized, dict[str, Any]]:
            return self.quantize(linear.weight(), fmt, settings, inputs)

        yield from quantize_blocks(work, known, rounded)


METHOD: Method = Gptq()

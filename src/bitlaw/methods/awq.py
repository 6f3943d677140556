"""AWQ (Lin et al. 2023, arXiv 2306.00978): scale up the input channels that matter before rounding to nearest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bitlaw.errors import UserError
from bitlaw.methods.base import Method, MethodSettings, Need
from bitlaw.methods.work import Work

if TYPE_CHECKING:
    from bitlaw.formats.base import Format
    from bitlaw.methods.stored import StoredLinear
    from bitlaw.models.linears import Linear


class AwqSettings(MethodSettings):
    """Settings of AWQ; the defaults are AutoAWQ's.

    Attributes:
        n_grid: exponents tried: 0, 1/n_grid, ..., (n_grid - 1)/n_grid; and the fineness of the search for clips.
        clip: shrink the range of each block as far as that lowers the error.
        max_shrink: largest share by which a range is shrunk.
    """

    n_grid: int = Field(default=20, ge=1)
    clip: bool = True
    max_shrink: float = Field(default=0.5, ge=0, lt=1)


class Awq(Method):
    """Rounding to nearest of scaled weights; one scale for all linears that share an input."""

    Settings = AwqSettings

    def needs(self, settings: AwqSettings) -> Need:
        """Return that it looks at the moments of the inputs."""
        return "calibration"

    def quantize_model(
        self, work: Work, fmt: Format, settings: AwqSettings
    ) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
        """Yield each linear; see ``Method.quantize_model`` and ``awq_search``."""
        from bitlaw.methods.awq_search import Search

        by_name = {linear.name: linear for linear in work.linears}
        for linear in work.linears:
            if not any(linear.name in group for group in work.groups):
                raise UserError("no calibration sample reached this linear", place=linear.name)
        for group in work.groups:
            inputs = work.inputs(group[0])
            assert inputs.hessian is not None and inputs.absmean is not None
            if not bool(inputs.hessian.isfinite().all()):
                message = "the inputs are not finite: the model has bad weights or overflows on the text"
                raise UserError(message, place=", ".join(group))
            search = Search(inputs.hessian, inputs.absmean, fmt, settings.n_grid, settings.max_shrink)
            weights = [by_name[name].weight().float() for name in group]
            for name, (stored, info) in zip(group, search.run(weights, clip=settings.clip), strict=True):
                yield by_name[name], stored, info


METHOD: Method = Awq()

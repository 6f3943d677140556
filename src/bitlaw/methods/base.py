"""What a quantization method is, and what it may look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from bitlaw.errors import UserError
from bitlaw.methods.stored import StoredLinear
from bitlaw.methods.work import Inputs, Work, index_of

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized
    from bitlaw.models.linears import Linear

Need = Literal["nothing", "calibration", "factors", "windows"]
"""What a method looks at besides the weights: nothing; the moments of each linear's inputs; the Cholesky factors made
of these; or the calibration text itself."""


class MethodSettings(BaseModel):
    """Base of the settings of methods: no unknown names, no change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(ABC):
    """One way to round weights to a format. Each module in ``bitlaw.methods`` assigns one to ``METHOD``.

    One that treats each matrix for itself is a ``MatrixMethod``.

    Attributes:
        Settings: class of its settings; all of them are part of an experiment's identity.
    """

    Settings: ClassVar[type[MethodSettings]]

    def needs(self, settings: Any) -> Need:
        """Return what the method looks at with these settings."""
        return "nothing"

    def check(self, fmt: Format, settings: Any) -> None:  # noqa: B027 (most methods go with every format)
        """Raise ``UserError`` if these settings cannot go with ``fmt``; asked when a study is planned."""

    def factor_settings(self, settings: Any) -> dict[str, Any]:
        """Return the settings that the factors depend on: none but for a method that needs factors."""
        return {}

    def inputs(self, tensors: Mapping[str, Tensor], result: Mapping[str, Any]) -> Callable[[str], Inputs]:
        """Return the ``Work.inputs`` that the artifact in ``needs`` (its tensors and result) holds; see ``Inputs``.

        Here it is a calibration; a method that needs factors reads these.
        """

        def of(linear: str) -> Inputs:
            i = index_of(result, linear)
            return Inputs(tensors[f"hessian.{i}"], tensors[f"absmean.{i}"])

        return of

    @abstractmethod
    def quantize_model(
        self, work: Work, fmt: Format, settings: Any
    ) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
        """Yield each linear of ``work`` with its quantized weights and what is worth knowing about how it went.

        Raises:
            UserError: with the linear's name as its place.
        """


class MatrixMethod(Method):
    """A method that treats each matrix for itself."""

    @abstractmethod
    def quantize(
        self, w: Tensor, fmt: Format, settings: Any, inputs: Inputs | None = None
    ) -> tuple[Quantized | StoredLinear, dict[str, Any]]:
        """Return ``w`` rounded to ``fmt``, and what is worth knowing about how it went.

        Args:
            w: weights, ``(out, in)``, any floating dtype; not changed.
            fmt: the format.
            settings: an instance of ``Settings``.
            inputs: what is known of the layer's inputs.

        Returns:
            The quantized matrix, and plain JSON values (which may be NaN) by name. A number may be a tensor without
            dimensions: the quantize stage fetches those of all linears together, for each costs a wait for a GPU.
        """

    def quantize_model(
        self, work: Work, fmt: Format, settings: Any
    ) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
        """Yield each linear, by ``quantize``; see ``Method.quantize_model``."""
        for linear in work.linears:
            try:
                result, info = self.quantize(linear.weight(), fmt, settings, work.inputs(linear.name))
            except UserError as error:
                raise UserError(error.message, place=linear.name) from error
            yield linear, StoredLinear.of(result), info

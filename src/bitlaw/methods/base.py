"""What a quantization method is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format, Quantized


class MethodSettings(BaseModel):
    """Base of the settings of methods: no unknown names, no change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """One way to round a matrix to a format. Each module in ``bitlaw.methods`` assigns one to ``METHOD``.

    Attributes:
        Settings: class of its settings; all of them are part of an experiment's identity.
        needs_calibration: whether ``quantize`` needs the Hessian of the layer's inputs.
    """

    Settings: type[MethodSettings]
    needs_calibration: bool

    def quantize(
        self, w: Tensor, fmt: Format, settings: Any, hessian: Tensor | None = None
    ) -> tuple[Quantized, dict[str, Any]]:
        """Return ``w`` rounded to ``fmt``, and what is worth knowing about how it went.

        Args:
            w: weights, ``(out, in)``, any floating dtype; not changed.
            fmt: the format.
            settings: an instance of ``Settings``.
            hessian: ``2/n sum x x^T`` over the layer's inputs, ``(in, in)`` float32; not changed.

        Returns:
            The quantized matrix, and plain JSON values (which may be NaN) by name.
        """
        ...

"""How the weights of one linear are stored: a quantized matrix, and what some methods keep beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitlaw.formats.base import Quantized

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format


@dataclass(frozen=True, eq=False)
class StoredLinear:
    """The weights of a linear as a method leaves them.

    The weights are ``dequantize(quantized) / input_scale``, in all columns but the kept ones, which the quantized
    matrix does not have.

    Attributes:
        quantized: ``(out, in - kept)``.
        kept_columns: places of the columns kept in 16 bits, rising, ``(kept,)`` int32; ``None`` for none.
        kept: their weights, ``(out, kept)`` float16.
        input_scale: ``(in - kept,)`` float16, what the columns were multiplied by before rounding; ``None`` for ones.
        known: what ``weight()`` returns, if whoever made this has it.
    """

    quantized: Quantized
    kept_columns: Tensor | None = None
    kept: Tensor | None = None
    input_scale: Tensor | None = None
    known: Tensor | None = None

    @classmethod
    def of(cls, result: Quantized | StoredLinear) -> StoredLinear:
        """Return ``result`` as a stored linear."""
        return cls(result) if isinstance(result, Quantized) else result

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``."""
        rows, columns = self.quantized.shape
        return rows, columns + (0 if self.kept_columns is None else len(self.kept_columns))

    def weight(self) -> Tensor:
        """Return the weights, ``(out, in)`` float32, not to be changed."""
        import torch

        if self.known is not None:
            return self.known
        w = self.quantized.weight()
        if self.input_scale is not None:
            w = w / self.input_scale
        if self.kept_columns is None or self.kept is None:
            return w
        whole = torch.empty(self.shape, dtype=torch.float32, device=w.device)
        rest = torch.ones(self.shape[1], dtype=torch.bool, device=w.device)
        rest[self.kept_columns.long()] = False
        whole[:, rest] = w
        whole[:, ~rest] = self.kept.float()
        return whole

    def storage_bits(self) -> int:
        """Return all bits that the weights take."""
        extra = (self.kept_columns, self.kept, self.input_scale)
        return self.quantized.fmt.storage_bits(self.quantized.shape) + sum(
            8 * part.nbytes for part in extra if part is not None
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the storage form, by name; see ``Quantized.tensors``."""
        extra = {"kept_columns": self.kept_columns, "kept": self.kept, "input_scale": self.input_scale}
        return {**self.quantized.tensors(), **{name: part for name, part in extra.items() if part is not None}}

    @classmethod
    def from_tensors(cls, fmt: Format, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> StoredLinear:
        """Return the linear of ``shape`` whose storage form is ``tensors``; the inverse of ``tensors()``.

        Raises:
            KeyError: if a part is missing.
            ValueError: if a part's size does not fit ``shape``.
        """
        kept = tensors.get("kept")
        columns = shape[1] - (0 if kept is None else kept.shape[1])
        quantized = Quantized.from_tensors(fmt, (shape[0], columns), tensors)
        return cls(quantized, tensors.get("kept_columns"), kept, tensors.get("input_scale"))


def packed(linears: Mapping[str, StoredLinear]) -> dict[str, Tensor]:
    """Return the storage form of ``linears``, by name ``<linear>/<part>``; the inverse of ``stored_linears``."""
    return {f"{name}/{part}": tensor for name, one in linears.items() for part, tensor in one.tensors().items()}


def stored_linears(
    tensors: Mapping[str, Tensor], fmt: Format, shapes: Mapping[str, tuple[int, int]]
) -> dict[str, StoredLinear]:
    """Return the linears, by name, whose storage forms are ``tensors``, named ``<linear>/<part>``.

    Args:
        tensors: of an artifact of the quantize stage.
        fmt: its format.
        shapes: ``(out, in)`` of the model's linears, by name.

    Raises:
        KeyError: a part is missing, or the model has no such linear.
        ValueError: a part's size does not fit the linear's shape.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        linear, _, part = full.rpartition("/")
        parts.setdefault(linear, {})[part] = tensor
    return {name: StoredLinear.from_tensors(fmt, shapes[name], part) for name, part in parts.items()}

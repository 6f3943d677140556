"""Proxy quantization (Dettmers and Zettlemoyer 2023, arXiv 2212.09720, section 3): outlier inputs stay in 16 bits.

Inputs that are often large cannot be seen without data, but the hidden units that produce them have weights with a
large standard deviation. The share ``p`` of a linear's inputs whose producing units have the largest ones keeps its
weights in 16 bits: ``J = argmax std(W_producer)``. The rest is rounded to nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bitlaw.methods.base import Method, MethodSettings
from bitlaw.methods.stored import StoredLinear
from bitlaw.methods.work import Work

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format
    from bitlaw.models.linears import Linear
    from bitlaw.models.producers import Producer


class ProxySettings(MethodSettings):
    """Settings of proxy quantization.

    Attributes:
        p: share of a linear's inputs whose weights stay in 16 bits; rounded to whole inputs, at least one is quantized.
    """

    p: float = Field(default=0.02, ge=0, lt=1)


class Proxy(Method):
    """Rounding to nearest of all but the columns of outlier inputs."""

    Settings = ProxySettings

    def quantize_model(
        self, work: Work, fmt: Format, settings: ProxySettings
    ) -> Iterator[tuple[Linear, StoredLinear, dict[str, Any]]]:
        """Yield each linear, with ``producer``, the module whose units decide; see ``Method.quantize_model``.

        Raises:
            UserError: a linear whose inputs' producer is not known.
        """
        from bitlaw.models.producers import producers

        found = producers(work.model, work.linears)
        for linear in work.linears:
            producer = found[linear.name]
            stored = keep(linear.weight(), fmt, outliers(producer, settings.p))
            yield linear, stored, {"producer": producer.name}


def outliers(producer: Producer, p: float) -> Tensor:
    """Return the ``p`` of all inputs whose units' weights deviate most, rising, (kept,) int64; ties: the first."""
    deviation = producer.weight.float().std(dim=1)[producer.units]
    kept = min(round(p * len(deviation)), len(deviation) - 1)
    return deviation.argsort(descending=True, stable=True)[:kept].sort().values


def keep(w: Tensor, fmt: Format, columns: Tensor) -> StoredLinear:
    """Return ``w`` (out, in) rounded to nearest, but for ``columns``, which are kept in float16."""
    import torch

    if not len(columns):
        return StoredLinear(fmt.quantize(w))
    rest = torch.ones(w.shape[1], dtype=torch.bool, device=w.device)
    rest[columns] = False
    return StoredLinear(fmt.quantize(w[:, rest]), columns.int(), w[:, columns].half())


METHOD: Method = Proxy()

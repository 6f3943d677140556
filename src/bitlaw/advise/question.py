"""What is asked, and what can be chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitlaw.advise.engine import Engine
    from bitlaw.predictor.known import Known

WORKS = 2.0
"""Losses added beyond this many nats per token are those of a broken model: no budget is met with one."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        models: the candidates.
        engine: what serves them.
        budget: bytes for weights, keys and values; ``None`` for any.
        tolerance: nats per token that the loss may lie above the least one that any candidate has; ``None`` for any.
        seconds: that quantizing may take; ``None`` for any.
        formats: names of formats that are allowed; all that the engine loads if empty.
        methods: names of methods that are allowed; all of bitlaw's and the engine's if empty.
        context: tokens of a sequence.
        batch: sequences at once.
        cache_bits: bits of a number in the cache of keys and values.
        nll: unquantized losses in nats per token that are known, by model.
        text: the evaluation, as ``bitlaw.predictor.cells.collect`` takes it.
        task: the evaluation of zero-shot accuracies; if ``None``, the one that most is known of.
        seed: of the fits.
    """

    models: tuple[Known, ...]
    engine: Engine
    budget: float | None = None
    tolerance: float | None = None
    seconds: float | None = None
    formats: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    context: int = 2048
    batch: int = 1
    cache_bits: float = 16.0
    nll: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    task: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """A model in a format by a method, and what is known or predicted of it.

    Attributes:
        known: the model.
        format: name of the format; ``unquantized``, or a name of the engine's own.
        method: name of the method; ``none`` if unquantized.
        settings: of the method, as JSON; those of the measured cell.
        effective_bits: stored bits per quantizable weight, or of all weights where the engine's format says so.
        weights: bytes in memory.
        cache: bytes of keys and values.
        base_nll: loss of the unquantized model, nats per token.
        base_spread: how far it may be off, one standard deviation; 0 if it was measured.
        delta_nll: nats per token that the format adds; ``low`` and ``high`` are the ends of its interval.
        low: see ``delta_nll``.
        high: see ``delta_nll``.
        measured: whether the loss added is measured and not predicted.
        evaluation: what its loss was measured on, or is predicted for.
        seconds: estimate of the time that quantizing takes; ``None`` if not known.
        how: what computes with the weights.
        rounds: what else the engine rounds.
        extrapolates: in sentences, where the prediction lies outside what was measured.
        accuracy: share of right answers, with the ends of its interval; ``None`` if not known.
    """

    known: Known
    format: str
    method: str
    settings: str
    effective_bits: float
    weights: float
    cache: float
    base_nll: float
    base_spread: float
    delta_nll: float
    low: float
    high: float
    measured: bool
    evaluation: str
    seconds: float | None
    how: str = ""
    rounds: str = ""
    extrapolates: tuple[str, ...] = ()
    accuracy: tuple[float, float, float] | None = None

    @property
    def bytes(self) -> float:
        """What serving it takes, in bytes."""
        return self.weights + self.cache

    @property
    def nll(self) -> float:
        """Loss in nats per token."""
        return self.base_nll + self.delta_nll

    @property
    def nll_interval(self) -> tuple[float, float]:
        """The ends of the interval of the loss: those of what is added, and of the unquantized loss if estimated."""
        from bitlaw.predictor.fitted import TAIL

        return self.base_nll - TAIL * self.base_spread + self.low, self.base_nll + TAIL * self.base_spread + self.high

    @property
    def works(self) -> bool:
        """Whether the model is not broken; see ``WORKS``."""
        return self.delta_nll < WORKS

    def as_json(self) -> dict[str, Any]:
        """Return plain values; what is not known is null."""
        low, high = self.nll_interval
        accuracy = self.accuracy or (None, None, None)
        return {
            "model": self.known.name,
            "family": self.known.family,
            "format": self.format,
            "method": self.method,
            "settings": self.settings,
            "effective_bits": self.effective_bits,
            "bytes": round(self.bytes),
            "weight_bytes": round(self.weights),
            "cache_bytes": round(self.cache),
            "nll": self.nll,
            "nll_low": _known(low),
            "nll_high": _known(high),
            "delta_nll": self.delta_nll,
            "delta_low": _known(self.low),
            "delta_high": _known(self.high),
            "measured": self.measured,
            "evaluation": self.evaluation,
            **dict(zip(("accuracy", "accuracy_low", "accuracy_high"), accuracy, strict=True)),
            "calibration_seconds": self.seconds,
            "how": self.how,
            "rounds": self.rounds,
            "extrapolates": list(self.extrapolates),
        }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None

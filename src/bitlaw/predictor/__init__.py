"""Prediction of what quantization costs a model that was never run, from what is known without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.plugins import Plugins

if TYPE_CHECKING:
    from bitlaw.predictor.base import Model

MODELS: Plugins[Model] = Plugins("bitlaw.predictor.models", "MODEL", "predictor")

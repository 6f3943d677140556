"""The noise law along the model's own radial profile: what random noise of the format's strength costs this model."""

from __future__ import annotations

from bitlaw.predictor.base import Model
from bitlaw.predictor.noise_law import learner

MODEL = Model(
    name="radial",
    title="noise law along the model's radial profile",
    role="candidate",
    complexity=2,
    law=True,
    learn=learner(("log_radial",)),
    needs=("log_radial",),
)

"""The noise law: a soft step of the SQNR alone, shifted by the method."""

from __future__ import annotations

from bitlaw.predictor.base import Model
from bitlaw.predictor.noise_law import learner

MODEL = Model(
    name="noise",
    title="noise law: a soft step of the SQNR",
    role="candidate",
    complexity=1,
    law=True,
    learn=learner(("noise_db",)),
    needs=("noise_db",),
)

"""The noise law with the model's size and its unquantized loss."""

from __future__ import annotations

from bitlaw.predictor.base import Model
from bitlaw.predictor.noise_law import learner

MODEL = Model(
    name="noise_size",
    title="noise law with size and unquantized loss",
    role="candidate",
    complexity=3,
    law=True,
    learn=learner(("noise_db", "log_n", "base_nll")),
    needs=("noise_db", "log_n", "base_nll"),
)

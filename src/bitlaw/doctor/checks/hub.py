"""Whether the Hugging Face hub answers."""

from __future__ import annotations

from bitlaw.doctor.base import Finding
from bitlaw.models.hub import SECONDS, endpoint, unreachable


def check(root: str | None) -> list[Finding]:
    """Return whether the hub answers in seconds."""
    why = unreachable()
    if why is None:
        return [Finding("hub", "ok", f"{endpoint()} answers")]
    says = f"{endpoint()} does not answer within {SECONDS:g} s ({why}): only folders and cached models can be used"
    fix = "set HTTPS_PROXY or HF_ENDPOINT, or bring a cache with 'hf download' (HF_HOME) from a machine with network"
    return [Finding("hub", "warn", says, fix)]


CHECK = check

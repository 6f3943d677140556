"""Words of the comparison of laws: the situations that are tried, and the predictions without a law."""

from __future__ import annotations

SITUATIONS = {
    "family": "a family that was not measured",
    "size": "models larger than all that were measured",
    "bits": "fewer bits than were measured",
    "kind": "a kind of format that was not measured",
}
CELL, CURVES = "same cell", "bit-level curves"

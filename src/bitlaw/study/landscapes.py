"""What determines the landscape artifacts of a study: one of each model, one of each quantized cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitlaw.study.params import Landscape
    from bitlaw.text.store import Text

_OF_THE_MODEL = {"random": ("points", "kinds", "directions"), "curvature": ("probes", "lanczos")}
_OF_BOTH = ("tokens", "window", "batch")


@dataclass(frozen=True)
class Asked:
    """What a study asks of the landscape.

    Attributes:
        section: its settings.
        text: the text that losses are measured on.
    """

    section: Landscape
    text: Text

    def spec_of(self, role: str) -> dict[str, Any] | None:
        """Return the spec of a model's ``landscape`` or a cell's ``error_landscape``; ``None`` if not asked for."""
        if role == "landscape":
            names = [name for part, own in _OF_THE_MODEL.items() if part in self.section.along for name in own]
            return self._spec([*names, "seed"]) if names else None
        return {**self._spec([]), "points": self.section.error_points} if "error" in self.section.along else None

    def _spec(self, names: Sequence[str]) -> dict[str, Any]:
        settings = self.section.model_dump(mode="json", include={*_OF_BOTH, *names})
        return {**settings, "text": {"sha256": self.text.sha256}}

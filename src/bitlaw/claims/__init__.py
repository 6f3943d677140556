"""Claims of papers about quantized language models, each a test on a results table. One file, one claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitlaw.plugins import Plugins

if TYPE_CHECKING:
    from bitlaw.claims.base import Claim

CLAIMS: Plugins[Claim] = Plugins("bitlaw.claims", "CLAIM", "claim")

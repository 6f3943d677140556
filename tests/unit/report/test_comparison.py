"""Groups of cells in words."""

from __future__ import annotations

import json

import pytest

from bitlaw.methods import METHODS
from bitlaw.report.comparison import where

GPTQ = METHODS["gptq"].Settings().model_dump()


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ({"method": "gptq", "settings": json.dumps(GPTQ), "text": "a", "window": "256"}, "a, GPTQ, windows of 256"),
        ({"method": "gptq", "settings": json.dumps({**GPTQ, "sequential": True})}, "GPTQ, sequential"),
        ({"method": "gptq", "settings": json.dumps({**GPTQ, "damping": 0.1})}, "GPTQ, damping 0.1"),
        ({"method": "of-a-plugin", "settings": '{"k": 3}'}, "of-a-plugin, k 3"),
        ({"method": "rtn", "mix": "matmul", "select": "random"}, "RTN, mixed by single linears, random"),
        ({"method": "rtn", "mix": "none", "select": "none"}, "RTN"),
        ({"source": "sharify.csv", "method": "rtn", "window": "<NA>"}, "sharify.csv, RTN"),
    ],
)
def test_what_the_cells_of_a_group_have_in_common(by: dict[str, str], said: str) -> None:
    assert where(by) == said

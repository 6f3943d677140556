"""Round to nearest."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS


def test_rounds_every_block_to_the_nearest() -> None:
    fmt, w = parse("mxint4_b32"), torch.randn(5, 70, generator=torch.Generator().manual_seed(0))
    q, info = METHODS["rtn"].quantize(w, fmt, METHODS["rtn"].Settings())
    assert torch.equal(fmt.dequantize(q), fmt.fake_quantize(w))
    assert info == {}
    assert METHODS["rtn"].needs(METHODS["rtn"].Settings()) == "nothing"


def test_has_no_settings() -> None:
    with pytest.raises(ValidationError):
        METHODS["rtn"].Settings.model_validate({"damping": 0.1})

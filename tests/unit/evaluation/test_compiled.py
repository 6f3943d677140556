"""A model that goes through torch.compile: the same losses but for the last digits, with whatever weights it has."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch

from bitlaw.evaluation.divergence import Text, compare, forget, own_loss
from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model
from tiny import tiny_model


def test_a_compiled_model_gives_the_same_losses(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    location = {"pretrained": str(tmp_path), "revision": None, "device": "auto"}
    plain, compiled = load_model(location), load_model(location, compiled=True)
    assert plain is not compiled  # so that no other job gets one that was compiled
    assert load_model(location) is plain and load_model(location, compiled=True) is compiled
    # A last batch of fewer windows, and a last window that is shorter.
    ids = torch.randint(0, 320, (5 * 15 + 8,), generator=torch.Generator().manual_seed(0)).to(plain.device)
    kinds = []
    for model in (plain, compiled):
        linears = quantizable(model)
        weights = {one.name: parse("int3_b16").fake_quantize(one.weight()) for one in linears}
        swap: partial[AbstractContextManager[None]] = partial(swapped, linears, weights)
        text, key = Text(ids, 16, 15, 2), ("compiled", model is compiled)
        own = own_loss(model, text, key)
        found = compare(model, swap, text, key)
        with swap():
            changed = nll(model, ids, 16, 15, 2)
        assert own.sums == pytest.approx(nll(model, ids, 16, 15, 2).sums, rel=1e-5)
        kinds.append((own.sums, found.sums, changed.sums, found.kl, found.agreed))
    forget()
    for one, other in zip(*kinds, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert kinds[1][0] != pytest.approx(kinds[1][2], rel=1e-3)  # the compiled one sees the weights that it has now

"""The same landscape on a GPU as on the CPU."""

from __future__ import annotations

import pytest
import torch

from bitlaw.landscape.curvature import extremes, trace
from bitlaw.landscape.radial import distances_db, profiles
from bitlaw.landscape.surface import Surface, cut
from bitlaw.landscape.vectors import KINDS
from surfaces import text
from tiny import tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")


def surface_on(device: str, family: str) -> Surface:
    model = tiny_model(family).requires_grad_(False).to(device)
    return Surface(model, cut(text(96), 24), 2)


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "llama", "gpt_neox"])
def test_equals_the_cpu(family: str) -> None:
    here, there = (surface_on(device, family) for device in ("cpu", "cuda"))
    assert there.at_once > 1
    r_db = distances_db(7)
    for draw in KINDS.values():
        one, two = (profiles(s, [draw(s.weights, 3)], r_db)[0] for s in (here, there))
        assert two == pytest.approx(one, abs=2e-4)
    assert there.losses([there.weights] * 3, 1) == pytest.approx(there.losses([there.weights] * 3, 3), abs=1e-5)
    step = KINDS["gaussian"](here.weights, 4)
    moved = {name: d.cuda() for name, d in step.items()}
    assert there.expansion(moved) == pytest.approx(here.expansion(step), rel=1e-3)
    traces = [trace(s.hvp, s.weights, 3, 0).samples for s in (here, there)]
    assert traces[1] == pytest.approx(traces[0], rel=1e-3, abs=1e-2)
    tops = [extremes(s.hvp, s.weights, 10, 0).top for s in (here, there)]
    assert tops[1] == pytest.approx(tops[0], rel=1e-3)

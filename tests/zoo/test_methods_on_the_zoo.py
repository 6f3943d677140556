"""What the methods are for: on trained models they lose less than rounding to nearest."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.factors import inputs_of
from bitlaw.methods.work import Inputs, Work, groups_of
from bitlaw.models.calibration import Moments, moments, sample_windows
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model, load_tokenizer
from bitlaw.models.tokens import encode
from bitlaw.text.store import parse_text, resolve_text
from projects import ZOO

MODELS = ("bloom-0.1m", "gpt2-0.1m", "llama-0.1m", "neox-0.1m", "opt-0.1m")
METHODS_TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "rtn": ("rtn", {}),
    "gptq": ("gptq", {}),
    "sequential": ("gptq", {"sequential": True}),
    "awq": ("awq", {}),
    "proxy": ("proxy", {}),
}


def work_for(name: str, work: Work, of: dict[str, int], found: list[Moments], settings: Any) -> Work:
    """Return ``work`` with what the method gets from calibration or factors."""

    def known(linear: str) -> Inputs:
        one = found[of[linear]]
        if name != "gptq":
            return Inputs(one.hessian, one.absmean)
        itself = next(each for each in work.linears if each.name == linear)
        return inputs_of(one.hessian, [itself], **METHODS[name].factor_settings(settings))[linear]

    return Work(work.model, work.linears, known, groups_of({"of": of}, work.linears), work.windows)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], float]:
    """The mean loss added over ``MODELS``, by format and method."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("texts")
    calibration, held_out = (
        Path(resolve_text(parse_text(text), root).path).read_text("utf-8") for text in ("stdlib", "pydoc")
    )
    added: dict[tuple[str, str], list[float]] = defaultdict(list)
    for model_name in MODELS:
        location = {"pretrained": str(ZOO / model_name)}
        model, tokenizer = load_model(location), load_tokenizer(location)
        work = Work(model, quantizable(model), windows=sample_windows(tokenizer, calibration, 64, 256, seed=0))
        assert work.windows is not None
        ids = encode(tokenizer, held_out, 8192).ids
        baseline = nll(model, ids, 256, 255, 16).nll
        of, found = moments(model, work.linears, work.windows)
        for fmt in ("int4_b64", "int3_b64"):
            for label, (name, values) in METHODS_TRIED.items():
                settings = METHODS[name].Settings.model_validate(values)
                given = work_for(name, work, of, found, settings)
                quantized = METHODS[name].quantize_model(given, parse(fmt), settings)
                weights = {linear.name: stored.weight() for linear, stored, _ in quantized}
                with swapped(work.linears, weights):
                    added[fmt, label].append(nll(model, ids, 256, 255, 16).nll - baseline)
    return {key: fmean(each) for key, each in added.items()}


@pytest.mark.parametrize(("method", "share"), [("gptq", 0.85), ("sequential", 0.85), ("awq", 0.85), ("proxy", 1.0)])
@pytest.mark.parametrize("fmt", ["int4_b64", "int3_b64"])
def test_they_lose_less_than_rounding_to_nearest(
    losses: dict[tuple[str, str], float], fmt: str, method: str, share: float
) -> None:
    assert 0 < losses[fmt, method] < share * losses[fmt, "rtn"]


@pytest.mark.parametrize("fmt", ["int4_b64", "int3_b64"])
def test_block_by_block_loses_no_more_than_with_shared_factors(losses: dict[tuple[str, str], float], fmt: str) -> None:
    # On average of all fifteen models it is 1 to 3 % less; single models differ both ways.
    assert losses[fmt, "sequential"] < 1.05 * losses[fmt, "gptq"]

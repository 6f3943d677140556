"""What selections by sensitivity measure, each against a slow and obvious way to the same number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from bitlaw.errors import UserError
from bitlaw.evaluation.nll import nll
from bitlaw.evaluation.output_error import output_error
from bitlaw.mixing import SELECTS
from bitlaw.mixing.base import Errors, Select, SensitivitySelect
from bitlaw.models.calibration import moments
from bitlaw.models.linears import quantizable, swapped
from tiny import tiny_model

FAMILIES = ("gpt2", "opt", "llama")


def errors(family: str, size: float = 0.05, samples: int = 3) -> Errors:
    """Return a tiny model with random errors of a relative size in its linears."""
    model: Any = tiny_model(family)
    linears = quantizable(model)
    chance = torch.Generator().manual_seed(1)
    moved = {
        one.name: one.weight() + size * one.weight().std() * torch.randn(one.shape, generator=chance) for one in linears
    }
    windows = torch.randint(0, 320, (samples, 16), generator=chance)
    of, found = moments(model, linears, windows)
    pairs = {one.name: output_error(one.weight(), moved[one.name], found[of[one.name]].hessian) for one in linears}
    outputs = {name: {"signal": signal, "noise": noise} for name, (signal, noise) in pairs.items()}
    return Errors(model, linears, moved.__getitem__, outputs, windows)


def costs(select: str, known: Errors, **settings: Any) -> dict[str, float]:
    chosen = SELECTS[select]
    return dict(chosen.costs(known, chosen.Settings.model_validate(settings)))


@pytest.mark.parametrize("family", FAMILIES)
def test_output_error_is_the_share_of_noise_in_the_outputs(family: str) -> None:
    known = errors(family)
    found = costs("output_error", known)
    assert known.windows is not None
    inputs: dict[str, torch.Tensor] = {}
    handles = [
        one.module.register_forward_pre_hook(lambda _, args, name=one.name: inputs.__setitem__(name, args[0]))
        for one in known.linears
    ]
    with torch.no_grad():
        known.model(input_ids=known.windows)
    for handle in handles:
        handle.remove()
    for one in known.linears:
        x = inputs[one.name].double()
        noise = (x @ (known.quantized(one.name) - one.weight()).double().T).square().sum()
        signal = (x @ one.weight().double().T).square().sum()
        expected = float(noise / signal) * one.weight().numel()
        assert found[one.name] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_what_the_calibration_text_says_of_each_linear(family: str) -> None:
    known = errors(family)
    found = costs("loss", known)
    assert known.windows is not None
    whole = nll(known.model, known.windows.reshape(-1), 16, 16, 3).nll
    for one in known.linears:
        with swapped(known.linears, {one.name: known.quantized(one.name)}):
            alone = nll(known.model, known.windows.reshape(-1), 16, 16, 3).nll
        assert found[one.name] == pytest.approx(alone - whole, abs=1e-6)
    assert nll(known.model, known.windows.reshape(-1), 16, 16, 3).nll == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_curvature_is_the_mean_square_of_slopes_of_drawn_labels(family: str) -> None:
    """The same labels, window by window, and gradients with respect to the weights themselves."""
    known = errors(family)
    found = costs("curvature", known, draws=2, seed=5)
    assert known.windows is not None
    chance = torch.Generator().manual_seed(5)
    expected = dict.fromkeys(found, 0.0)
    parameters = [one.parameter.requires_grad_() for one in known.linears]
    for _ in range(2):
        with torch.no_grad():
            odds = known.model(input_ids=known.windows).logits[:, :-1].flatten(0, 1).softmax(-1)
        labels = torch.multinomial(odds, 1, generator=chance).reshape(3, 15)
        for window, drawn in zip(known.windows, labels, strict=True):
            logits = known.model(input_ids=window[None]).logits[0, :-1]
            slopes = torch.autograd.grad(cross_entropy(logits, drawn, reduction="sum"), parameters)
            for one, slope in zip(known.linears, slopes, strict=True):
                delta = known.quantized(one.name) - one.weight()
                expected[one.name] += float((slope * (delta.T if one.transposed else delta)).sum()) ** 2
    for name, value in expected.items():
        assert found[name] == pytest.approx(value / (2 * 2 * 3 * 15), rel=1e-3)


def test_curvature_tells_what_a_small_error_does_to_the_predictions() -> None:
    """Half the quadratic form of the Fisher information is the divergence of the predictions, for small errors."""
    known = errors("llama", size=0.01)
    found = costs("curvature", known, draws=400)
    with torch.no_grad():
        before = known.model(input_ids=known.windows).logits[:, :-1].double().log_softmax(-1).flatten(0, 1)
        for one in known.linears:
            with swapped(known.linears, {one.name: known.quantized(one.name)}):
                after = known.model(input_ids=known.windows).logits[:, :-1].double().log_softmax(-1).flatten(0, 1)
            divergence = float(kl_div(after, before, reduction="batchmean", log_target=True))
            # 1,200 draws: a standard error of 4 % or a little more.
            assert found[one.name] == pytest.approx(divergence, rel=0.2)


def test_an_error_that_is_none_costs_nothing() -> None:
    known = errors("llama", size=0.0)
    for name in SELECTS:
        if SELECTS[name].needs != "nothing":
            assert set(costs(name, known).values()) == {0.0}


def test_the_model_is_left_as_it_was() -> None:
    known = errors("gpt2")
    before = {name: parameter.clone() for name, parameter in known.model.named_parameters()}
    hooks = sum(len(module._forward_hooks) for module in known.model.modules())
    for name in SELECTS:
        if SELECTS[name].needs != "nothing":
            costs(name, known)
    assert all(torch.equal(parameter, before[name]) for name, parameter in known.model.named_parameters())
    assert all(parameter.grad is None for parameter in known.model.parameters())
    assert sum(len(module._forward_hooks) for module in known.model.modules()) == hooks


def test_a_selection_says_how_it_chooses() -> None:
    """One that forgets to cannot be made."""
    with pytest.raises(TypeError, match="abstract method.*choose"):
        type("Forgets", (Select,), {})()
    with pytest.raises(TypeError, match="abstract method.*costs"):
        type("Forgets", (SensitivitySelect,), {})()
    for name in SELECTS:
        assert isinstance(SELECTS[name], SensitivitySelect) == (SELECTS[name].needs != "nothing")
    assert SELECTS["output_error"].trials(None) is None
    assert SELECTS["loss"].choose([1, 2, 1], [5.0, 1.0, 0.5], 2, None, None) == [1]


def test_unknown_selection() -> None:
    with pytest.raises(UserError, match="unknown selection 'curvatur'; did you mean 'curvature'"):
        SELECTS["curvatur"]

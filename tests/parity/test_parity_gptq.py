"""GPTQ against llm-compressor's function and its authors' order of steps: equal but for float32's order of sums."""

from __future__ import annotations

from typing import Any

import authors_gptq
import oracles
import pytest
import torch
from torch import Tensor

from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.methods.gptq_factor import factorize
from bitlaw.methods.work import Inputs

torch.set_num_threads(1)

ROWS, COLUMNS = 256, 512
ENOUGH = {3: 0.9999, 4: 0.9999, 8: 0.998}
"""Share of equal weights by bits. A weight within float32's error of a tie may go the other way, and with it later ones
of its row; at 8 bits ties lie 16 times closer."""


@pytest.fixture(scope="module")
def problem() -> tuple[Tensor, Tensor]:
    """Return weights and the Hessian of correlated inputs, some of them much larger than others, one always zero."""
    generator = torch.Generator().manual_seed(0)
    w = 0.02 * torch.randn(ROWS, COLUMNS, generator=generator)
    mix = torch.randn(COLUMNS, COLUMNS, generator=generator) / COLUMNS**0.5
    size = torch.randn(COLUMNS, generator=generator).exp()
    x = torch.randn(4 * COLUMNS, COLUMNS, generator=generator) @ (mix + torch.eye(COLUMNS)) * size
    x[:, 7] = 0
    return w, 2 * x.T @ x / len(x)


def gptq(w: Tensor, hessian: Tensor, name: str, **settings: Any) -> Tensor:
    method, fmt = METHODS["gptq"], parse(name)
    chosen = method.Settings.model_validate(settings)
    factor = factorize(hessian, **method.factor_settings(chosen))
    result, _ = method.quantize(w, fmt, chosen, Inputs(factor=factor))
    return fmt.dequantize(result)


def equal_share(ours: Tensor, theirs: Tensor) -> float:
    return (ours == theirs).double().mean().item()


def same_code_share(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of weights with the same code, where steps may differ in their last bits."""
    return torch.isclose(ours, theirs, rtol=1e-5, atol=0).double().mean().item()


def names(bits: int, symmetric: bool, block: str = "g128") -> str:
    return f"int{bits}_{block}_{'sym' if symmetric else 'asym'}_sf32"


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_static_groups_as_llm_compressor(
    problem: tuple[Tensor, Tensor], bits: int, symmetric: bool, act_order: bool
) -> None:
    w, hessian = problem
    ours = gptq(w, hessian, names(bits, symmetric), act_order=act_order, static_groups=True)
    theirs = oracles.llm_compressor_gptq(w, hessian, bits, 128, symmetric=symmetric, act_order=act_order)
    assert equal_share(ours, theirs) >= ENOUGH[bits]


@pytest.mark.parametrize("block", [64, 128, 256])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_static_groups_as_the_authors(
    problem: tuple[Tensor, Tensor], bits: int, symmetric: bool, act_order: bool, block: int
) -> None:
    w, hessian = problem
    ours = gptq(w, hessian, names(bits, symmetric, f"g{block}"), act_order=act_order, static_groups=True)
    theirs = authors_gptq.gptq(w, hessian, bits, symmetric=symmetric, group=block, act_order=act_order, static=True)
    assert equal_share(ours, theirs) >= ENOUGH[bits]


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_as_the_authors(problem: tuple[Tensor, Tensor], symmetric: bool, act_order: bool) -> None:
    w, hessian = problem
    # Theirs takes the steps of rows, unlike those of groups, before it makes the columns zero that have no input.
    w = w * (hessian.diagonal() != 0)
    ours = gptq(w, hessian, names(4, symmetric, "row"), act_order=act_order)
    theirs = authors_gptq.gptq(w, hessian, 4, symmetric=symmetric, act_order=act_order)
    assert equal_share(ours, theirs) >= ENOUGH[4]


@pytest.mark.parametrize("block", [128, 256])
@pytest.mark.parametrize("symmetric", [False, True])
def test_scales_taken_on_the_way_as_the_authors(problem: tuple[Tensor, Tensor], symmetric: bool, block: int) -> None:
    w, hessian = problem
    ours = gptq(w, hessian, names(4, symmetric, f"g{block}"))
    theirs = authors_gptq.gptq(w, hessian, 4, symmetric=symmetric, group=block)
    # Another order of sums changes the last bits of steps. With "sym", amax lies on a tie, which these decide.
    assert same_code_share(ours, theirs) >= (0.995 if symmetric else ENOUGH[4])


def test_the_authors_read_scales_of_narrow_groups_from_weights_not_yet_updated(
    problem: tuple[Tensor, Tensor],
) -> None:
    """Inside a lazy block of columns theirs updates a copy, and takes the scale of a group from the original.

    With lazy blocks as wide as the groups the difference is gone. In bitlaw it does not depend on them.
    """
    w, hessian = problem

    def theirs(lazy: int) -> Tensor:
        return authors_gptq.gptq(w, hessian, 4, symmetric=False, group=32, lazy=lazy)

    ours = gptq(w, hessian, "int4_g32_asym_sf32")
    assert same_code_share(ours, theirs(32)) >= ENOUGH[4]
    assert same_code_share(ours, theirs(128)) < 0.5


def test_static_groups_and_scales_taken_on_the_way_are_two_algorithms(problem: tuple[Tensor, Tensor]) -> None:
    w, hessian = problem
    static = gptq(w, hessian, "int4_g128_sym_sf32", static_groups=True)
    assert equal_share(static, gptq(w, hessian, "int4_g128_sym_sf32")) < 0.5

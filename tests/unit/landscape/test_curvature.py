"""Trace and extreme eigenvalues, against whole matrices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.landscape.curvature import Product, extremes, trace
from bitlaw.landscape.vectors import Weights
from surfaces import exact, flat, smallest, unflat


def space(n: int) -> Weights:
    return {"a": torch.zeros(2, n // 2, dtype=torch.float64), "b": torch.zeros(1, n - 2 * (n // 2)).double()}


def product_of(matrix: torch.Tensor, weights: Weights) -> Product:
    return lambda v: unflat(matrix @ flat(v), weights)


def symmetric(values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    return q @ torch.diag(values.double()) @ q.T


@pytest.mark.parametrize("family", ["gpt2", "bloom", "llama"])
def test_a_model_against_its_exact_hessian(family: str) -> None:
    surface = smallest(family)
    _, hessian = exact(family)
    values = torch.linalg.eigvalsh(hessian)
    found = extremes(surface.hvp, surface.weights, 100, 0)
    assert found.top == pytest.approx(float(values[-1]), rel=1e-4)
    assert found.bottom == pytest.approx(float(values[0]), rel=1e-4)
    assert found.residual < 1e-3 * found.top
    estimate = trace(surface.hvp, surface.weights, 60, 0)
    assert abs(estimate.value - float(hessian.trace())) < 4 * estimate.error
    # The variance of a probe is twice the sum of the squares off the diagonal (Hutchinson 1989).
    off = hessian - torch.diag(hessian.diag())
    assert estimate.error == pytest.approx(math.sqrt(2 * float(off.square().sum()) / 60), rel=0.35)
    assert surface.hvps == 160


@given(st.integers(4, 30), st.integers(0, 100))
def test_lanczos_finds_both_ends(n: int, seed: int) -> None:
    matrix = symmetric(torch.randn(n, generator=torch.Generator().manual_seed(seed)), seed)
    values = torch.linalg.eigvalsh(matrix)
    weights = space(n)
    found = extremes(product_of(matrix, weights), weights, 4 * n, seed)
    assert found.top == pytest.approx(float(values[-1]), abs=1e-5)
    assert found.bottom == pytest.approx(float(values[0]), abs=1e-5)


@given(st.integers(6, 30), st.integers(1, 5), st.integers(0, 50))
def test_few_steps_bound_the_largest_from_below_and_say_how_near_one_is(n: int, steps: int, seed: int) -> None:
    matrix = symmetric(torch.rand(n, generator=torch.Generator().manual_seed(seed)).exp(), seed)
    values = torch.linalg.eigvalsh(matrix)
    weights = space(n)
    found = extremes(product_of(matrix, weights), weights, steps, seed)
    assert found.steps == steps and found.top <= float(values[-1]) + 1e-9
    assert float((values - found.top).abs().min()) <= found.residual + 1e-9


def test_lanczos_stops_where_the_space_ends() -> None:
    weights = space(10)
    found = extremes(product_of(3 * torch.eye(10).double(), weights), weights, 50, 0)
    assert (found.steps, found.top, found.bottom) == (1, pytest.approx(3), pytest.approx(3))
    zero = extremes(product_of(torch.zeros(10, 10).double(), weights), weights, 50, 0)
    assert (zero.steps, zero.top, zero.residual) == (1, 0, 0)


def test_signs_give_the_trace_of_a_diagonal_exactly() -> None:
    weights = space(20)
    estimate = trace(product_of(torch.diag(torch.arange(20.0).double()), weights), weights, 3, 0)
    assert (estimate.value, estimate.error) == (190, 0)
    assert math.isnan(trace(product_of(torch.eye(20).double(), weights), weights, 1, 0).error)


def test_nan_is_passed_on() -> None:
    weights = space(6)
    broken = product_of(torch.full((6, 6), math.nan, dtype=torch.float64), weights)
    assert math.isnan(trace(broken, weights, 3, 0).value) and math.isnan(trace(broken, weights, 3, 0).error)
    assert math.isnan(extremes(broken, weights, 3, 0).top)


def test_a_seed_says_it_all() -> None:
    weights = space(12)
    product = product_of(symmetric(torch.randn(12, generator=torch.Generator().manual_seed(0))), weights)
    assert trace(product, weights, 5, 1) == trace(product, weights, 5, 1) != trace(product, weights, 5, 2)
    assert trace(product, weights, 9, 1).samples[:5] == trace(product, weights, 5, 1).samples
    assert extremes(product, weights, 3, 1) == extremes(product, weights, 3, 1) != extremes(product, weights, 3, 2)

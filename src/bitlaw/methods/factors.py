"""Cholesky factors of Hessians: made of a calibration, stored, and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from bitlaw.held import Live
from bitlaw.methods.gptq_factor import Factor, HessianError, factorize
from bitlaw.methods.work import Inputs, index_of

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.models.linears import Linear


def inputs_of(hessian: Tensor, linears: Sequence[Linear], *, damping: float, act_order: bool) -> dict[str, Inputs]:
    """Return factor and energy for the linears whose inputs have this Hessian, by name.

    Raises:
        HessianError: see ``gptq_factor.factorize``; its place names the linears.
    """
    try:
        factor = factorize(hessian, damping, act_order)
    except HessianError as error:
        raise HessianError(error.message, place=", ".join(linear.name for linear in linears)) from error
    return {linear.name: Inputs(factor=factor, energy=energy(linear.weight(), hessian)) for linear in linears}


def energy(w: Tensor, hessian: Tensor) -> float:
    """Return ``tr(W H W^T)``, W (out, in), H (in, in): the mean squared output without bias, times 2; in float64."""
    w = w.float()
    return float((w @ hessian).mul_(w).sum(dtype=torch.float64))


def tensors_of(factor: Factor) -> dict[str, Tensor]:
    """Return the storage form of ``factor``: the rows of ``upper`` from the diagonal on, in one; order; dead.

    The lower half is zero, so it is not stored: these are the largest artifacts of a study.
    """
    if factor.upper.is_cuda:
        rows, columns = _triangle(factor.upper)
        upper = factor.upper[rows, columns]
    else:
        # Row by row, for an index of the triangle would be larger than the factor.
        upper = torch.cat([row[i:] for i, row in enumerate(factor.upper)])
    return {"upper": upper, "order": factor.order.int(), "dead": factor.dead}


def packed(factors: Mapping[int, Factor]) -> dict[str, Tensor]:
    """Return the storage form of ``factors``, by name ``<part>.<number>``; see ``tensors_of``."""
    return {f"{name}.{i}": part for i, factor in factors.items() for name, part in tensors_of(factor).items()}


def _triangle(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns of the upper triangle of ``matrix``, (n, n), row by row: one step for a GPU."""
    rows, columns = torch.triu_indices(len(matrix), len(matrix), device=matrix.device)
    return rows, columns


def factor_from(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Factor:
    """Return the factor whose storage form is ``tensors``; the inverse of ``tensors_of``.

    Args:
        tensors: ``upper``, ``order``, ``dead``.
        record: as ``record_of`` gives it.

    Raises:
        ValueError: the parts' sizes do not fit each other.
    """
    n = len(tensors["order"])
    if len(tensors["upper"]) != n * (n + 1) // 2:
        raise ValueError(f"the triangle of a factor of {n} columns has {n * (n + 1) // 2} numbers")
    upper = torch.zeros(n, n, device=tensors["upper"].device)
    if upper.is_cuda:
        upper[_triangle(upper)] = tensors["upper"]
    else:
        start = 0
        for i in range(n):
            upper[i, i:] = tensors["upper"][start : (start := start + n - i)]
    return Factor(
        upper=upper,
        order=tensors["order"].long(),
        dead=tensors["dead"],
        damping=record["damping"],
        damping_tries=record["damping_tries"],
        shift=record["shift"],
        dead_columns=record["dead_columns"],
        in_order=record["in_order"],
    )


def record_of(factor: Factor) -> dict[str, Any]:
    """Return what is worth knowing of ``factor`` in plain JSON values."""
    names = ("damping", "damping_tries", "shift", "dead_columns", "in_order")
    return {name: getattr(factor, name) for name in names}


def inputs(tensors: Mapping[str, Tensor], result: Mapping[str, Any]) -> Callable[[str], Inputs]:
    """Return the inputs that the artifact of the factorize stage with ``tensors`` and ``result`` holds, by linear.

    See ``Inputs`` for the shapes. A factor is unpacked when it is asked for; linears that share one follow each other,
    so the last one is kept.
    """
    kept: dict[int, Factor] = {}

    def of(linear: str) -> Inputs:
        i = index_of(result, linear)
        if isinstance(tensors, Live):
            return Inputs(factor=tensors.objects[i], energy=result["energy"][linear])
        if i not in kept:
            kept.clear()
            parts = {name: tensors[f"{name}.{i}"] for name in ("upper", "order", "dead")}
            kept[i] = factor_from(parts, result["factors"][i])
        return Inputs(factor=kept[i], energy=result["energy"][linear])

    return of

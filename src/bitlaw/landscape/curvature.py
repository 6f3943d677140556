"""The Hessian of the loss without the Hessian: its trace and its largest eigenvalue, from products with vectors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bitlaw.landscape.vectors import Weights, dot, moved, norm, scaled, seeds, signs, unit

Product = Callable[[Weights], Weights]


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: the mean of ``samples``.
        error: its standard error; NaN for a single sample.
        samples: the quadratic forms of the probes.
        seeds: of the probes.
    """

    value: float
    error: float
    samples: list[float]
    seeds: list[int]


@dataclass(frozen=True)
class Extremes:
    """The ends of a spectrum.

    Attributes:
        top: the largest Ritz value, a lower bound of the largest eigenvalue.
        residual: some eigenvalue lies within this distance of ``top``.
        bottom: the smallest Ritz value, an upper bound of the smallest eigenvalue.
        steps: products used; fewer than asked for if the space was exhausted.
        seed: of the first vector.
    """

    top: float
    residual: float
    bottom: float
    steps: int
    seed: int


def trace(product: Product, weights: Weights, probes: int, seed: int) -> Trace:
    """Return Hutchinson's estimate: the mean of ``z.H.z`` over random vectors z of signs (Hutchinson 1989).

    Args:
        product: multiplies a vector by H.
        weights: gives the shapes of vectors.
        probes: number of vectors, each one product.
        seed: the vectors' seeds follow from it.
    """
    chosen = seeds(seed, probes)
    samples = []
    for one in chosen:
        z = signs(weights, one)
        samples.append(dot(z, product(z)))
    value = sum(samples) / probes
    error = statistics.stdev(samples) / math.sqrt(probes) if probes > 1 and math.isfinite(value) else math.nan
    return Trace(value, error, samples, chosen)


def extremes(product: Product, weights: Weights, steps: int, seed: int) -> Extremes:
    """Return the ends of the spectrum of H by ``steps`` steps of the Lanczos iteration.

    Three vectors are kept and none is orthogonalized again: rounding then makes copies of converged eigenvalues, and
    leaves the extreme ones right (Golub and Van Loan, "Matrix Computations", 4th edition, section 10.3).

    Args:
        product: multiplies a vector by H.
        weights: gives the shapes of vectors.
        steps: at least 1.
        seed: of the first vector, normal numbers.
    """
    v, before = unit(weights, seed), None
    diagonal: list[float] = []
    beside: list[float] = []
    while len(diagonal) < steps:
        w = product(v)
        diagonal.append(dot(v, w))
        if not math.isfinite(diagonal[-1]):
            return Extremes(math.nan, math.nan, math.nan, len(diagonal), seed)
        w = moved(w, v, -diagonal[-1])
        if before is not None:
            w = moved(w, before, -beside[-1])
        length = norm(w)
        beside.append(length)
        if length <= 1e-6 * max(map(abs, diagonal)):  # the space that H makes of the first vector is used up
            break
        before, v = v, scaled(w, 1 / length)
    inner = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    values, vectors = np.linalg.eigh(inner)
    residual = beside[-1] * abs(float(vectors[-1, -1]))
    return Extremes(float(values[-1]), residual, float(values[0]), len(diagonal), seed)

"""Bootstrap and profile agree with each other, and with what is known where the law is linear."""

from __future__ import annotations

import numpy as np
import pytest

import synthetic
from bitlaw.laws import LAWS, intervals
from bitlaw.laws.base import start
from bitlaw.laws.fit import optimum
from bitlaw.laws.model import Layout, Model


def model(name: str = "kumar", huber: float = 10.0, noise: float = 0.05) -> tuple[Model, np.ndarray]:
    law = LAWS[name]
    table = synthetic.table(sizes=tuple(int(1e5 * 2**i) for i in range(6)), noise=noise)
    settings = law.settings(saturated_above=1e9, huber=huber)
    problem = next(p for p in law.select(start(law, table, settings), settings) if p.by["method"] == "rtn")
    made = Model(law, Layout(problem, huber))
    return made, optimum(made, 8, np.random.default_rng(0))


def test_the_profile_of_a_linear_law_is_the_interval_of_least_squares() -> None:
    # Kumar's law is linear in the logarithms but for gamma_post, through 1 / gamma_post.
    made, theta = model()
    low, high = intervals.profile(made, theta, 0.9)
    rows = made.layout.problem.rows
    design = np.stack([np.ones(len(rows)), np.log(rows["n_params"].astype(float)), rows["effective_bits"]], axis=1)
    rest = made.residuals(theta, made.target)
    n, p = design.shape
    spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * (rest @ rest) / (n - p))
    assert high[1] - theta[1] == pytest.approx(1.645 * spread[1], rel=0.03)  # gamma_N
    assert theta[1] - low[1] == pytest.approx(1.645 * spread[1], rel=0.03)


def test_a_profile_that_does_not_close_is_open() -> None:
    made, theta = model("gmse", huber=0.25)
    assert [slot.constant.name for slot in made.layout.slots][-1] == "S"
    theta = theta.copy()
    profile = intervals.profile(made, theta, 0.9)
    assert profile is not None
    low, high = profile
    assert (low < theta).all() and (high > theta).all()
    assert np.isfinite(low[:3]).all() and np.isfinite(high[:3]).all()


@pytest.mark.parametrize("name", ["kumar", "power_offset"])
def test_one_newton_step_gives_about_the_interval_of_refits(name: str) -> None:
    if name == "kumar":
        made, theta = model(huber=0.05)
    else:
        law = LAWS[name]
        table = synthetic.table(families=("opt",), sizes=tuple(int(20 * 1.06**i) for i in range(300)), formats=())
        (problem,) = law.select(start(law, table, law.settings()), law.settings())
        made = Model(law, Layout(problem, 0.02))
        theta = optimum(made, 8, np.random.default_rng(0))
    refits, converged, said = intervals.bootstrap(made, theta, np.random.default_rng(1), 600, work=0)
    steps, _, other = intervals.bootstrap(made, theta, np.random.default_rng(1), 600, work=10**9)
    assert converged.mean() > 0.99
    assert "one Newton step" in other and "one Newton step" not in said
    np.testing.assert_allclose(np.quantile(steps, [0.05, 0.95], axis=0), np.quantile(refits, [0.05, 0.95], axis=0),
                               atol=0.25 * refits.std(axis=0).max())  # fmt: skip
    np.testing.assert_allclose(steps.std(axis=0), refits.std(axis=0), rtol=0.2)

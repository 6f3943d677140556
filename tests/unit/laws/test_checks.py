"""What the papers found comes out: Chinchilla refitted, and GPTQ's damage against size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from bitlaw.errors import UserError
from bitlaw.laws import LAWS
from bitlaw.laws.fit import fit
from bitlaw.laws.solver import huber
from bitlaw.published.chinchilla import points
from bitlaw.published.load import load, losses
from projects import SHARED

EPOCH = SHARED / "published" / "epoch_chinchilla_svg_extracted_data.csv"
BESIROGLU = {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658}


@pytest.mark.skipif(not EPOCH.is_file(), reason="the points of Chinchilla's figure are no part of the project")
def test_chinchilla_is_refitted() -> None:
    law, runs = LAWS["chinchilla"], points(EPOCH)
    (found,) = fit(law, runs, law.settings(interval=0.95), seed=0, bootstraps=400)["fits"]
    assert found["n"] == 240
    assert found["objective"] == pytest.approx(0.0010183, abs=1e-6)
    for constant in found["constants"]:
        assert constant["low"] < BESIROGLU[constant["name"]] < constant["high"]
        assert constant["profile"][0] < BESIROGLU[constant["name"]] < constant["profile"][1]
    assert found["warnings"] == []


@pytest.mark.skipif(not EPOCH.is_file(), reason="the points of Chinchilla's figure are no part of the project")
def test_no_lower_objective_is_found_by_l_bfgs() -> None:
    law, runs = LAWS["chinchilla"], points(EPOCH)
    (found,) = fit(law, runs, law.settings(), seed=0, bootstraps=0)["fits"]
    n, d, y = (runs[name].to_numpy("float64") for name in ("n_params", "n_tokens", "nll"))

    def objective(t: np.ndarray) -> float:
        terms = np.logaddexp(t[0] - t[3] * np.log(n), t[1] - t[4] * np.log(d))
        return 1e3 * float(huber(np.logaddexp(terms, t[2]) - np.log(y), np.ones(1), 1e-3))

    starts = [(a, b, e, x, z) for a in (5, 10) for b in (5, 10) for e in (0, 1) for x in (0.3, 0.6) for z in (0.3, 0.6)]
    best = min((minimize(objective, start, method="L-BFGS-B", tol=1e-12) for start in starts), key=lambda r: r.fun)
    assert found["objective"] <= best.fun / 1e3 * (1 + 1e-6)


def test_a_missing_or_other_file_of_points_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; it is a copy of github\.com/epoch-research"):
        points(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(UserError, match="no column 'Model Size'"):
        points(tmp_path / "x.csv")


@pytest.fixture(scope="module")
def gptq() -> pd.DataFrame:
    table = losses(load(["gptq_paper"]))
    return table[(table["block"].isin(["row", "none"])) & (table["family"] == "bloom")]


@pytest.mark.parametrize("text", ["wikitext-2", "ptb"])
@pytest.mark.parametrize("bits", [3, 4])
def test_gptq_damage_of_bloom_falls_with_size_to_about_the_power_of_a_third(
    gptq: pd.DataFrame, text: str, bits: int
) -> None:
    # Sizes as the paper names them, all parameters: without embeddings the exponents are smaller by a tenth.
    rows = gptq.assign(n_params=gptq["n_total"])
    rows = rows[(rows["bits"] == bits) & (rows["method"] == "gptq") & (rows["text"] == text)]
    law = LAWS["gmse"]
    (found,) = fit(law, rows, law.settings(), seed=0, bootstraps=50)["fits"]
    exponent = {c["name"]: c["value"] for c in found["constants"]}["g"]
    assert found["n"] == 6
    assert 0.30 < exponent < 0.40


def test_three_bits_cost_five_times_as_much_as_four(gptq: pd.DataFrame) -> None:
    law = LAWS["kumar"]
    for entry in fit(law, gptq[gptq["method"] != "rtn"], law.settings(), seed=0, bootstraps=0)["fits"]:
        gamma = {c["name"]: c["value"] for c in entry["constants"]}["gamma_post"]
        assert 0.5 < gamma < 0.65  # Kumar et al.: 0.5907, fitted to models of at most 220 M parameters

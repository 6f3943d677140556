"""A ladder in which one family has a second axis of training tokens: no curve of sizes mixes them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.claims.rows import prepared
from bitlaw.laws import LAWS
from bitlaw.laws.bitlevel import predict
from bitlaw.laws.fit import fit
from bitlaw.series import lineage, series

SIZES = (100_000, 300_000, 900_000, 2_700_000, 8_100_000, 24_300_000)
TOKENS = (5, 20, 80, 320)
TRUE = {"E": 1.6, "A": 90.0, "B": 300.0, "alpha": 0.31, "beta": 0.35}
GAMMA_D, GAMMA_N = 0.42, 0.28


def ladder(noise: float = 0.0) -> pd.DataFrame:
    """Return five families on 20 tokens a parameter, one of them on 5, 80 and 320 too, quantized at 4 bit widths."""
    rng = np.random.default_rng(0)
    rows = []
    for family in synthetic.FAMILIES:
        for n in SIZES:
            for ratio in TOKENS if family == "llama" else (20,):
                d = round(ratio * n * float(rng.uniform(1.0, 1.02)))  # whole batches
                loss = TRUE["E"] + TRUE["A"] * n ** -TRUE["alpha"] + TRUE["B"] * d ** -TRUE["beta"]
                loss *= float(np.exp(noise * rng.standard_normal()))
                one = {
                    "model": f"{family}-{n}-{ratio}",
                    "family": family,
                    "n_params": n,
                    "n_total": n + 500_000,
                    "n_tokens": d,
                }
                rows.append(synthetic.row(**one, nll=loss, model_bits=16.0 * (n + 500_000)))
                for bits in (3, 4, 5, 6):
                    delta = 0.02 * d**GAMMA_D * n**-GAMMA_N * float(np.exp(-(bits + 0.25) / 0.6))
                    delta *= float(np.exp(noise * rng.standard_normal()))
                    kind = {"format": f"int{bits}_b64", "element": f"int{bits}", "bits": bits, "block": "64"}
                    kind |= {"effective_bits": bits + 0.25, "scale_rule": "absmax", "scale_dtype": "float16"}
                    size = n * (bits + 0.25) + 16.0 * 500_000
                    rows.append(
                        synthetic.row(**one, **kind, method="rtn", nll=loss + delta, delta_nll=delta, q_ratio=1.0,
                                      sqnr_db=6.0 * bits, model_bits=size)
                    )  # fmt: skip
    return synthetic.frame(rows)


def fitted(name: str, table: pd.DataFrame) -> list[dict]:
    return fit(LAWS[name], table, LAWS[name].settings(), seed=0, bootstraps=0)["fits"]


def constants(one: dict) -> dict[str, float]:
    return {constant["name"]: constant["value"] for constant in one["constants"]}


def test_sizes_that_were_trained_alike_are_a_series() -> None:
    said = {f"llama, {ratio} tokens a parameter" for ratio in ("5.1", "20", "81", "320")}
    assert set(series(ladder())) == {"bloom", "gpt2", "gpt_neox", "opt", *said}


def test_names_tell_series_apart_where_a_family_has_several_models_of_a_size() -> None:
    sizes = {"0.3m": 300_000, "1m": 900_000, "9m": 8_100_000}
    stems = (("llama", ""), ("llama", "-d80"), ("llama-novels", ""))
    rows = [(f"{stem}-{size}{tail}", "llama", n, 10**8) for stem, tail in stems for size, n in sizes.items()]
    rows += [("opt-0.3m", "opt", 300_000, 10**8), ("opt-1m", "opt", 900_000, 10**8), ("mine", None, 900_000, 10**8)]
    table = pd.DataFrame(rows, columns=["model", "family", "n_params", "n_tokens"])
    found = series(table)
    assert found[:9].tolist() == ["llama"] * 3 + ["llama-d80"] * 3 + ["llama-novels"] * 3
    assert found[9:11].tolist() == ["opt", "opt"] and pd.isna(found[11])
    assert series(table.drop(columns="n_tokens")).equals(found)


def test_the_law_of_size_and_tokens_finds_its_constants_on_the_family_that_has_both() -> None:
    found = fit(LAWS["chinchilla"], ladder(), LAWS["chinchilla"].settings(), seed=0, bootstraps=0)
    (one,) = found["fits"]
    assert one["by"]["family"] == "llama" and one["n"] == len(SIZES) * len(TOKENS)
    assert constants(one) == pytest.approx(TRUE, rel=1e-3)
    refused = {entry["by"]["family"]: entry["reason"] for entry in found["not_fitted"]}
    assert set(refused) == {"bloom", "gpt2", "gpt_neox", "opt"}
    assert set(refused.values()) == {"the training tokens do not vary independently of the parameters"}


def test_models_of_one_size_and_as_many_tokens_are_not_on_one_surface() -> None:
    table = ladder()
    other = table[table["family"] == "llama"].assign(nll=lambda rows: rows["nll"] + 0.3)
    other = other.assign(model="novels-" + other["model"], key="novels-" + other["key"])
    both = pd.concat([table, other], ignore_index=True)
    names = {"llama": "llama-{}m-d{}", "novels-llama": "llama-novels-{}m-d{}"}
    both["model"] = [
        names[name.rpartition("llama")[0] + "llama"].format(n / 1e6, name.rpartition("-")[2])
        if "llama" in name
        else name
        for name, n in zip(both["model"], both["n_params"], strict=True)
    ]
    fits = fitted("chinchilla", both)
    assert [one["by"]["family"] for one in fits] == []  # each series has one number of tokens a parameter
    assert set(lineage(both)) >= {"opt", "llama-d5", "llama-novels-d320"} and "llama" not in set(lineage(both))
    assert set(lineage(table)) == set(synthetic.FAMILIES)


def test_noise_moves_the_constants_a_little() -> None:
    (one,) = fitted("chinchilla", ladder(noise=0.003))
    found = constants(one)
    assert found["alpha"] == pytest.approx(TRUE["alpha"], abs=0.08)
    assert found["beta"] == pytest.approx(TRUE["beta"], abs=0.08)


def test_the_damage_grows_with_training_tokens_as_it_was_made() -> None:
    (one,) = fitted("kumar", ladder())
    found = constants(one)
    assert found["gamma_D"] == pytest.approx(GAMMA_D, rel=1e-3)
    assert found["gamma_N"] == pytest.approx(GAMMA_N, rel=1e-3)
    assert found["gamma_post"] == pytest.approx(0.6, rel=1e-3)


@pytest.mark.parametrize("name", ["power_offset", "kaplan_n"])
def test_a_law_of_size_alone_is_fitted_to_sizes_that_were_trained_alike(name: str) -> None:
    fits = fitted(name, ladder())
    families = {one["by"]["family"] for one in fits}
    assert {"opt", "llama, 20 tokens a parameter"} <= families and "llama" not in families
    assert all(one["n"] == len(SIZES) and one["r2"] > 0.98 for one in fits)


def test_claims_compare_sizes_that_were_trained_alike() -> None:
    rows = prepared(ladder())
    assert rows.groupby("series")["model"].nunique().eq(len(SIZES)).all()
    assert set(rows["family"]) == set(synthetic.FAMILIES)  # a family that is left out is left out as a whole


def test_curves_of_bits_do_not_mix_training_tokens() -> None:
    table = ladder()

    def predicted(table: pd.DataFrame) -> np.ndarray:
        quantized = table["format"] != "unquantized"
        return predict(table[quantized], table[~quantized], table[quantized].reset_index(drop=True))

    assert np.array_equal(predicted(table), predicted(table.assign(family=series(table))))

"""Fits recover what made-up tables were made with, and say what they cannot tell."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

import synthetic
from bitlaw.errors import UserError
from bitlaw.laws import LAWS
from bitlaw.laws.fit import fit


def run(name: str, table: pd.DataFrame, bootstraps: int = 50, seed: int = 0, **settings: Any) -> dict[str, Any]:
    law = LAWS[name]
    return fit(law, table, law.settings(**settings), seed=seed, bootstraps=bootstraps)


def constants(entry: dict[str, Any]) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(c["name"], c["group"]): c for c in entry["constants"]}


@pytest.fixture(scope="module")
def demo() -> pd.DataFrame:
    return synthetic.table()


def test_kumar_recovers_its_constants_within_2_percent() -> None:
    sizes = tuple(int(1e5 * 4**i) for i in range(8))
    table = synthetic.table(sizes=sizes, tokens=(10**8, 10**9, 10**10))
    found = run("kumar", table, saturated_above=1e9)
    assert len(found["fits"]) == 4
    for entry in found["fits"]:
        c, gamma_n, gamma_post = synthetic.KUMAR[entry["by"]["method"]]
        values = constants(entry)
        assert values["gamma_D", None]["value"] == pytest.approx(synthetic.GAMMA_D, rel=0.02)
        assert values["gamma_N", None]["value"] == pytest.approx(gamma_n, rel=0.02)
        assert values["gamma_post", None]["value"] == pytest.approx(gamma_post, rel=0.02)
        assert values["C_T", None]["value"] == pytest.approx(c, rel=0.15)  # far outside the data: D = N = 1, P = 0
        assert entry["r2"] > 0.999


def test_kumar_with_one_token_count_holds_gamma_d_and_recovers_the_rest_within_2_percent() -> None:
    sizes = tuple(int(1e5 * 2**i) for i in range(16))
    found = run("kumar", synthetic.table(sizes=sizes), saturated_above=1e9)
    for entry in found["fits"]:
        c, gamma_n, gamma_post = synthetic.KUMAR[entry["by"]["method"]]
        values = constants(entry)
        assert values["gamma_D", None]["held"] and values["gamma_D", None]["value"] == 0.5068
        assert any("gamma_D is held at the published 0.5068" in note for note in entry["notes"])
        for name, truth in (("C_T", c), ("gamma_N", gamma_n), ("gamma_post", gamma_post)):
            assert values[name, None]["value"] == pytest.approx(truth, rel=0.02)


def test_power_offset_recovers_its_constants_within_2_percent() -> None:
    table = synthetic.table(families=("opt", "llama"), sizes=tuple(int(20 * 1.06**i) for i in range(300)), formats=())
    found = run("power_offset", table)
    assert [entry["by"]["family"] for entry in found["fits"]] == ["llama", "opt"]
    for entry in found["fits"]:
        family = entry["by"]["family"]
        scale, alpha = synthetic.CURVE[family]
        values = constants(entry)
        assert values["E", None]["value"] == pytest.approx(synthetic.ENTROPY, rel=0.02)
        assert values["A", family]["value"] == pytest.approx(scale, rel=0.02)
        assert values["alpha", family]["value"] == pytest.approx(alpha, rel=0.02)


def test_power_offset_shares_e_among_families_with_three_sizes(demo: pd.DataFrame) -> None:
    (entry,) = run("power_offset", demo, bootstraps=300)["fits"]
    assert (entry["n"], entry["fitted_constants"], entry["df"]) == (15, 11, 4)
    assert [group["n"] for group in entry["groups"]] == [3] * 5
    assert sum(c["name"] == "E" for c in entry["constants"]) == 1
    e = constants(entry)["E", None]
    assert e["low"] < synthetic.ENTROPY < e["high"]
    assert "sqrt(n/df) = 1.94" in entry["bootstrap"]
    assert any("4 degrees of freedom" in warning for warning in entry["warnings"])
    assert any("one constant for 5 families" in note for note in entry["notes"])


def test_the_noise_free_constants_are_exact() -> None:
    (entry,) = run("power_offset", synthetic.table(noise=0.0))["fits"]
    values = constants(entry)
    assert values["E", None]["value"] == pytest.approx(synthetic.ENTROPY, rel=1e-4)
    for family, (scale, alpha) in synthetic.CURVE.items():
        assert values["A", family]["value"] == pytest.approx(scale, rel=1e-3)
        assert values["alpha", family]["value"] == pytest.approx(alpha, rel=1e-4)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(24):
        table = synthetic.table(
            families=("opt", "llama", "gpt2"), formats=(("int", 3, "64"), ("int", 4, "64")), seed=seed
        )
        for entry in run("kumar", table, bootstraps=100, saturated_above=1e9, seed=seed)["fits"]:
            value = constants(entry)["gamma_post", None]
            inside += value["low"] <= synthetic.KUMAR[entry["by"]["method"]][2] <= value["high"]
    assert inside / 48 > 0.72  # 90 % nominal; nine models are few clusters


def test_the_same_seed_gives_the_same_record_and_another_seed_other_intervals(demo: pd.DataFrame) -> None:
    first, again, other = run("kumar", demo), run("kumar", demo), run("kumar", demo, seed=1)
    assert json.dumps(first) == json.dumps(again)
    assert first["fits"][0]["constants"][0]["low"] != other["fits"][0]["constants"][0]["low"]
    assert first["fits"][0]["constants"][0]["value"] == pytest.approx(
        other["fits"][0]["constants"][0]["value"], rel=1e-5
    )


def test_a_problem_does_not_depend_on_the_others(demo: pd.DataFrame) -> None:
    alone = run("kumar", demo[demo["method"].isin(["none", "rtn"])])["fits"]
    assert json.dumps(alone) == json.dumps([e for e in run("kumar", demo)["fits"] if e["by"]["method"] == "rtn"])


def test_excluded_rows_are_counted_by_reason(demo: pd.DataFrame) -> None:
    table = demo.copy()
    some = table.index[(table["format"] == "int4_b64")][:3]
    table.loc[some[0], ["nll", "delta_nll"]] = float("nan")
    table.loc[some[0], "finite"] = False
    table.loc[some[1:], "delta_nll"] = [0.0, -0.01]
    found = run("kumar", table)
    above = int((demo["delta_nll"] > 1.0).sum())
    assert above > 0
    assert found["excluded"] == {
        "the loss is not finite": 1,
        "the baseline itself": 15,
        "delta_nll is zero or negative: it has no logarithm": 2,
        "saturated: delta_nll above 1 nats": above,
    }
    assert sum(entry["n"] for entry in found["fits"]) == len(table) - sum(found["excluded"].values())


def test_missing_training_tokens_are_said_and_not_fitted(demo: pd.DataFrame) -> None:
    table = demo.assign(n_tokens=pd.array([None] * len(demo), dtype="Int64"))
    found = run("kumar", table)
    assert found["fits"] == []
    assert found["excluded"] == {"n_tokens is missing": len(demo)}
    assert [entry["reason"] for entry in found["not_fitted"]] == ["n_tokens has no value in any row that is left"]


def test_a_sub_group_that_cannot_be_fitted_is_recorded() -> None:
    table = synthetic.table(formats=(("int", 3, "64"), ("int", 4, "64"), ("mxint", 4, "32")))
    found = run("kumar", table)
    assert {entry["by"]["element"] for entry in found["fits"]} == {"int"}
    assert [entry["by"]["element"] for entry in found["not_fitted"]] == ["mxint", "mxint"]
    assert found["not_fitted"][0]["reason"].startswith("no model has cells 0.5 bits apart")


def test_bits_that_differ_only_between_models_are_no_bits_to_fit() -> None:
    # Ragged blocks give one format other effective bits in other models.
    table = synthetic.table(sizes=(100_000,), formats=(("int", 4, "64"), ("mxint", 3, "32")))
    llama = (table["family"] == "llama") & (table["format"] != "unquantized")
    table.loc[llama, "effective_bits"] += 0.005
    opt = table["format"].eq("int4_b64") & (table["family"] == "opt")
    table.loc[opt, "effective_bits"] += 1.0  # far apart, but not within a model
    found = run("kumar", table)
    assert found["fits"] == []
    assert len(found["not_fitted"]) == 4


def test_fewer_points_than_constants_is_recorded() -> None:
    found = run("power_offset", synthetic.table(families=("opt",)))
    assert found["fits"] == []
    assert found["not_fitted"][0]["reason"] == "3 points for 3 constants: no degree of freedom is left to check the fit"


def test_a_family_of_one_size_is_recorded_and_the_others_are_fitted(demo: pd.DataFrame) -> None:
    found = run("power_offset", demo[(demo["family"] != "opt") | (demo["n_params"] < 200_000)])
    assert found["not_fitted"][0]["by"]["family"] == "opt"
    assert [group["name"] for group in found["fits"][0]["groups"]] == ["bloom", "gpt2", "gpt_neox", "llama"]


def test_one_size_holds_gamma_n() -> None:
    found = run("kumar", synthetic.table(sizes=(400_000,)))
    values = constants(found["fits"][0])
    assert values["gamma_N", None]["held"] and values["gamma_N", None]["value"] == 0.3439


def test_sizes_that_hardly_differ_hold_gamma_n_and_are_not_spoken_of() -> None:
    (entry, _, *_) = run("kumar", synthetic.table(sizes=(400_000, 404_000)))["fits"]
    assert constants(entry)["gamma_N", None]["held"]
    assert "bit" in entry["plain"] and "parameters" not in entry["plain"]


def test_what_the_data_leave_open_is_not_determined_and_not_put_in_words() -> None:
    noisy = synthetic.table(families=("opt", "llama"), noise=0.8)
    known = constants(run("kumar", synthetic.table(), saturated_above=1e9)["fits"][0])
    assert known["gamma_N", None]["determined"] and known["gamma_post", None]["determined"]
    assert not known["gamma_D", None]["determined"]  # held
    entries = run("kumar", noisy, saturated_above=1e9, bootstraps=200)["fits"]
    for entry in entries:
        values = constants(entry)
        assert ("parameters" in entry["plain"]) == values["gamma_N", None]["determined"]
        assert ("bit" in entry["plain"]) == values["gamma_post", None]["determined"]
    assert not all(constants(entry)["gamma_N", None]["determined"] for entry in entries)


def test_an_interval_that_ends_at_a_bound_determines_nothing(demo: pd.DataFrame) -> None:
    table = demo.copy()
    table["nll"] = 5.0 - 0.2 * (table["n_params"].astype(float) / 1e5) ** 0.5
    (entry,) = run("power_offset", table)["fits"]
    assert not constants(entry)["E", None]["determined"]


@pytest.mark.parametrize(("exponent", "said"), [(0.3, "divide it by 2"), (-0.3, "multiply it by 2")])
def test_words_of_an_exponent_follow_its_sign(exponent: float, said: str) -> None:
    plain = LAWS["kumar"].plain
    assert plain is not None
    assert plain({"gamma_N": exponent}) == f"ten times the parameters {said}"
    assert plain({}) == ""


def test_a_constant_at_its_bound_warns(demo: pd.DataFrame) -> None:
    table = demo.copy()
    table["nll"] = 5.0 - 0.2 * (table["n_params"].astype(float) / 1e5) ** 0.5  # bends down: E wants to be negative
    (entry,) = run("power_offset", table)["fits"]
    assert constants(entry)["E", None]["at_bound"]
    assert any("E stopped at its bound" in warning for warning in entry["warnings"])


def test_a_flat_direction_warns(demo: pd.DataFrame) -> None:
    (entry,) = run("power_offset", demo.assign(nll=2.0))["fits"]  # no size effect: A and E cannot be told apart
    assert entry["r2"] is None
    assert any(warning.startswith("flat direction: moving A of") for warning in entry["warnings"])


def test_a_wide_interval_warns() -> None:
    found = run("power_offset", synthetic.table(noise=0.05), bootstraps=200)
    assert any(
        "poorly determined" in warning or "ran into its bound" in warning for warning in found["fits"][0]["warnings"]
    )


def test_texts_are_never_mixed(demo: pd.DataFrame) -> None:
    other = demo.assign(text="other", text_sha256="cd" * 32, nll=demo["nll"] + 1.0, key=demo["key"] + "/other")
    table = pd.concat([demo, other], ignore_index=True)
    found = run("power_offset", table)
    assert [entry["by"]["text"] for entry in found["fits"]] == ["manual", "other"]
    low, high = (constants(entry)["E", None]["value"] for entry in found["fits"])
    assert high > low
    assert len(run("power_offset", table, text="other")["fits"]) == 1


def test_another_tokenizer_gets_another_e(demo: pd.DataFrame) -> None:
    table = demo.copy()
    table.loc[table["family"].isin(["opt", "llama"]), "eval_tokens"] = 17_000
    assert [len(entry["groups"]) for entry in run("power_offset", table)["fits"]] == [2, 3]


def test_settings_of_a_method_are_not_mixed(demo: pd.DataFrame) -> None:
    again = demo[demo["method"] == "gptq"].assign(settings='{"damping":0.1}')
    found = run("kumar", pd.concat([demo, again.assign(key=again["key"] + "/2")], ignore_index=True))
    assert sorted(entry["by"].get("settings", "") for entry in found["fits"]) == [
        "", "", '{"damping":0.01}', '{"damping":0.01}', '{"damping":0.1}', '{"damping":0.1}'
    ]  # fmt: skip


def test_what_the_user_got_wrong_is_one_line(demo: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="unknown text 'manul'; did you mean 'manual'"):
        run("kumar", demo, text="manul")
    with pytest.raises(UserError, match="needs the column 'effective_bits'"):
        run("kumar", demo.drop(columns="effective_bits"))
    with pytest.raises(UserError, match="no rows"):
        run("kumar", demo.iloc[:0])


def test_points_carry_the_keys_of_their_rows(demo: pd.DataFrame) -> None:
    for entry in run("kumar", demo)["fits"]:
        for point in entry["points"]:
            row = demo[demo["key"] == point["key"]].iloc[0]
            assert point["measured"] == pytest.approx(row["delta_nll"], rel=1e-12)
            assert point["predicted"] == pytest.approx(row["delta_nll"], rel=0.06)


def test_curves_pass_through_the_fit_and_lie_in_their_band(demo: pd.DataFrame) -> None:
    (entry,) = run("power_offset", demo, bootstraps=200)["fits"]
    values = constants(entry)
    for curve in entry["curves"]:
        e, a, alpha = (values[key]["value"] for key in (("E", None), ("A", curve["group"]), ("alpha", curve["group"])))
        for x, y, low, high in zip(curve["x"], curve["y"], curve["low"], curve["high"], strict=True):
            assert y == pytest.approx(e + a * x**-alpha)
            assert low <= y * 1.01 and high >= y * 0.99

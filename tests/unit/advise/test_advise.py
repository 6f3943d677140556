"""Advice for a budget: what fits, what is measured, what is best, and what is said where nothing fits."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

import synthetic
from bitlaw.advise import ENGINES, engine
from bitlaw.advise.advise import Advice, advise, frontier
from bitlaw.advise.command import COMMIT, command
from bitlaw.advise.effort import SECONDS, read_time, seconds
from bitlaw.advise.engine import is_format
from bitlaw.advise.memory import GIB, cache_bytes, read_size, weight_bytes
from bitlaw.advise.models import candidate
from bitlaw.advise.question import Question
from bitlaw.advise.show import table as show_table
from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.export.schemes import scheme_of
from bitlaw.formats.grammar import parse
from bitlaw.methods import METHODS
from bitlaw.predictor.known import Known, find
from bitlaw.predictor.training import EVALUATION, shipped
from projects import REPOSITORY, ZOO, Project


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return shipped()


def ask(table: pd.DataFrame, *names: str, serves: str = "any", **more: Any) -> Advice:
    models = tuple(candidate(name, table, lambda _: None) for name in names)
    return advise(table, Question(models, engine(serves), text=EVALUATION, **more))


@pytest.fixture(scope="module")
def llamas(table: pd.DataFrame) -> Advice:
    return ask(table, "llama-7b", "llama-13b", budget=10 * GIB)


def test_everything_fits_and_the_least_loss_is_first(llamas: Advice) -> None:
    assert all(one.bytes <= 10 * GIB for one in llamas.ranked)
    assert [one.nll for one in llamas.ranked[1:]] == sorted(one.nll for one in llamas.ranked[1:])
    assert llamas.best.known.name == "llama-13b"  # in about five bits, before llama-7b in eight
    json.dumps(llamas.as_json(), allow_nan=False)


def test_what_was_measured_is_not_predicted(llamas: Advice, table: pd.DataFrame) -> None:
    rows = table[(table["model"] == "llama-13b") & (table["format"] == "int4_g128_asym") & (table["method"] == "gptq")]
    rows = rows[(rows["text"] == "wikitext-2") & (rows["window"] == 2048) & rows["flag"].eq("")]
    (cell,) = (
        one
        for one in llamas.ranked
        if (one.known.name, one.format, one.method) == ("llama-13b", "int4_g128_asym", "gptq")
    )
    by_settings = rows.groupby("settings")["delta_nll"].mean()
    assert cell.measured and cell.delta_nll == pytest.approx(by_settings.min())
    assert cell.settings == by_settings.idxmin() and cell.extrapolates == ()
    assert cell.low <= cell.delta_nll <= cell.high
    predicted = [one for one in llamas.ranked if not one.measured]
    assert predicted and all(one.low < one.delta_nll < one.high for one in predicted)


def test_it_says_when_it_extrapolates(llamas: Advice, table: pd.DataFrame) -> None:
    eight = next(one for one in llamas.ranked if one.format == "int8_b64")
    assert any("bits of an element: 8 is outside" in line for line in eight.extrapolates)
    found = ask(table, "llama-13b", budget=10 * GIB, formats=("int3_g64_asym",), methods=("gptq",))
    inside = next(one for one in found.ranked if one.format == "int3_g64_asym")
    assert not inside.measured and inside.extrapolates == ()


def test_the_frontier_is_what_nothing_undercuts(llamas: Advice) -> None:
    for at, one in enumerate(llamas.ranked):
        undercut = any(other.bytes <= one.bytes and other.nll < one.nll - 1e-9 for other in llamas.ranked)
        if at in llamas.frontier:
            assert not undercut
        else:
            assert undercut or any(
                other.bytes <= one.bytes and other.nll <= one.nll + 1e-9 for other in llamas.ranked if other is not one
            )
    assert min(range(len(llamas.ranked)), key=lambda at: llamas.ranked[at].nll) in frontier(llamas.ranked)


def test_a_measured_cell_is_preferred_to_a_prediction_that_it_cannot_be_told_from(table: pd.DataFrame) -> None:
    close = ask(table, "opt-30b", budget=24 * GIB, serves="vllm")
    assert close.best.measured and min(one.nll for one in close.ranked) < close.best.nll
    least = min(close.ranked, key=lambda one: one.nll)
    assert not least.measured and close.best.nll < min(least.nll_interval[1], least.nll + 0.01)
    assert [one.nll for one in close.ranked[1:]] == sorted(one.nll for one in close.ranked[1:])
    two = ("int2_g128_asym", "int8_b64")
    far = ask(table, "opt-30b", budget=40 * GIB, formats=two, methods=("rtn", "gptq"))
    assert not far.best.measured and far.best.format == "int8_b64"


def test_accuracy_is_measured_where_it_was_and_predicted_elsewhere(table: pd.DataFrame) -> None:
    found = ask(table, "opt-6.7b", budget=100 * GIB, formats=("int4_row_asym", "int3_row_asym"), task="lambada")
    cells = {(one.format, one.method): one.accuracy for one in found.ranked}
    rows = table[(table["model"] == "opt-6.7b") & (table["text"] == "lambada") & (table["source"] == "gptq")]
    for fmt, method in (("int4_row_asym", "gptq"), ("unquantized", "none")):
        value = float(rows[(rows["format"] == fmt) & (rows["method"] == method)]["accuracy"].iloc[0])
        assert cells[fmt, method] == pytest.approx((value, value, value))
    awq = cells["int4_row_asym", "awq"]
    assert awq is not None and awq[1] < awq[0] < awq[2]
    with pytest.raises(UserError, match="unknown evaluation text 'lambda'"):
        ask(table, "opt-6.7b", budget=100 * GIB, task="lambda")


def test_without_accuracies_that_is_said(table: pd.DataFrame) -> None:
    found = ask(table.assign(accuracy=math.nan), "opt-6.7b", budget=100 * GIB)
    assert all(one.accuracy is None for one in found.ranked)
    assert any(note.startswith("zero-shot accuracy is not known") for note in found.notes)


@pytest.mark.parametrize("name", ["6.7b", "opt-6.7b"])
def test_an_impossible_budget_says_the_smallest_that_works(table: pd.DataFrame, name: str) -> None:
    with pytest.raises(UserError, match="nothing that works fits 1.00 GiB: the smallest that works is") as said:
        ask(table, name, budget=GIB, serves="vllm")
    needed = read_size(said.value.message.split(", ")[1].split(" (")[0].replace(" ", ""))
    assert ask(table, name, budget=needed * 1.01, serves="vllm").best.works
    with pytest.raises(UserError):
        ask(table, name, budget=needed * 0.98, serves="vllm")


def test_a_tolerance_takes_the_least_memory_within_it(table: pd.DataFrame) -> None:
    found = ask(table, "opt-6.7b", "opt-13b", tolerance=0.05, serves="vllm")
    assert found.best.bytes == min(one.bytes for one in found.ranked)
    least = min(one.nll for one in ask(table, "opt-6.7b", "opt-13b", budget=1000 * GIB, serves="vllm").ranked)
    assert all(one.nll <= least + 0.05 + 1e-9 for one in found.ranked)
    assert {one.known.name for one in found.ranked} == {"opt-13b"}  # the smaller one is worse by 0.07 in 16 bits
    with pytest.raises(UserError, match="nothing within the tolerance fits"):
        ask(table, "opt-13b", tolerance=0.001, budget=2 * GIB)


def test_a_time_limit_leaves_what_needs_no_data(table: pd.DataFrame) -> None:
    found = ask(table, "opt-13b", budget=20 * GIB, seconds=60)
    assert {one.method for one in found.ranked} <= {"rtn", "none", "gguf"}
    assert "gptq" in {one.method for one in ask(table, "opt-13b", budget=20 * GIB, seconds=3600).ranked}


def test_an_unknown_model_is_answered_from_its_size_alone(table: pd.DataFrame) -> None:
    found = ask(table, "somebody/new-9b", budget=8 * GIB)
    assert any("from the size in the name alone" in note for note in found.notes)
    assert any("guessed from the size: an upper bound" in note for note in found.notes)
    with pytest.raises(UserError, match=r"--model somebody/new=7b"):
        candidate("somebody/new", table, lambda _: None)
    assert candidate("somebody/new=7b", table, lambda _: None).n_params == 7e9
    with pytest.raises(UserError, match="'much' is no size"):
        candidate("somebody/new=much", table)


def test_a_configuration_of_the_hub_is_taken_if_there_is_one(table: pd.DataFrame) -> None:
    known = candidate("somebody/new", table, lambda _: ZOO / "llama-0.4m")
    assert known.name == "somebody/new" and known.n_params == 443_232 and known.kv_width is not None

    def never(name: str) -> Path | None:
        raise AssertionError(name)

    assert candidate("facebook/opt-30b", table, never).name == "opt-30b"  # it comes with bitlaw
    assert candidate("7b", table, never).n_total == 7e9


def test_models_that_need_nothing_are_unquantized(table: pd.DataFrame) -> None:
    best = ask(table, "opt-125m", budget=80 * GIB)
    (whole,) = (one for one in best.ranked if one.format == "unquantized")
    assert whole.delta_nll == 0.0 and whole.measured and whole.weights == pytest.approx(2 * 125e6)
    made = command(whole, engine("any"), "opt-125m")
    assert made["command"] is None and "nothing to make" in made["note"]


# ---- Memory and time.


def test_sizes() -> None:
    assert read_size("6GiB") == read_size("6") == 6 * GIB and read_size("80GB") == 80e9 and read_size(".5 g") == GIB / 2
    for wrong in ("", "six", "6 parsecs", "-1", "0"):
        with pytest.raises(UserError, match="no amount of memory"):
            read_size(wrong)
    assert read_time("30min") == 1800 and read_time("2h") == 7200 and read_time("45") == 2700
    with pytest.raises(UserError, match="no time"):
        read_time("soon")


def test_memory_of_a_folder_is_counted_linear_by_linear(table: pd.DataFrame) -> None:
    known = find(str(ZOO / "llama-0.4m"), table)
    fmt = parse("int4_b64")
    linears = sum(rows * columns for rows, columns in known.shapes)
    expected = sum(fmt.storage_bits(shape) for shape in known.shapes) / 8 + 2 * (known.n_total - linears)
    assert weight_bytes(known, known.effective_bits(fmt)) == pytest.approx(expected)
    config = json.loads((ZOO / "llama-0.4m" / "config.json").read_text())
    width = config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
    size, said = cache_bytes(known, 100, 3)
    assert said is None and size == 2 * config["num_hidden_layers"] * width * 300 * 2


def test_keys_and_values_of_published_models(table: pd.DataFrame) -> None:
    # Llama-3-8B: 32 layers, 8 of 32 heads of 128 keep keys: 128 KiB a token in 16 bits; Llama-7B four times as much.
    assert cache_bytes(find("llama-3-8b", table), 1, 1) == (2 * 32 * 1024 * 2, None)
    assert cache_bytes(find("llama-7b", table), 1, 1, 8) == (2 * 32 * 4096, None)
    guessed, said = cache_bytes(Known("x", None, 6.5e9, 6.7e9, None), 1, 1)
    assert guessed == pytest.approx(2 * 32 * 4096 * 2, rel=0.05) and said is not None and "upper bound" in said


def test_time_of_methods(table: pd.DataFrame) -> None:
    known = find("opt-175b", table)
    assert 3 * 3600 < (seconds(known, "gptq") or 0) < 5 * 3600  # "approximately four GPU hours"
    assert seconds(known, "rtn") == seconds(known, "proxy") == seconds(known, "gguf") == 0.0
    assert seconds(known, "gguf", '{"imatrix":"10m"}') is None and seconds(known, "omniquant") is None


# ---- Engines.


@pytest.mark.parametrize("name", list(ENGINES))
def test_engines_say_what_they_load_and_who_says_so(name: str) -> None:
    one = engine(name)
    assert one.loads and one.title
    for load in one.loads:
        assert load.how and load.source and load.names()
        assert all(method in METHODS or method == "gguf" for method in load.methods)
        for fmt in load.names():
            assert is_format(fmt) == ("gguf" not in load.methods), fmt


@pytest.mark.parametrize("name", ["vllm", "transformers"])
def test_what_goes_through_export_has_a_layout(name: str) -> None:
    for load in engine(name).loads:
        if not load.makes:
            assert "awq" not in load.methods  # its scales of inputs have no place
            for fmt in load.names():
                scheme_of(parse(fmt))  # raises where compressed-tensors has none


def test_llama_cpp_loads_its_own_formats(table: pd.DataFrame) -> None:
    assert engine("llama.cpp") is engine("llama_cpp")
    measured = set(table.loc[table["method"] == "gguf", "format"])
    assert set(engine("llama.cpp").names()) == measured
    found = ask(table, "llama-3-8b", "opt-6.7b", serves="llama.cpp", budget=6 * GIB)
    assert {one.method for one in found.ranked} <= {"gguf", "none"}
    cells = {(one.known.name, one.format): one for one in found.ranked}
    own, other = cells["llama-3-8b", "q4_k_m"], cells["opt-6.7b", "q4_k_m"]
    assert own.measured and own.delta_nll == pytest.approx(math.log(6.382937 / 6.233160))
    assert own.weights == pytest.approx(8.03e9 * 4.8994 / 8)  # a file's size counts embeddings, too
    assert not other.measured and other.low < other.delta_nll < other.high
    assert other.extrapolates == ("measured on llama-2-7b, wikitext-2@512, and not on this model",)
    made = command(own, engine("llama.cpp"), "llama-3-8b")
    assert "llama-quantize model.gguf q4_k_m.gguf Q4_K_M" in made["command"] and "imatrix" in made["note"]


def test_transformers_unpacks_so_memory_is_that_of_16_bits(table: pd.DataFrame) -> None:
    found = ask(table, "opt-6.7b", serves="transformers", budget=20 * GIB)
    cells = {(one.format, one.method): one for one in found.ranked}
    assert cells["int4_g128_asym", "gptq"].weights == cells["unquantized", "none"].weights
    assert cells["nf4_b64", "rtn"].weights < 0.35 * cells["unquantized", "none"].weights
    assert ("nf4_b64", "gptq") not in cells  # bitsandbytes rounds by itself


def test_formats_and_methods_can_be_asked_for(table: pd.DataFrame) -> None:
    found = ask(table, "opt-6.7b", budget=20 * GIB, formats=("dyn4_b64", "q4_k_m"), methods=("rtn", "gguf"))
    assert {one.format for one in found.ranked} == {"dyn4_b64", "q4_k_m", "unquantized"}
    with pytest.raises(UserError, match="vLLM does not load 'nf4_b64'"):
        ask(table, "opt-6.7b", budget=20 * GIB, serves="vllm", formats=("nf4_b64",))
    with pytest.raises(UserError, match="unknown number format 'int44_b64'"):
        ask(table, "opt-6.7b", budget=20 * GIB, formats=("int44_b64",))
    with pytest.raises(UserError, match="unknown method 'gptw'; did you mean 'gptq'"):
        ask(table, "opt-6.7b", budget=20 * GIB, methods=("gptw",))
    with pytest.raises(UserError, match="unknown engine 'vlm'; did you mean 'vllm'"):
        engine("vlm")


def test_what_an_engine_cannot_hold_is_said(table: pd.DataFrame) -> None:
    found = ask(table, "opt-6.7b", budget=20 * GIB, serves="vllm", methods=("awq",))
    assert [one.format for one in found.ranked] == ["unquantized"]
    assert any("vLLM loads none of these formats by these methods" in note for note in found.notes)


@pytest.mark.parametrize("width", [80, 150, 170])
def test_the_table_fits_the_terminal(llamas: Advice, width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    console.print(show_table(llamas, 40, width))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in said and said.count("\n") == 41
    assert ("accuracy" in said) == (width >= 150) and f"{llamas.best.nll:.3f}" in said


# ---- A table of one's own.


def test_a_study_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Along radial profiles where the table has them, and without for a model that it does not have."""
    own = synthetic.table(noise=0.02)
    quantized = own["format"] != "unquantized"
    own.loc[quantized, "radial_delta_nll"] = own.loc[quantized, "delta_nll"] * 1.5
    file = tmp_path / "table.parquet"
    own.to_parquet(file)
    models = ["--model", "gpt2-440000-450000000", "--model", str(ZOO / "opt-0.1m"), "--nll", "opt-0.1m=3.5"]
    argv = ["advise", "--table", str(file), *models, "--delta-nll", "5", "--format", "int4_b64", "--format", "int6_b64"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cells = {(one["model"], one["format"], one["method"]): one for one in found["choices"]}
    rows = own[(own["model"] == "gpt2-440000-450000000") & (own["format"] == "int4_b64") & (own["method"] == "gptq")]
    measured = cells["gpt2-440000-450000000", "int4_b64", "gptq"]
    assert measured["measured"] and measured["delta_nll"] == pytest.approx(float(rows["delta_nll"].iloc[0]))
    assert not cells["gpt2-440000-450000000", "int6_b64", "gptq"]["measured"]
    six, four = (cells["opt-0.1m", name, "gptq"] for name in ("int6_b64", "int4_b64"))
    assert six["delta_nll"] < four["delta_nll"] and four["nll"] == pytest.approx(3.5 + four["delta_nll"])
    assert four["accuracy"] is None and found["evaluation"] == "manual@128"


# ---- The command line.


def test_the_command_prints_a_table_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["advise", "--budget", "9GiB", "--model", "llama-13b", "--table", "published", "--text", EVALUATION]
    assert main([*argv, "--top", "3"]) == 0
    said = capsys.readouterr().out
    assert "9.00 GiB for weights and 2,048 x 1 tokens" in said and "Take llama-13b in" in said
    assert "make it: bitlaw export llama-13b" in said and "more rows" in said
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = found["choices"][0]
    assert (
        best["rank"] == 1
        and best["frontier"]
        and best["bytes"] == pytest.approx(best["weight_bytes"] + best["cache_bytes"], abs=1)
    )
    assert found["make"]["params"]["formats"] == [best["format"]]
    assert main([*argv, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(found["choices"]) and float(rows[0]["nll"]) == best["nll"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "say what there is, --budget 6GiB, or what may be lost"),
        (["--budget", "six"], "'six' is no amount of memory"),
        (["--budget", "6", "--nll", "opt=2"], "--nll: unknown candidate 'opt'"),
        (["--budget", "6", "--nll", "opt-13b=low"], "'low' is no loss in nats"),
        (["--budget", "6", "--model", "mystery"], "its name tells no size"),
        (["--budget", "6", "--batch", "0"], "at least 1"),
        (["--budget", "0.01"], "the smallest that works is opt-125m"),
        (["--budget", "20", "--mixed"], "the linears of 'opt-13b' are not known; give its folder"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    models = [] if "--model" in argv else ["--model", "opt-13b", "--model", "opt-125m"]
    if "--mixed" in argv:
        models = ["--model", "opt-13b"]
    assert main(["advise", "--table", "published", "--text", EVALUATION, *models, *argv]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_what_it_says_to_do_makes_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path / "p")
    monkeypatch.chdir(project.root)
    argv = [
        "advise",
        "--model",
        str(ZOO / "gpt2-0.1m"),
        "--table",
        "published",
        "--text",
        EVALUATION,
        "--context",
        "64",
    ]
    assert main([*argv, "--budget", "1MB", "--format", "int4_b64", "--method", "rtn", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["make"]["params"] is None  # the study has it
    assert found["choices"][1]["format"] == "int4_b64" or found["choices"][0]["format"] == "int4_b64"
    assert main([*argv, "--budget", "400kB", "--format", "int5_b64", "--method", "rtn", "--json"]) == 0
    make = json.loads(capsys.readouterr().out)["make"]
    project.params("study: small\n" + yaml.safe_dump(make["params"]))
    assert main(make["command"].split()[1:]) == 0
    (folder,) = (project.root / "out").iterdir()
    assert json.loads((folder / "quantization.json").read_text())["format"] == "int5_b64"


def test_a_hub_model_is_written_with_its_commit(table: pd.DataFrame) -> None:
    known = candidate("somebody/new", table, lambda _: ZOO / "llama-0.4m")
    found = advise(table, Question((known,), engine("any"), budget=GIB, text=EVALUATION, formats=("int4_b64",)))
    one = next(each for each in found.ranked if each.format == "int4_b64")
    made = command(one, engine("any"), "somebody/new")
    assert made["params"]["models"] == [{"source": "hub", "repo": "somebody/new", "revision": COMMIT}]
    assert made["command"].startswith("bitlaw export new int4_b64")


def test_the_page_explains_every_engine_and_argument(capsys: pytest.CaptureFixture[str]) -> None:
    page = (REPOSITORY / "docs" / "advise.md").read_text("utf-8")
    for name in ENGINES:
        assert f"| `{name.replace('llama_cpp', 'llama.cpp')}` |" in page
    with pytest.raises(SystemExit):
        main(["advise", "--help"])
    for option in re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE):
        assert option in page or option in ("--seed", "--root"), option
    for value, _ in SECONDS.values():
        assert f"{value:.0f} s" in " ".join(page.split())

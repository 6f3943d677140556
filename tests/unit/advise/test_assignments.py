"""A format for each linear."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from bitlaw.advise import engine, mixed
from bitlaw.advise.advise import Advice, advise
from bitlaw.advise.question import Question
from bitlaw.artifacts import write_json
from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.formats.grammar import parse
from bitlaw.predictor.known import find
from bitlaw.predictor.training import EVALUATION, shipped
from bitlaw.stage import Header
from bitlaw.study.load import validate
from projects import ZOO


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return shipped()


def asked(table: pd.DataFrame, serves: str = "vllm", **more: object) -> tuple[Advice, Question]:
    known = find(str(ZOO / "llama-0.4m"), table)
    formats = ("int3_b64", "int4_b64", "int8_b64") if serves == "vllm" else ()
    question = Question((known,), engine(serves), text=EVALUATION, context=64, formats=formats, **more)  # type: ignore[arg-type]
    return advise(table, question), question


def test_the_assignment_fits_and_is_better_than_one_format(table: pd.DataFrame) -> None:
    budget = 1.2e6
    found, question = asked(table, budget=budget, methods=("gptq",))
    one = mixed.assign(found, question)
    assert one.bytes <= budget and found.best.bytes <= budget
    known = found.best.known
    assert list(one.linears) == [name for name, _ in mixed._shapes(known)]
    shapes = dict(mixed._shapes(known))
    bits = sum(
        16 * shapes[name][0] * shapes[name][1] if fmt == "unquantized" else parse(fmt).storage_bits(shapes[name])
        for name, fmt in one.linears.items()
    )
    weights = sum(rows * columns for rows, columns in known.shapes)
    assert one.effective_bits == pytest.approx(bits / weights)
    assert one.bytes == pytest.approx(bits / 8 + 2 * (known.n_total - weights) + found.best.cache)
    assert one.delta[0] < found.best.delta_nll and one.delta[1] < one.delta[0] < one.delta[2]
    assert one.by == mixed.WEIGHTS and 0 < one.share < 1
    more, _ = asked(table, budget=1.3 * budget, methods=("gptq",))
    assert mixed.assign(more, Question(question.models, question.engine, budget=1.3 * budget, formats=question.formats,
                                       text=EVALUATION, context=64)).noise_db > one.noise_db  # fmt: skip
    validate({"models": [{"source": "zoo"}], "mixes": [one.as_json()["mix"]]}, [])


def test_no_other_set_of_linears_has_less_noise() -> None:
    linears = [mixed.Linear(str(at), (8, 8 * (1 + at % 3))) for at in range(8)]
    costs = [5.0, 1.0, 4.0, 2.5, 0.5, 3.0, 2.0, 1.5]
    low = [2.0 * one.size for one in linears]
    high = [4.0 * one.size for one in linears]
    for budget in (sum(low), 0.6 * sum(high), 0.8 * sum(high), sum(high)):
        taken = mixed._fewest([one.size for one in linears], costs, low, high, budget)
        everything = range(len(linears))
        fitting = [
            sum(costs[at] for at in some)
            for count in range(len(linears) + 1)
            for some in combinations(everything, count)
            if sum(low[at] if at in some else high[at] for at in everything) <= budget
        ]
        assert sum(costs[at] for at in taken) == pytest.approx(min(fitting))


def test_what_a_study_measured_is_preferred(table: pd.DataFrame, tmp_path: Path) -> None:
    """The linear that noise of weights would put into the better format first is made free by the study, and stays."""
    found, question = asked(table, budget=1.2e6, methods=("gptq",))
    plain = mixed.assign(found, question, tmp_path / "results")
    names = list(plain.linears)
    first = next(name for name in names if plain.linears[name] == plain.high)
    costs = dict.fromkeys(names, 0.5) | {first: 0.0}
    for fmt, factor in (("int3_b64", 1.0), ("int4_b64", 0.1)):
        folder = tmp_path / "results" / "sensitivity" / "llama-0.4m" / f"{fmt}-gptq-loss"
        folder.mkdir(parents=True)
        header = Header("sensitivity", "k", {}, {}, "c")
        write_json(folder / "k.json", header, {"costs": {name: factor * cost for name, cost in costs.items()}})
    one = mixed.assign(found, question, tmp_path / "results")
    assert "as the study measured it (loss)" in one.by and plain.by == mixed.WEIGHTS
    assert one.linears[first] == one.low and {one.low, one.high} <= {"int3_b64", "int4_b64", "unquantized"}
    assert one.bytes <= 1.2e6


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["advise", "--budget", "1.2MB", "--model", str(ZOO / "llama-0.4m"), "--context", "64", "--mixed"]
    argv += [
        "--table",
        "published",
        "--text",
        EVALUATION,
        "--engine",
        "vllm",
        "--format",
        "int4_b64",
        "--format",
        "int8_b64",
    ]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["mixed"]
    assert {one["format"] for one in found["linears"]} == {found["low"], found["high"]} == {"int4_b64", "int8_b64"}
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert f"in int8_b64: {next(one['linear'] for one in found['linears'] if one['format'] == 'int8_b64')}" in said


def test_what_cannot_be_mixed(table: pd.DataFrame) -> None:
    found, question = asked(table, tolerance=1.0)
    with pytest.raises(UserError, match="give --budget"):
        mixed.assign(found, question)
    found, question = asked(table, "transformers", budget=2e6)
    with pytest.raises(UserError, match=r"transformers keeps no format of bitlaw packed|nf4"):
        mixed.assign(found, question)

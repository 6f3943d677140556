"""bitlaw predict: the loss of a model, format and method that were never run."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from bitlaw.cli.base import Command
from bitlaw.cli.tables import add_tables, own
from bitlaw.formats import grammar


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="a model folder, a model of the table, or a name that tells its size",
    )
    parser.add_argument(
        "--format", required=True, metavar="NAME", help="the number format; `bitlaw formats` lists them"
    )
    parser.add_argument("--method", required=True, metavar="NAME", help="the rounding method, such as rtn or gptq")
    parser.add_argument("--nll", type=float, help="loss of the unquantized model in nats per token, if you know it")
    parser.add_argument("--params", type=float, metavar="N", help="non-embedding parameters, if the name does not tell")
    parser.add_argument("--seed", type=int, default=0, help="of the fits (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_tables(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.predictor import training
    from bitlaw.predictor.known import find
    from bitlaw.predictor.predict import predict

    fmt = grammar.parse(options.format)
    text = options.text
    if options.table is not None:
        table = training.read(options.table)
        known = find(options.model, table, params=options.params)
    else:
        usual = training.Usual(own(options.root))
        known = find(options.model, usual.whole, params=options.params)
        table, text = usual.for_sizes([known.n_params], text)
    answer = predict(table, known, fmt, options.method, text=text, nll=options.nll, seed=options.seed)
    print(json.dumps(answer, indent=1) if options.json else "\n".join(lines(answer)))
    return 0


def lines(answer: dict[str, Any]) -> list[str]:
    """Return an answer of ``bitlaw.predictor.predict.predict`` in words."""
    from bitlaw.predictor import MODELS

    learned, near = answer["learned_from"], answer["nearest"]
    said = [
        f"{answer['model']} in {answer['format']} by {answer['method']}, on {answer['evaluation']}:",
        f"  {answer['delta_nll']:+.4g} nats per token, {answer['coverage']:.0%} interval {answer['low']:+.4g} to "
        f"{answer['high']:+.4g}; loss {answer['nll']:.3f} after {answer['base_nll']:.3f}",
        f"  by {answer['predictor']} ({MODELS[answer['predictor']].title}), learned from {learned['cells']} cells of "
        f"{learned['models']} models and {learned['families']} families",
        f"  why, against a typical cell ({answer['reasons']['typical']:+.4g} nats):",
    ]
    for part in answer["reasons"]["parts"]:
        if abs(part["adds"]) > 1e-6:
            values = ", ".join(f"{name} {_shown(value)}" for name, value in part["values"].items() if _known(value))
            said.append(f"    {part['adds']:+.4g} nats from {part['group']}: {values}")
    said.append(
        f"  nearest measured cell: {near['model']}, {near['format']}, {near['method']}: {near['delta_nll']:+.4g}"
    )
    said += [f"  assumed: {line}" for line in answer["assumed"]]
    said += [f"  extrapolates: {line}" for line in answer["extrapolates"]]
    return said


def _known(value: Any) -> bool:
    return isinstance(value, str) or not math.isnan(value)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


COMMAND = Command(
    summary="predict the loss of a model, format and method that were never run",
    description="""\
Predict the loss that a format and a method add to a model, with an interval, the reasons, and a word where it
extrapolates. Nothing is run and no network is asked: the size comes from the folder's configuration, the table, or the
name. The answer is learned from the published results, or from the reference study if its models are nearer in size,
with the project's own on the same evaluation text; or from --table.""",
    epilog="""\
examples:
  bitlaw predict --model opt-66b --format int4_g128_asym --method gptq
  bitlaw predict --model ../my-model --format mxint4_b32 --method rtn --table report/table.parquet
  bitlaw predict --model EleutherAI/pythia-12b --format int3_row_asym --method gptq --nll 2.06 --json""",
    arguments=_arguments,
    run=_run,
)

"""bitlaw export: a quantized model of the study as a folder for transformers and vLLM."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.errors import UserError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model of the study")
    parser.add_argument("format", metavar="FORMAT", help="a number format of the study")
    parser.add_argument("method", metavar="METHOD", help="a method of the study")
    parser.add_argument("--to", required=True, metavar="DIR", help="the folder to write, new or empty")
    parser.add_argument(
        "--settings", default="{}", metavar="JSON", help="settings of the method, if the study has it with several"
    )
    parser.add_argument("--dense", action="store_true", help="write ordinary weights even if the format can be packed")
    add_study(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.export.cell import ensure, find_cell, model_of
    from bitlaw.export.export import export

    plan = open_plan(options)
    to = Path(options.to)
    cell = find_cell(plan.grid, options.model, options.format, options.method, _settings(options.settings))
    path = ensure(cell, plan.root)
    labels = {"model": options.model, "source": dict(model_of(cell).spec["source"])}
    origin = export(path, cell.hints["model"], labels, to, dense=options.dense)
    print(f"wrote {to}: {origin['note']}")
    return 0


def _settings(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"not JSON: {error}", place="--settings") from None
    if not isinstance(value, dict):
        raise UserError('not a JSON object such as {"damping": 0.05}', place="--settings")
    return value


COMMAND = Command(
    summary="write a quantized model as a folder for transformers and vLLM",
    description="""\
Write one cell of the study, a model quantized to a format by a method, as a Hugging Face folder. What is missing of it
is made first. Formats that compressed-tensors can hold are written packed, so that vLLM and a plain
AutoModelForCausalLM.from_pretrained read them; all others are written as ordinary weights that have the quantized
values, in a file that is not smaller. quantization.json and README.md in the folder say which, and where it comes from.
Packing needs the extra `export`; docs/export.md lists what can be packed.""",
    epilog="""\
examples:
  bitlaw export llama-1.6m int4_b64 gptq --to out/llama-int4
  bitlaw export llama-1.6m mxint4_b32 gptq --settings '{"damping": 0.05}' --to out/llama-mxint4
  bitlaw export gpt2-1.6m int4_b64 rtn --dense --to out/gpt2-int4""",
    arguments=_arguments,
    run=_run,
)

"""bitlaw figure: the report's main figure as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from bitlaw.artifacts import read_table
from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.errors import UserError

_ENDINGS = (".png", ".svg")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="where to write the picture; its ending, .png or .svg, says how")
    add_study(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.report.figures import main_figure, save

    path = Path(options.file)
    if path.suffix not in _ENDINGS:
        raise UserError(f"a picture ends in {' or '.join(_ENDINGS)}", place=options.file)
    plan = open_plan(options)
    table = plan.root / plan.grid.table.path
    if not table.is_file():
        raise UserError("no results yet; run `snakemake --cores N`", place=str(plan.root))
    rows = read_table(table)
    if not (rows["method"] != "none").any():
        raise UserError("the study quantizes nothing, so there is nothing to draw", place=str(plan.root))
    save(main_figure(rows), path)
    print(f"drew {path}")
    return 0


COMMAND = Command(
    summary="draw what quantization costs, as a picture",
    description="""\
Draw the main figure of the study's report, the loss added by quantization against bits per weight, on a white ground.
The picture of one table is always the same.""",
    epilog="""\
examples:
  bitlaw figure cost.svg
  bitlaw figure docs/figures/main.png --study demo""",
    arguments=_arguments,
    run=_run,
)

"""bitlaw figure: a main figure of a results table as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.cli.base import Command, add_study
from bitlaw.errors import UserError, unknown
from bitlaw.predictor.training import REFERENCE

if TYPE_CHECKING:
    import pandas as pd

_ENDINGS = (".png", ".svg")
_OF = ("cost", "total-bits")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="where to write the picture; its ending, .png or .svg, says how")
    parser.add_argument("--of", metavar="WHAT", default="cost", help="cost (default), or total-bits: see above")
    parser.add_argument("--text", metavar="NAME", help="the evaluation text (default: the first by name)")
    parser.add_argument(
        "--table",
        metavar="FILE",
        help=f"a results table instead of the study's, or '{REFERENCE}', which comes with bitlaw",
    )
    add_study(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.report.figures import main_figure, save, texts
    from bitlaw.report.total_bits import figure

    path = Path(options.file)
    if path.suffix not in _ENDINGS:
        raise UserError(f"a picture ends in {' or '.join(_ENDINGS)}", place=options.file)
    if options.of not in _OF:
        raise unknown("figure", options.of, _OF, place="--of")
    rows, where = _table(options)
    if not (rows["method"] != "none").any():
        raise UserError("the study quantizes nothing, so there is nothing to draw", place=where)
    if options.text is not None and options.text not in texts(rows):
        raise unknown("text", options.text, texts(rows), place="--text")
    text = options.text or texts(rows)[0]
    own = rows[(rows["text"] == text) & rows["finite"]]
    save(main_figure(rows, text) if options.of == "cost" else figure(own, one=True), path)
    print(f"drew {path}")
    return 0


def _table(options: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """Return the table, and where it is from."""
    from bitlaw.predictor.training import read

    if options.table is not None:
        return read([options.table]), options.table
    from bitlaw.cli.plan import open_plan

    plan = open_plan(options)
    table = plan.root / plan.grid.table.path
    if not table.is_file():
        raise UserError("no results yet; run `snakemake --cores N`", place=str(plan.root))
    return read([str(table)]), str(plan.root)


COMMAND = Command(
    summary="draw what quantization costs, as a picture",
    description="""\
Draw a main figure of a study on a white ground: its cost, the loss added by quantization against bits per weight, or
total-bits, the loss against the bits of the whole model, each model in the best format and method of so many bits. The
picture of one table is always the same.""",
    epilog="""\
examples:
  bitlaw figure cost.svg
  bitlaw figure docs/figures/main.png --study demo
  bitlaw figure docs/figures/total-bits.svg --of total-bits --table reference --text wikitext-2""",
    arguments=_arguments,
    run=_run,
)

"""bitlaw card: the page of a shipped study, with every number and figure made from its tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from bitlaw.cli.base import Command
from bitlaw.errors import UserError
from bitlaw.predictor.training import REFERENCE

FIGURES = "figures/reference"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("page", help="the Markdown page; it is made if it is not there")
    parser.add_argument(
        "--table",
        metavar="FILE",
        default=REFERENCE,
        help=f"results as `bitlaw pack` writes them, beside their landscapes and curves (default: '{REFERENCE}')",
    )
    parser.add_argument("--figures", metavar="FOLDER", help=f"where figures go (default: {FIGURES} beside the page)")
    parser.add_argument("--only", metavar="SECTION", action="append", help="make this section alone (several times)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not what it would be")
    parser.add_argument("--quick", action="store_true", help="with --check: of slow sections compare checksums alone")


def _run(options: argparse.Namespace) -> int:
    from bitlaw.card.base import Study
    from bitlaw.card.page import differing, write

    page = Path(options.page)
    figures = Path(options.figures) if options.figures else page.parent / FIGURES
    study = Study.named(options.table)
    if not options.check:
        written = write(page, study, figures, options.only)
        print(f"wrote {len(written)} sections into {page}: {', '.join(written)}")
        return 0
    if not page.is_file():
        raise UserError("no such page; `bitlaw card` makes it", place=str(page))
    wrong = list(differing(page, study, figures, slow=not options.quick))
    if wrong:
        raise UserError(f"not made from these tables: {'; '.join(wrong)}", place=str(page))
    print(f"{page} is what the tables give")
    return 0


COMMAND = Command(
    summary="write the page of a shipped study, every number and figure from its tables",
    description="""\
Write the data card of a study that `bitlaw pack` wrote: what is in it, the figures of the papers, the claims, the laws
and the predictor on it. Sections stand between markers in a Markdown page; what is around them stays as it is. From
the tables alone: no artifact of the study is needed, and nothing is run.""",
    epilog="""\
examples:
  bitlaw card docs/reference-study.md                  all of it, from what comes with bitlaw
  bitlaw card docs/reference-study.md --only claims    one section
  bitlaw card docs/reference-study.md --check          whether its numbers are those of the tables
  bitlaw card card.md --table shipped/results.parquet  of a study of your own""",
    arguments=_arguments,
    run=_run,
)

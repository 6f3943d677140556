"""bitlaw claims: what the papers say, tested on a results table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bitlaw.claims.words import interval, markdown
from bitlaw.cli.base import Command
from bitlaw.cli.tables import add_tables, named, write_section


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="claims to test (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON, with the points of the figures")
    parser.add_argument(
        "--write", metavar="PAGE:SECTION", help="put the table of verdicts into a Markdown page, between its markers"
    )
    add_tables(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.claims.run import run
    from bitlaw.predictor.training import read

    table = read(named(options))
    if options.text is not None:
        table = table[(table["text"] == options.text.partition("@")[0]).fillna(False).to_numpy("bool")]
    found = run(table, options.seed, options.name or None)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.write:
        path, _, section = options.write.partition(":")
        write_section(Path(path), section, markdown(found))
        print(f"wrote {len(found)} verdicts into {path}")
    else:
        print("\n".join(line for one in found for line in lines(one)))
    return 0


def lines(one: dict[str, Any]) -> list[str]:
    """Return a verdict in words."""
    said = [f"{one['title']} ({one['paper']}): {one['verdict']}"]
    if one["statistic"] is not None:
        said.append(f"  {one['measure']}: {interval(one)}; holds if {one['rule']}")
    return [*said, f"  {one['why']}"]


COMMAND = Command(
    summary="test what the papers claim on a results table",
    description="""\
Test each claim of the reproduced papers on a results table: a statistic, its interval over resampled models, and a
verdict: holds, does not hold, or not enough data. Cells are compared within one evaluation only.""",
    epilog="""\
examples:
  bitlaw claims                                            on the project's own table
  bitlaw claims --table published                          on the results that come with bitlaw
  bitlaw claims four_bits centering --table a.parquet --table b.parquet""",
    arguments=_arguments,
    run=_run,
)

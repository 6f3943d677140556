"""bitlaw pack: a study that was run as a few small files, to be shipped."""

from __future__ import annotations

import argparse
from pathlib import Path

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.errors import UserError

FOLDER = "data/reference"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--to", metavar="FOLDER", help=f"where to write the files (default: {FOLDER} of the project)")
    parser.add_argument(
        "--dollars-per-hour",
        metavar="PRICE",
        type=float,
        help="of what one process of the run had (of several on a GPU, its share): what a cell cost becomes a column",
    )


def _run(options: argparse.Namespace) -> int:
    from bitlaw.reference import shipped
    from bitlaw.study import pack

    if options.dollars_per_hour is not None and not options.dollars_per_hour > 0:
        raise UserError("a price is above zero", place="--dollars-per-hour")
    plan = open_plan(options)
    folder = Path(options.to) if options.to else plan.root / FOLDER
    about = {"table": plan.grid.table.key, "dollars_per_hour": options.dollars_per_hour}
    results = pack.results(plan, options.dollars_per_hour)
    size = shipped.write(folder / shipped.RESULTS, results, about)
    each = size / max(1, len(results))
    known = int(results["seconds"].notna().sum())
    print(f"wrote {len(results):,} cells to {folder / shipped.RESULTS}: {size / 1e6:.2f} MB, {each:.0f} bytes a cell")
    print(f"the time of {known:,} of them is known, {results['seconds'].sum() / 60:.1f} min in all")
    for name, made in ((shipped.LANDSCAPE, pack.profiles(plan)), (shipped.CURVES, pack.curves(plan))):
        if made is None:
            (folder / name).unlink(missing_ok=True)
            print(f"no {name}: the study has nothing of the kind")
            continue
        size = shipped.write(folder / name, made, about)
        print(f"wrote {len(made):,} points of {made['model'].nunique()} models to {folder / name}: {size / 1e6:.2f} MB")
    return 0


COMMAND = Command(
    summary="write a study that was run as a few small files, to be shipped",
    description="""\
Write the results table of a study with how each cell was made (device, versions, wall seconds, cost), the radial
profiles of its models and their training curves as small Parquet files. Versions are read from the artifacts of the
store, times from the logs of `bitlaw run` under .bitlaw/seconds.""",
    epilog="""\
examples:
  bitlaw pack --study reference --dollars-per-hour 3.5     into data/reference
  bitlaw pack --to shipped                                 the study that params.yaml selects""",
    arguments=_arguments,
    run=_run,
)

"""bitlaw report: the page of any results table, with its laws, claims and predictor, without a store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import replace_file
from bitlaw.cli.base import Command
from bitlaw.cli.tables import add_tables, named
from bitlaw.errors import UserError, unknown
from bitlaw.laws import LAWS
from bitlaw.predictor.training import PUBLISHED, REFERENCE

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = ("power_offset", "chinchilla", "kumar", "ouyang", "gmse", "panferov", "cao_weak")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="where to write index.html, and the figures into figures/")
    parser.add_argument("--title", default="Quantization study", help="heading of the page")
    parser.add_argument(
        "--law", metavar="NAME", action="append", help=f"a law to fit (several times; default: {', '.join(DEFAULT)})"
    )
    parser.add_argument("--bootstraps", metavar="N", type=int, default=1000, help="resamples behind an interval")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of fits and resamples (default: 0)")
    add_tables(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.predictor.training import read
    from bitlaw.report import pictures
    from bitlaw.report.page import report

    for name in options.law or ():
        if name not in LAWS:
            raise unknown("law", name, LAWS, place="--law")
    names = named(options)
    if PUBLISHED in names:
        raise UserError("published results were not measured alike, and have no page; see `bitlaw laws --published`")
    table = read(names)
    if options.text is not None:
        table = table[(table["text"] == options.text.partition("@")[0]).fillna(False).to_numpy("bool")]
    found = report(
        table,
        _laws(table, options),
        title=options.title,
        study=", ".join(names),
        keys={},
        landscapes=_landscapes(names, table),
        more=_more(table, options.seed),
    )
    folder = Path(options.folder)
    replace_file(folder / "index.html", found.html.encode())
    drawn = pictures.write(found.figures, folder / "figures")
    print(f"wrote {folder / 'index.html'} and {len(drawn)} pictures of its figures")
    return 0


def _laws(table: pd.DataFrame, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the stage ``laws`` says of a table."""
    from bitlaw.laws.run import run

    settings: dict[str, dict[str, Any]] = {name: {} for name in options.law or DEFAULT}
    return run(table, settings, seed=options.seed, bootstraps=options.bootstraps)


def _more(table: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return what the stages ``claims`` and ``predictor`` say of a table."""
    from bitlaw.claims.run import run
    from bitlaw.predictor.report import report

    claims: dict[str, Any] = {"claims": [], "refused": None, "seed": seed}
    try:
        claims["claims"] = run(table, seed)
    except UserError as error:
        claims["refused"] = str(error)
    return {"claims": claims, "predictor": {"evaluations": report(table, seed), "seed": seed}}


def _landscapes(names: list[str], table: pd.DataFrame) -> dict[str, Any]:
    """Return the landscapes that lie beside the tables, of the models that are shown."""
    from bitlaw.reference import shipped

    found: dict[str, Any] = {}
    for name in names:
        path = Path(name).parent / shipped.LANDSCAPE
        if name == REFERENCE and shipped.is_there(shipped.LANDSCAPE):
            found |= shipped.landscapes(shipped.load(shipped.LANDSCAPE))
        elif Path(name).name == shipped.RESULTS and path.is_file():
            found |= shipped.landscapes(shipped.read(path))
    models = set(table["model"].astype(str))
    return {name: landscape for name, landscape in found.items() if name in models}


COMMAND = Command(
    summary="make the page of any results table",
    description="""\
Make the report of results tables as one HTML page with all its figures as pictures: laws, claims and predictor are
fitted for it. It takes a table alone, such as one that `bitlaw pack` wrote or that comes with bitlaw; no artifact of a
study is needed. The page of a study is made by its run.""",
    epilog="""\
examples:
  bitlaw report out --table reference --title "The reference study"
  bitlaw report out --table shipped/results.parquet --law kumar --law gmse""",
    arguments=_arguments,
    run=_run,
)

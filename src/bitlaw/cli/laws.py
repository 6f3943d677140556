"""bitlaw laws: fit the laws to a table, and compare them on what they did not see."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.artifacts import replace_file
from bitlaw.cli.base import Command, add_study
from bitlaw.errors import UserError, unknown
from bitlaw.laws import LAWS
from bitlaw.predictor.training import PUBLISHED, REFERENCE

if TYPE_CHECKING:
    import pandas as pd


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--table",
        metavar="FILE",
        help=f"a results table instead of the study's, or '{REFERENCE}', which comes with bitlaw",
    )
    which.add_argument("--published", action="store_true", help="the published results, each source on its own")
    which.add_argument(
        "--chinchilla", metavar="FILE", help="the points of Chinchilla's figure 4: a copy of Epoch AI's CSV file"
    )
    parser.add_argument(
        "--law", metavar="NAME", action="append", help="a law to take (several times); all if not given"
    )
    parser.add_argument("--compare", action="store_true", help="compare only: no constants, no intervals")
    parser.add_argument("--bootstraps", metavar="N", type=int, default=1000, help="resamples behind an interval")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of starts, resamples and draws (default: 0)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--into",
        metavar="FILE",
        help="write the comparison into a Markdown file, between its marks `<!-- laws: ... -->`",
    )


def _run(options: argparse.Namespace) -> int:
    from bitlaw.laws.compare import compare
    from bitlaw.report.comparison import markdown

    for name in options.law or ():
        if name not in LAWS:
            raise unknown("law", name, LAWS, place="--law")
    laws = {name: law for name, law in LAWS.items() if options.law is None or name in options.law}
    tables = _tables(options)
    fits = (
        {} if options.compare or options.into else {name: _fit(laws, table, options) for name, table in tables.items()}
    )
    compared = {name: compare(table, laws, seed=options.seed) for name, table in tables.items()}
    for name, found in compared.items():
        for entry in (*found["groups"], *found["not_compared"]):
            entry["by"] = {**({"source": name} if len(tables) > 1 else {}), **entry["by"]}
    if options.json:
        print(json.dumps({"fits": fits, "comparison": compared}, indent=1))
        return 0
    nothing = not any(law["fits"] for found in fits.values() for law in found.values())
    if nothing and not any(found["groups"] for found in compared.values()):
        raise UserError(_why(fits, compared))
    if options.into:
        name = PUBLISHED if options.published else REFERENCE if options.table == REFERENCE else "study"
        _into(Path(options.into), name, list(compared.values()))
        return 0
    for name in tables:
        lines = [f"# {name}"] if len(tables) > 1 else []
        print("\n".join([*lines, *_said(fits.get(name, {})), markdown(compared[name])]))
    return 0


def _tables(options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Return the tables to fit, by name: sources of published results do not share a protocol."""
    from bitlaw.predictor.training import read

    if options.published or options.table == PUBLISHED:
        from bitlaw.published.load import load, losses

        sources = losses(load()).groupby("source", sort=True)
        return {str(name): part.reset_index(drop=True) for name, part in sources}
    if options.chinchilla:
        from bitlaw.published.chinchilla import points

        return {"chinchilla": points(Path(options.chinchilla))}
    if options.table:
        return {"study": read([options.table])}
    from bitlaw.cli.plan import open_plan

    plan = open_plan(options)
    path = plan.root / plan.grid.table.path
    if not path.is_file():
        raise UserError("no results yet; run `snakemake --cores N`", place=str(path))
    return {"study": read([str(path)])}


def _fit(laws: dict[str, Any], table: pd.DataFrame, options: argparse.Namespace) -> dict[str, Any]:
    from bitlaw.laws.fit import fit

    fitted = {}
    for name, law in laws.items():
        record = fit(law, table, law.settings(), seed=options.seed, bootstraps=options.bootstraps)
        fitted[name] = {"title": law.title, "formula": law.formula, "source": law.source, **record}
    return fitted


def _said(fits: dict[str, Any]) -> list[str]:
    """Return the constants of every fit with both intervals, and all warnings."""
    from bitlaw.report import words
    from bitlaw.report.headline import label

    lines = []
    for name, record in fits.items():
        lines.append(f"\n## {name}: {record['title']}\n{record['source']}")
        lines += [f"left out, {count}: {reason}" for reason, count in record["excluded"].items()]
        lines += [f"not fitted{label(record, e['by'])}: {e['reason']}" for e in record["not_fitted"]]
        for fit in record["fits"]:
            r2 = "none" if fit["r2"] is None else f"{fit['r2']:.4f}"
            lines.append(f"fit{label(record, fit['by'])}: {fit['n']} points, R² {r2}, objective {fit['objective']:.7g}")
            for constant in fit["constants"]:
                which = constant["name"] + (f" of {constant['group']}" if constant["group"] else "")
                value = words.number(constant["value"], 5)
                lines.append(f"  {which} = {value}{_interval(constant, fit['interval'])}")
            lines += [f"  warning: {warning}" for warning in fit["warnings"]]
            lines += [f"  note: {note}" for note in fit["notes"]]
    return [*lines, "\n## Comparison\n"]


def _interval(constant: dict[str, Any], level: float) -> str:
    from bitlaw.report import words

    if constant["held"]:
        return " (held)"
    said = []
    if constant["low"] is not None:
        said.append(f"bootstrap {words.number(constant['low'])} to {words.number(constant['high'])}")
    if constant["profile"] is not None:
        ends = ["open" if end is None else words.number(end) for end in constant["profile"]]
        said.append(f"profile {ends[0]} to {ends[1]}")
    return f" ({level:.0%}: {'; '.join(said)})" if said else ""


def _why(fits: dict[str, Any], compared: dict[str, Any]) -> str:
    reasons = [entry["reason"] for found in fits.values() for law in found.values() for entry in law["not_fitted"]]
    reasons += [entry["reason"] for found in compared.values() for entry in found["not_compared"]]
    return f"no law can be fitted: {reasons[0] if reasons else 'the table has no quantized cell with a finite loss'}"


def _into(path: Path, name: str, compared: list[dict[str, Any]]) -> None:
    """Replace what is between the marks of ``name`` in a Markdown file. Raises ``UserError`` if they are not there."""
    from bitlaw.report.comparison import digest, markdown, trust

    begin, end = f"<!-- laws: {name} -->", "<!-- end -->"
    text = path.read_text("utf-8") if path.is_file() else ""
    marks = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not marks.search(text):
        raise UserError(f"there is no '{begin}' with a '{end}' after it", place=str(path))
    made = markdown(compared[0]) if len(compared) == 1 else f"{digest(compared)}\n\n{trust(compared)}"
    replace_file(path, marks.sub(lambda found: f"{found[1]}{made}\n{found[2]}", text).encode())
    print(f"wrote the comparison into {path}")


COMMAND = Command(
    summary="fit the laws to a table and compare them on what they did not see",
    description="""\
Fit every law to a results table, print the constants with their intervals and warnings, and compare the laws of the
loss added on families, sizes, bits and kinds of format that were held out.""",
    epilog="""\
examples:
  bitlaw laws                                  the table of the study
  bitlaw laws --table results.parquet --law gmse --law kumar
  bitlaw laws --published --compare            which law to trust on what papers printed
  bitlaw laws --published --into docs/laws.md  the same, into the page""",
    arguments=_arguments,
    run=_run,
)

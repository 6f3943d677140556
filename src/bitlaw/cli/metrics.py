"""bitlaw metrics: the numbers and points that DVC compares between commits and experiments."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitlaw.artifacts import read_json, read_table, replace_file
from bitlaw.cli.base import Command
from bitlaw.errors import UserError
from bitlaw.study.load import find_root
from bitlaw.study.publish import VIEWS

METRICS = "report/metrics.json"
PLOTS = "report/plots"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")


def _run(options: argparse.Namespace) -> int:
    from bitlaw.report.metrics import fits, losses, metrics

    root = find_root(Path(options.root) if options.root else None)
    files = [root / VIEWS[name] for name in ("table", "laws")]
    if not all(file.is_file() for file in files):
        raise UserError("no results yet; run `snakemake --cores N`", place=str(root))
    table, laws = read_table(files[0]), read_json(files[1])
    text = json.dumps(metrics(table, laws), indent=1, sort_keys=True, allow_nan=False)
    replace_file(root / METRICS, f"{text}\n".encode())
    shutil.rmtree(root / PLOTS, ignore_errors=True)
    _write(root / PLOTS / "loss", losses(table))
    _write(root / PLOTS / "laws", fits(laws))
    return 0


def _write(folder: Path, series: Mapping[str, list[Any]]) -> None:
    """Write the points of each series that has any as a file, and the folder even if none has."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, points) in enumerate(sorted(series.items()), 1):
        # A name with settings is no name for a file; the order of the names is fixed, so the number tells them apart.
        stem = name if name.isidentifier() else f"{name.split()[0]}-{number}"
        if points:
            replace_file(folder / f"{stem}.json", f"{json.dumps(points, indent=1, allow_nan=False)}\n".encode())


COMMAND = Command(
    summary="write the numbers and points that DVC compares between runs",
    description="""\
Write report/metrics.json and the points under report/plots/ from report/table.parquet and report/laws.json. `dvc
repro` does this as its last stage; `dvc metrics diff` and `dvc plots diff` compare them between commits.""",
    epilog="""\
examples:
  bitlaw metrics""",
    arguments=_arguments,
    run=_run,
)

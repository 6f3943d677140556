"""bitlaw holdout: how well losses are predicted where nothing was measured."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bitlaw.cli.base import Command
from bitlaw.cli.tables import add_tables, named
from bitlaw.errors import UserError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        action="append",
        help="what is left out: family, largest or format (default: each in turn)",
    )
    parser.add_argument("--target", metavar="NAME", default="delta_nll", help="delta_nll (default) or accuracy_drop")
    parser.add_argument(
        "--up-to",
        metavar="N",
        type=float,
        help="protocol largest: learn from models of at most N parameters, as 13.5e9",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the fits (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_tables(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.predictor.cells import collect
    from bitlaw.predictor.features import features
    from bitlaw.predictor.protocols import PROTOCOLS, run
    from bitlaw.predictor.training import read

    cells = collect(read(named(options)), text=options.text, target=options.target)
    rows = features(cells)
    records, refused = [], []
    for name in options.protocol or PROTOCOLS:
        try:
            records.append(run(name, cells, rows, options.seed, options.up_to))
        except UserError as error:
            if options.protocol:
                raise
            refused.append(f"{name}: {error}")
    if not records:
        raise UserError("; ".join(refused))
    if options.json:
        print(json.dumps(records, indent=1))
        return 0
    left_out = "".join(f"; left out: {count} rows ({reason})" for reason, count in cells.excluded.items())
    print(f"{len(rows)} cells of {rows['model'].nunique()} models, {cells.evaluation}{left_out}")
    for record in records:
        print("\n".join(["", *lines(record)]))
    for line in refused:
        print(f"\nnot possible, {line}")
    return 0


def lines(record: dict[str, Any]) -> list[str]:
    """Return what the record of a protocol says: errors in the unit of the target, the best first."""
    from bitlaw.predictor import MODELS
    from bitlaw.predictor.protocols import CHOSEN

    said = [f"{record['protocol']}: {record['says']}"]
    said.append(f"  {'model':<14}{'MAE':>9}{'median':>9}{'R2':>9}")
    for name, errors in sorted(record["errors"].items(), key=lambda item: item[1]["mae"]):
        r2 = "none" if errors["r2"] is None else f"{errors['r2']:.3f}"
        what = "the model chosen without what is left out" if name == CHOSEN else MODELS[name].title
        role = "" if name == CHOSEN or MODELS[name].role == "candidate" else " (baseline)"
        said.append(f"  {name:<14}{errors['mae']:>9.4f}{errors['median']:>9.4f}{r2:>9}  {what}{role}")
    for fold in record["folds"]:
        covers = "" if fold["coverage"] is None else f", 90 % intervals cover {fold['coverage']:.1%}"
        said.append(f"  {fold['held_out']}: {fold['model']}, MAE {fold['mae']:.4f} over {fold['n']} cells{covers}")
    if record.get("coverage") is not None:
        said.append(f"  coverage of 90 % intervals over all families left out: {record['coverage']:.1%}")
    if record["protocol"] == "largest":
        said.append(f"  left out: {', '.join(record['held_out'])}")
        said += [
            f"  {one['bits']} bits, {one['method']}: median error {one['median']:.4f} over {one['n']} cells, "
            f"forest {one['forest_median']:.4f}"
            for one in record["by_bits"]
        ]
    return said


COMMAND = Command(
    summary="show how well losses are predicted where nothing was measured",
    description="""\
Fit the predictor's models to a part of a results table and compare what they predict for the rest with what was
measured: for a family left out, for the largest models, and for each element type. Errors are in nats per token. The
random forest of Xu et al. 2024, the nearest measured cell and Kumar's law are the baselines.""",
    epilog="""\
examples:
  bitlaw holdout                                                    the project's own table
  bitlaw holdout --table published --text wikitext-2@2048 --protocol largest --up-to 13.5e9""",
    arguments=_arguments,
    run=_run,
)

"""A study that was run as a few small files: its table with how each cell was made, landscapes, training curves.

Equal runs make equal artifacts, so what a run took is not in them but in its logs (``bitlaw.study.seconds``).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from bitlaw import __version__
from bitlaw.artifacts import read_json, read_table
from bitlaw.errors import UserError
from bitlaw.progress import track
from bitlaw.reference.shipped import VERSIONS
from bitlaw.study.record import read_head
from bitlaw.study.seconds import read_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from bitlaw.study.artifact import Artifact
    from bitlaw.study.plan import Plan

APART = "model"
"""The stage whose time is not that of cells: training."""
RECIPE = "recipe.json"
"""File of a trained model's folder: under ``curve`` it has tokens seen and losses."""


def results(plan: Plan, dollars_per_hour: float | None = None) -> pd.DataFrame:
    """Return the table of the study with the columns ``bitlaw.reference.shipped.MADE``.

    Seconds are those of the logs of `bitlaw run`, also of what was kept in memory alone; what no log tells adds none.

    Args:
        plan: the study against the store.
        dollars_per_hour: price of the device.

    Raises:
        UserError: the table, or a loss that it was made from, is not there.
    """
    path = plan.root / plan.grid.table.path
    if not path.is_file():
        raise UserError("no results yet; run `snakemake --cores N`, or `bitlaw run --missing`", place=str(plan.root))
    table, made = read_table(path), made_of(plan)
    told = read_seconds(plan.root)
    took = seconds(made, {artifact: told.get(artifact.path) for group in made for artifact in group})
    rows: dict[str, dict[str, Any]] = {}
    for (cell, *_), second in track(list(zip(made, took, strict=True)), "cells"):
        head = read_head(plan.root / cell.path) if cell.path in plan.have else None
        if head is None:
            raise UserError("not there, but it tells the versions and the device of a cell", place=cell.path)
        # Sources on a path, as on a machine where nothing can be installed, do not know their version. A cell that this
        # plan has was made by the very code that is planned with, for keys hold it.
        told_by = {"bitlaw": __version__, **head["made_with"]}
        own = {name: told_by.get(name) for name in ("device", *VERSIONS)}
        rows[cell.key] = {**own, "seconds": second, "dollars": second / 3600.0 * (dollars_per_hour or math.nan)}
    for name in ("device", *VERSIONS):
        table[name] = [rows[key][name] for key in table["key"]]
        table[name] = table[name].astype("string")
    for name in ("seconds", "dollars"):
        table[name] = [float(rows[key][name]) for key in table["key"]]
    return table


def made_of(plan: Plan) -> list[tuple[Artifact, ...]]:
    """Return for each cell of the study its loss and then all else that its row was made from; training left out."""
    parents, rows = plan.grid.table.parents, plan.grid.table.spec["rows"]
    below: dict[Artifact, frozenset[Artifact]] = {}
    for artifact in plan.grid.artifacts:  # parents come first
        group = (parent for role in artifact.parents.values() for parent in role)
        own = frozenset() if artifact.stage == APART else frozenset((artifact,))
        below[artifact] = own.union(*(below[parent] for parent in group))
    found = []
    for cell, row in zip(parents["cells"], rows, strict=True):
        others = [parents[role][row[role]] for role in parents if role in row and role != "cells"]
        whole = below[cell].union(*(below[other] for other in others))
        found.append((cell, *sorted(whole - {cell}, key=lambda artifact: artifact.path)))
    return found


def seconds(made: Iterable[tuple[Artifact, ...]], took: Mapping[Artifact, float | None]) -> list[float]:
    """Return the seconds of each cell: what is shared counts with an equal share for each cell that it is in.

    Args:
        made: for each cell, its loss and what its row was made from.
        took: wall seconds of artifacts; ``None``, or nothing, where they are not known.

    Returns:
        one number a cell, NaN where the seconds of its loss are not known.
    """
    groups = list(made)
    shared = Counter(artifact for group in groups for artifact in group)
    found = []
    for group in groups:
        known = [(took.get(artifact), shared[artifact]) for artifact in group]
        whole = math.fsum(second / count for second, count in known if second is not None)
        found.append(math.nan if known[0][0] is None else whole)
    return found


def profiles(plan: Plan) -> pd.DataFrame | None:
    """Return the radial profiles of the study's models, ``None`` if none were measured.

    Returns:
        one row for each ``model``, ``kind`` of direction, number of the ``direction`` and distance ``r_db`` (dB of the
        weights' norm), with ``delta_nll`` (nats per token) and ``height`` (nats from the unquantized loss to a uniform
        guess).

    Raises:
        UserError: a landscape of the study is not there.
    """
    import pandas as pd

    parents, rows = plan.grid.table.parents, plan.grid.table.spec["rows"]
    names = {row["landscape"]: row["model"] for row in rows if "landscape" in row}
    found = []
    for place, model in sorted(names.items(), key=lambda item: str(item[1])):
        path = plan.root / parents["landscape"][place].path
        if not path.is_file():
            raise UserError("not there, though the table was made from it", place=parents["landscape"][place].path)
        for kind, radial in sorted((read_json(path)["radial"] or {}).items()):
            for at, losses in enumerate(radial["delta_nll"]):
                for r_db, loss in zip(radial["r_db"], losses, strict=True):
                    found.append((model, kind, at, r_db, loss, radial["step"]["height"]))
    columns = ["model", "kind", "direction", "r_db", "delta_nll", "height"]
    return pd.DataFrame(found, columns=columns).astype({"direction": "Int64"}) if found else None


def curves(plan: Plan) -> pd.DataFrame | None:
    """Return the training curves of the models that the study trained, ``None`` if no model's folder has one.

    Returns:
        one row for each ``model`` and point: ``tokens`` seen, and ``loss``, the mean training loss since the point
        before, in nats per token.

    Raises:
        UserError: a recipe that is none.
    """
    import pandas as pd

    found = []
    for artifact in plan.grid.artifacts:
        path = plan.root / artifact.payload / RECIPE
        if artifact.stage == APART and path.is_file():
            try:
                points = json.loads(path.read_text("utf-8")).get("curve", [])
                found += [(artifact.label, int(tokens), float(loss)) for tokens, loss in points]
            except (AttributeError, TypeError, ValueError) as error:
                raise UserError(f"no recipe of a training: {error}", place=str(path)) from None
    curve = pd.DataFrame(found, columns=["model", "tokens", "loss"])
    return curve.astype({"model": "string", "tokens": "Int64"}) if found else None

"""Making artifacts: one order, or all that are missing, without Snakemake."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bitlaw.errors import DamagedArtifactError, UserError
from bitlaw.progress import track
from bitlaw.stage import Header, Job
from bitlaw.stages import STAGES
from bitlaw.study.plan import Plan, order

_LIBRARIES = ("bitlaw", "torch", "transformers", "tokenizers", "numpy", "pandas", "pyarrow", "scipy")


def make(order: Mapping[str, Any], root: Path) -> None:
    """Make one artifact, unless it exists.

    The stage writes to a temporary name in the final folder; the file is flushed and then renamed, so that whatever
    kills the job leaves nothing that looks finished. A damaged input is set aside under the ending ``.damaged``, so that
    the next run makes it again.

    Args:
        order: as ``bitlaw.study.plan.order`` gives it.
        root: the project folder.

    Raises:
        UserError: what the stage says, or a damaged input.
    """
    out = root / order["path"]
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary, payload = out.with_name(f".{out.name}.{os.getpid()}.tmp"), root / f"{order['payload']}.{os.getpid()}.tmp"
    header = Header(order["stage"], order["key"], order["spec"], order["parents"], order["code"], made_with())
    inputs = {role: tuple(root / path for path in paths) for role, paths in order["inputs"].items()}
    try:
        STAGES[order["stage"]].run(Job(header, inputs, temporary, payload, order["hints"]))
        if payload.exists():
            shutil.rmtree(root / order["payload"], ignore_errors=True)
            payload.rename(root / order["payload"])
        _flush(temporary)
        temporary.replace(out)
    except DamagedArtifactError as error:
        raise _set_aside(error) from None
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(payload, ignore_errors=True)


def make_missing(plan: Plan) -> int:
    """Make every missing artifact of ``plan`` in this process, parents first; return how many."""
    artifacts = list(plan.missing.values())
    for artifact in track(artifacts, "artifacts"):
        make(order(artifact), plan.root)
    return len(artifacts)


@cache
def made_with() -> dict[str, str]:
    """Return the versions of Python and of the libraries that values depend on; they are recorded, not hashed."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a GPU machine may run from the source tree
    return versions


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _set_aside(error: DamagedArtifactError) -> UserError:
    path = Path(error.place or "")
    if path.is_file():
        path.replace(path.with_name(f"{path.name}.damaged"))
    return UserError("damaged: its content does not match its checksum; set aside, run again to remake it", place=str(path))

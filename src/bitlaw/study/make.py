"""Making artifacts: one order, or all that are missing, without Snakemake."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bitlaw import held
from bitlaw.errors import DamagedArtifactError, UserError
from bitlaw.progress import counter, track
from bitlaw.stage import Header, Job, Together
from bitlaw.stages import STAGES
from bitlaw.study.artifact import code_of
from bitlaw.study.environment import RECORDED, is_strict, split_code
from bitlaw.study.plan import Plan, order
from bitlaw.study.seconds import Seconds
from bitlaw.study.turns import in_turn, parents_of

_FLUSH_SECONDS = 0.5
_AT_ONCE = 16  # files flushed


def make(order: Mapping[str, Any], root: Path, *, flush: bool = True, hold: bool = False) -> bool:
    """Make one artifact, unless it exists; return whether it was made.

    The stage writes to a temporary name in the final folder; the file is flushed and then renamed, so that whatever
    kills the job leaves nothing that looks finished. A damaged input is set aside under the ending ``.damaged``, so
    that the next run makes it again.

    Args:
        order: as ``bitlaw.study.plan.order`` gives it.
        root: the project folder.
        flush: write the file to the disk before it gets its name; else whoever calls does so with ``_flush``.
        hold: keep the artifact, one of tensors, in this process's memory and write no file; see ``bitlaw.held``.

    Raises:
        UserError: what the stage says, an input that is missing or damaged, or code that is not the order's.
    """
    if _exists(order, root):
        return False
    inputs = _inputs(order, root)
    try:
        with _job(order, inputs, root, flush=flush, hold=hold) as job:
            STAGES[order["stage"]].run(job)
        return True
    except DamagedArtifactError as error:
        raise _set_aside(error) from None
    except UserError as error:
        place = order["path"] if error.place is None else f"{order['path']}: {error.place}"
        raise UserError(error.message, place=place) from error
    except (MemoryError, RuntimeError) as error:
        if (told := _no_memory(error, order["path"])) is None:
            raise
        raise told from error


@contextmanager
def _job(
    order: Mapping[str, Any], inputs: Mapping[str, tuple[Path, ...]], root: Path, *, flush: bool, hold: bool
) -> Iterator[Job]:
    """Give the job whose artifact gets its name if the ``with`` block ends well; for arguments see ``make``."""
    out = root / order["path"]
    header = Header(
        order["stage"], order["key"], order["spec"], order["parents"], order["code"], _made_here(order["hints"])
    )
    mark = secrets.token_hex(4)  # several machines may make the same artifact in one shared folder
    temporary, payload = out.with_name(f".{out.name}.{mark}.tmp"), out.with_name(f".{out.stem}.{mark}.tmp")
    if hold:
        held.expect(out)
        yield Job(header, inputs, out, payload, order["hints"])
        return
    _make_folders(out.parent)
    try:
        yield Job(header, inputs, temporary, payload, order["hints"])
        if payload.exists():
            shutil.rmtree(root / order["payload"], ignore_errors=True)
            _share(payload)
            payload.rename(root / order["payload"])
        if flush:
            _flush(temporary)
        _share(temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(payload, ignore_errors=True)


def _exists(order: Mapping[str, Any], root: Path) -> bool:
    out = root / order["path"]
    return held.get(out) is not None or out.exists()


def _inputs(order: Mapping[str, Any], root: Path) -> Mapping[str, tuple[Path, ...]]:
    """Return the files of the parents by role, and get ready to make what the order says; see ``_check``."""
    _one_thread()
    inputs = {role: tuple(root / path for path in paths) for role, paths in order["inputs"].items()}
    _check(order, inputs)
    return inputs


def _no_memory(error: Exception, place: str) -> UserError | None:
    from bitlaw.models.device import no_memory

    told = no_memory(error)
    return None if told is None else UserError(told.message, place=place)


def make_each(
    orders: Iterable[Mapping[str, Any]],
    root: Path,
    *,
    hold: Collection[str] = (),
    failed: Collection[str] = (),
    made: Callable[[Mapping[str, Any], float], None] = lambda order, seconds: None,
) -> Iterator[tuple[str, Exception]]:
    """Make several artifacts, parents first; one that fails stops only those that are made from it.

    Each gets its name when it is made, so a process that is killed loses none. They are written to the disk together,
    twice a second and at the end, for that costs a small artifact more than all else: a machine that loses its power
    loses what is younger, and checksums tell of what is not whole.

    Args:
        orders: as for ``make``, those of parents before those of children; a stage may make some at once.
        root: the project folder.
        hold: stages whose artifacts are kept in memory, each until the last of ``orders`` that needs it, and never
            written; see ``bitlaw.held``.
        failed: paths that could not be made before.
        made: called for each artifact that was made here, with its order and the seconds that it took.

    Yields:
        The path of each artifact that could not be made, and why, as it happens.
    """
    orders = list(orders) if hold else orders
    uses = Counter(parent for one in orders for parent in parents_of(one)) if hold else Counter[str]()
    failed = set(failed)
    written: list[str] = []
    flushed = time.monotonic()
    for group in in_turn(orders, STAGES, root):
        began = time.perf_counter()
        holds = group[0]["stage"] in hold
        done, errors = _make_group(group, root, failed, hold=holds)
        for one in done:
            written += [] if holds else [one["path"]]
            made(one, (time.perf_counter() - began) / len(done))
        failed.update(path for path, _ in errors)
        yield from errors
        for one in group if hold else ():
            _drop_used(one, uses, root)
        if time.monotonic() - flushed > _FLUSH_SECONDS:
            yield from _flush_all(written, root)
            written, flushed = [], time.monotonic()
    yield from _flush_all(written, root)


def _make_group(
    group: Sequence[Mapping[str, Any]], root: Path, failed: Collection[str], *, hold: bool
) -> tuple[list[Mapping[str, Any]], list[tuple[str, Exception]]]:
    """Make the artifacts of ``group`` that need none of ``failed``; return those made here, and what failed and why."""
    errors: list[tuple[str, Exception]] = []
    able = []
    for one in group:
        lacking = next((parent for parent in parents_of(one) if parent in failed), None)
        if lacking is None:
            able.append(one)
        else:
            errors.append((one["path"], UserError(f"needs {lacking}, which could not be made", place=one["path"])))
    if len(able) > 1:
        try:
            return _make_together(able, root), errors
        except UserError:
            pass  # of one of them: which one, and that in full, is told when each is made by itself
        except Exception as error:  # whatever is wrong with some cells, others are to be made
            told = [_no_memory(error, one["path"]) or error for one in able]
            return [], [*errors, *((one["path"], each) for one, each in zip(able, told, strict=True))]
    done = []
    for one in able:
        try:
            if make(one, root, flush=False, hold=hold):
                done.append(one)
        except Exception as error:  # as above
            errors.append((one["path"], error))
    return done, errors


def _make_together(orders: Sequence[Mapping[str, Any]], root: Path) -> list[Mapping[str, Any]]:
    """Make all of ``orders``, which are of one stage and not held, in one go; return those that did not exist."""
    stage = STAGES[orders[0]["stage"]]
    assert isinstance(stage, Together)
    missing = [one for one in orders if not _exists(one, root)]
    with ExitStack() as stack:
        jobs = [stack.enter_context(_job(one, _inputs(one, root), root, flush=False, hold=False)) for one in missing]
        if jobs:
            stage.run_together(jobs)
    return missing


def _drop_used(order: Mapping[str, Any], uses: Counter[str], root: Path) -> None:
    """Forget the held artifacts that nothing needs after ``order``; ``uses`` counts what is still to come."""
    uses.subtract(parents_of(order))
    for path in {order["path"], *parents_of(order)}:
        if uses[path] <= 0:
            held.drop(root / path)


def make_missing(plan: Plan, stages: set[str], *, hold: Collection[str] = (), workers: int = 1) -> dict[str, Exception]:
    """Make the missing artifacts of ``plan`` that belong to ``stages``, parents first.

    Args:
        plan: what is missing.
        stages: those to make.
        hold: as for ``make_each``.
        workers: processes; see ``bitlaw.study.workers``.

    Returns:
        What could not be made and why, by path; also what waits for something that could not.
    """
    artifacts = [artifact for artifact in plan.missing.values() if artifact.stage in stages]
    with Seconds(plan.root) as log:
        if workers == 1 and not hold:
            orders = (order(artifact) for artifact in track(artifacts, "artifacts"))
            return dict(make_each(orders, plan.root, made=log.add))
        from bitlaw.study.workers import by_model, make_in

        models, whole = by_model([order(artifact) for artifact in artifacts])
        if workers > 1:
            with counter(len(artifacts), "artifacts") as progress:
                errors = dict(make_in(min(workers, len(models)), models, plan.root, tuple(hold), progress))
        else:
            errors = {}
            for group in track(models, "models"):
                errors |= dict(make_each(group, plan.root, hold=hold, made=log.add))
        return errors | dict(make_each(whole, plan.root, failed=errors, made=log.add))


@cache
def made_with() -> dict[str, str]:
    """Return the versions of Python and of the libraries that values depend on; they are recorded, not hashed."""
    versions = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a GPU machine may run from the source tree
    return versions


def _made_here(hints: Mapping[str, Any]) -> dict[str, str]:
    """Return ``made_with()``, with the device if a model is computed."""
    model = hints.get("model")
    if not isinstance(model, Mapping) or "device" not in model:
        return made_with()
    from bitlaw.models.device import name_of

    return {**made_with(), "device": name_of(model["device"])}


def _check(order: Mapping[str, Any], inputs: Mapping[str, tuple[Path, ...]]) -> None:
    """Check that what this process would make is what the order says."""
    for paths in inputs.values():
        for path in paths:
            if held.get(path) is None and not path.is_file():
                raise UserError(f"not there; it is made before {order['path']}", place=str(path))
    # The key vouches for the code, and the code may have been edited since the run was planned.
    present = code_of(order["stage"], order["spec"], strict=is_strict(order["code"]))
    if present != order["code"]:
        changed = "the code has" if split_code(present)[0] != split_code(order["code"])[0] else "libraries have"
        raise UserError(f"{changed} changed since this was planned; start the run again", place=order["path"])


def _one_thread() -> None:
    # The number of threads changes the order of sums and so the last digits: one, wherever a job runs.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    # torch.compile would start as many processes as there are cores, each job its own.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _make_folders(folder: Path) -> None:
    """Make ``folder`` and what it lies in; below the folder that is there, all have its permissions."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:  # another job was faster
        return
    if folder.name != "results":
        folder.chmod(stat.S_IMODE(folder.parent.stat().st_mode))


def _share(path: Path) -> None:
    """Let those who may use the folder use what is in it: safetensors makes files for their owner alone."""
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    for each in (path, *path.rglob("*")):
        each.chmod(mode if each.is_dir() else mode & 0o666)


def _flush_all(paths: list[str], root: Path) -> Iterator[tuple[str, Exception]]:
    """Write artifacts to the disk together; remove and yield those that it does not take."""
    # Many at once, for a disk writes them in one go: of 100 small files on ext4, each takes 0.6 ms, in turn 5 ms.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [(path, pool.submit(_flush, root / path)) for path in paths]
        for path, flushing in waiting:
            try:
                flushing.result()
            except FileNotFoundError:
                continue  # it was damaged, and has been set aside
            except OSError as error:
                (root / path).unlink(missing_ok=True)
                yield path, error


def _set_aside(error: DamagedArtifactError) -> UserError:
    path = Path(error.place or "")
    if path.is_file():
        path.replace(path.with_name(f"{path.name}.damaged"))
    return UserError(
        "damaged: its content does not match its checksum; set aside, run again to remake it", place=str(path)
    )

"""bitlaw gc: list or remove what no branch's parameters reach."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from bitlaw.cli.base import Command
from bitlaw.errors import UserError
from bitlaw.study.branches import Reach, reach_of
from bitlaw.study.load import find_root
from bitlaw.study.unreached import Item, other_libraries, remove, unreached


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remove", action="store_true", help="remove what is listed")
    parser.add_argument("--force", action="store_true", help="with --remove: also what could not be judged")
    parser.add_argument(
        "--also",
        metavar="REF",
        action="append",
        default=[],
        help="keep what this tag or commit reaches too; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")


def _run(options: argparse.Namespace) -> int:
    root = find_root(Path(options.root) if options.root else None)
    reach = reach_of(root, tuple(options.also))
    kept: list[Path] = []

    def keep(key: str, path: Path) -> bool:
        if key in reach.keys:
            return True
        if reach.strict and not options.force and other_libraries(path):
            kept.append(path)
            return True
        return False

    items = unreached(root, keep)
    refused = options.remove and reach.unjudged and not options.force
    removes = options.remove and not refused
    if removes:
        remove(root, items)
    if options.json:
        said = {"sources": reach.sources, "unjudged": reach.unjudged, "items": [asdict(item) for item in items]}
        print(json.dumps({**said, "removed": removes}, indent=1))
    else:
        _show(reach, items, len(kept))
        print(_sum(items, removed=removes))
    if refused:
        raise UserError(
            "nothing is removed, for not every study could be judged; mend them, or say --force if their results may go"
        )
    return 0


def _show(reach: Reach, items: list[Item], kept: int) -> None:
    for item in items:
        note = "" if item.why == "unreached" else f"  ({item.why})"
        print(f"{_amount(item.size):>10}  {item.path}{note}")
    print(f"judged: {', '.join(reach.sources)}")
    for line, sources in reach.unjudged.items():
        print(f"not judged: {line} ({', '.join(sources)})")
    if kept:
        print(f"kept: {kept} made with other versions of libraries, which a study with strict_env may reach")


def _sum(items: list[Item], *, removed: bool) -> str:
    if not items:
        return "nothing that is not reached"
    whole = f"{len(items)} files and folders, {_amount(sum(item.size for item in items))}"
    return f"removed {whole}" if removed else f"not reached: {whole}; --remove removes them"


def _amount(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


COMMAND = Command(
    summary="list or remove results that no branch's parameters reach",
    description="""\
List what in results/ no study of any local branch reaches, nor the working tree as it stands. Each branch is asked with
its own code, for keys depend on the code, and all of its studies count, not only the one that params.yaml selects:
each can be run with --config study=NAME. Besides, damaged artifacts that were set aside, and temporary files older than
a day, which killed jobs left. With --remove they go; a study that cannot be judged, because a text of it is not here,
say, is named, and then nothing goes without --force. Texts in results/text stay, and files that are no artifacts.
DVC keeps its own copies: `dvc commit` records the removal, `dvc gc` frees its cache.""",
    epilog="""\
examples:
  bitlaw gc                      what could go, and its size; nothing is changed
  bitlaw gc --also v1.0          keep what the tag v1.0 reaches too
  bitlaw gc --remove             remove it
  bitlaw gc --remove --force     although a study cannot be judged""",
    arguments=_arguments,
    run=_run,
)

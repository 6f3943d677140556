"""bitlaw doctor: what works on this machine, and what to do for the rest."""

from __future__ import annotations

import argparse
import json

from bitlaw.cli.base import Command

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")


def _run(options: argparse.Namespace) -> int:
    from bitlaw.doctor import examine

    found = examine(options.root)
    failed = [one for one in found if one.level == "fail"]
    if options.json:
        print(json.dumps([one.as_json() for one in found], indent=1))
        return 1 if failed else 0
    width = max(len(one.name) for one in found)
    for one in found:
        print(f"{MARKS[one.level]}  {one.name:<{width}}  {one.says}")
        if one.fix:
            print(f"      {'':<{width}}  -> {one.fix}")
    warned = sum(one.level == "warn" for one in found)
    print(f"{len(found)} checks, {warned} warnings, {len(failed)} failures")
    return 1 if failed else 0


COMMAND = Command(
    summary="check this machine: torch, GPU, disk, Snakemake, DVC's remote, the hub",
    description="""\
Check what runs need on this machine, and say what to do where something is missing. A warning means that a part does
not work or is slower, a failure that nothing can be computed or the project's study cannot be read; then the exit code
is 1. Nothing is changed, but for kernels that are compiled into the cache. The hub has 3 s to answer.""",
    epilog="""\
examples:
  bitlaw doctor
  bitlaw doctor --json --root ../my-project""",
    arguments=_arguments,
    run=_run,
)

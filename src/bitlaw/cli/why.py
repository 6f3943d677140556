"""bitlaw why: what the key of an artifact was made of, and why two keys differ."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan
from bitlaw.study.difference import ABSENT, Difference, first_difference
from bitlaw.study.environment import split_code
from bitlaw.study.record import Record, Records

_SHOWN = 20  # lines of one list; a table has thousands of parents


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", help="a path, a key, or the beginning of a key")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="another one: show the first difference of the two")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    add_study(parser)


def _run(options: argparse.Namespace) -> int:
    records = Records(open_plan(options))
    one = records.named(options.artifact)
    if options.other is None:
        print(json.dumps(_content(one), indent=1) if options.json else "\n".join(_explained(one, records)))
        return 0
    other = records.named(options.other)
    difference = first_difference(one, other, records.get)
    if options.json:
        pair = {"artifact": _content(one), "other": _content(other)}
        print(json.dumps({**pair, "difference": asdict(difference) if difference else None}, indent=1))
    else:
        print("\n".join(_compared(one, other, difference)))
    return 0


def _content(record: Record) -> dict[str, Any]:
    code, libraries = split_code(record.code)
    return {**asdict(record), "code": code, "libraries": libraries, "modules": record.modules()}


def _explained(record: Record, records: Records) -> Iterator[str]:
    """Yield the lines that say what an artifact was made from."""
    code, libraries = split_code(record.code)
    modules = record.modules()
    yield record.path
    yield from _section("state", [_state(record)])
    yield from _section("stage", [record.stage])
    yield from _section("spec", [f"{name} = {_value(value)}" for name, value in _flat(record.spec)])
    yield from _section("parents", _parent_lines(record, records))
    if modules is None:
        yield from _section("code", [f"{code[:12]}, not the present code"])
    else:
        names = ", ".join(name.removeprefix("bitlaw.") for name in modules)
        yield from _section("code", [f"{code[:12]}, the present code of bitlaw's", *_wrapped(names)])
    yield from _section("libraries", [f"{name} {version}: part of the key" for name, version in libraries.items()])
    if record.made_with is not None:
        versions = ", ".join(f"{name} {version}" for name, version in record.made_with.items())
        yield from _section("made with", _wrapped(f"{versions} (recorded)"))
    yield from _section("beside it", records.beside(record))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_on_hyphens=False)


def _state(record: Record) -> str:
    if record.exists:
        return "in results/" if record.planned else "in results/, but not of this study as it stands"
    return "not in results/; of this study" if record.planned else "not in results/; of an earlier plan"


def _parent_lines(record: Record, records: Records) -> list[str]:
    shown = [(role, key) for role, keys in record.parents.items() for key in keys]
    lines = []
    for role, key in shown[: _SHOWN + 1]:
        parent = records.get(key)
        lines.append(f"{role}: {parent.path if parent else f'{key} (its file is gone)'}")
    return lines + [""] * (len(shown) - len(lines))


def _section(title: str, lines: list[str]) -> Iterator[str]:
    shown = lines[:_SHOWN]
    if len(lines) > len(shown):
        shown = [*shown, f"... and {len(lines) - len(shown)} more; --json has all"]
    for index, line in enumerate(shown):
        yield f"  {title if index == 0 else '':<10} {line}"


def _compared(one: Record, other: Record, difference: Difference | None) -> Iterator[str]:
    """Yield the lines that say why two artifacts differ."""
    if difference is None:
        yield f"the same artifact: {one.path}"
    else:
        yield f"first difference: {_said(difference)}"
        yield f"  in   {difference.records[0].path}"
        yield f"  and  {difference.records[1].path}"
        if difference.roles:
            yield f"  from {' > '.join((one.stage, *difference.roles))}"
    versions = _changed(one.made_with or {}, other.made_with or {}) if one.made_with and other.made_with else []
    if versions:
        yield f"recorded, not part of the keys: {', '.join(versions)}"


def _said(difference: Difference) -> str:
    one, other = difference.values
    stage = difference.records[0].stage
    if difference.what == "stage":
        return f"stage {one} -> {other}"
    if difference.what == "code":
        now = [index for index, record in enumerate(difference.records) if record.modules() is not None]
        note = f"; the {('first', 'second')[now[0]]} is the present code" if len(now) == 1 else ""
        return f"code of {stage} {one[:12]} -> {other[:12]}{note}"
    if difference.what == "library":
        return f"{difference.name} {one} -> {other} (strict_env)"
    if difference.what == "parents":
        gone = "" if ABSENT in difference.values else " (a file is gone, so no more can be said)"
        return f"parent '{difference.name}' of {stage} {_value(one)} -> {_value(other)}{gone}"
    return f"{stage} {difference.name} {_value(one)} -> {_value(other)}"


def _changed(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    names = sorted({*one, *other})
    return [
        f"{name} {one.get(name, ABSENT)} -> {other.get(name, ABSENT)}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a JSON value with their places."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from _flat(value[key], f"{name}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}[{index}]")
    else:
        yield name, value


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


COMMAND = Command(
    summary="explain the key of an artifact, or why two differ",
    description="""\
Print what the key of an artifact was made of: the stage, the parameters, what it was made from, the code; and the
versions of libraries that were recorded. The artifact may be in results/ or only planned. With OTHER, print the first
difference of the two, followed through what they were made from to where it comes from: a new loss may differ from an
old one because of the seed of the calibration. Nothing is computed and nothing is changed.""",
    epilog="""\
examples:
  bitlaw why results/evaluate/gpt2-0.1m/int4_b64-gptq/KEY.json
  bitlaw why 3f9a                the artifact whose key begins so
  bitlaw why report/index.html   the report of the study
  bitlaw why 3f9a c07b           why they are not one""",
    arguments=_arguments,
    run=_run,
)

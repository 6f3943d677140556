"""The reference: every key of ``params.yaml`` from its schema, every command from its parser, every module."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "bitlaw"
_TITLES = {"params": "Keys of params.yaml", "commands": "Commands", "modules": "Modules"}


def navigation() -> list[dict[str, Any]]:
    """Return the entries of the reference's pages in the navigation."""
    own = [{_TITLES[name]: f"reference/{name}.md"} for name in ("params", "commands")]
    return [*own, {_TITLES["modules"]: [{name: _module_page(name)} for name in _packages()]}]


def pages() -> dict[str, str]:
    """Return Markdown by the name of its page."""
    modules = {_module_page(name): _modules(name, members) for name, members in _packages().items()}
    return {"reference/params.md": params(), "reference/commands.md": commands(), **modules}


# ---- Modules.


def _packages() -> dict[str, list[str]]:
    """Return the modules of each package, those of the top first."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("bitlaw", *path.relative_to(PACKAGE).with_suffix("").parts)
        if path.name == "__main__.py":
            continue
        package = ".".join(parts[:-1])
        found.setdefault(package, []).append(package if path.name == "__init__.py" else ".".join(parts))
    return {name: sorted(members) for name, members in sorted(found.items())}


def _module_page(package: str) -> str:
    return f"reference/{package}.md"


def _modules(package: str, members: list[str]) -> str:
    return "\n\n".join([f"# {package}", *(f"::: {name}" for name in members)]) + "\n"


# ---- Commands.


def commands() -> str:
    """Return what each command says of itself."""
    from bitlaw.cli import COMMANDS

    os.environ["COLUMNS"] = "110"  # argparse fills lines to the width of the terminal
    parts = [f"# {_TITLES['commands']}", "`bitlaw COMMAND --help` says the same."]
    for name in COMMANDS:
        command = COMMANDS[name]
        parser = argparse.ArgumentParser(
            prog=f"bitlaw {name}",
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(parser)
        parts += [f"## {name}", f"{command.summary[0].upper()}{command.summary[1:]}."]
        parts.append(f"```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


# ---- Keys.


def params() -> str:
    """Return tables of all keys of ``params.yaml``, from its JSON Schema."""
    from bitlaw.cli.schema import params_schema, study_schema

    schema = params_schema()
    said = dict(_attributes(str(study_schema()["description"]).partition("Attributes:\n")[2]))
    for key, value in schema["properties"].items():
        value.setdefault("description", said.get(key, ""))
    parts = [
        f"# {_TITLES['params']}",
        "Made from the schema that `bitlaw schema` prints; [What a study says](../study.md) explains and has examples. "
        "The files under `studies/` have the same keys without `study` and `scale`, and `scales`.",
        *_section(schema),
    ]
    for name, section in sorted(schema["$defs"].items(), key=lambda entry: entry[0].lower()):
        parts += [f"## {name}", *_section(section)]
    return "\n\n".join(parts) + "\n"


def _section(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a section is, and the table of its keys."""
    about, _, attributes = str(schema.get("description", "")).partition("Attributes:\n")
    yield from (_plain(part) for part in about.strip().split("\n\n") if part)
    said = dict(_attributes(attributes))
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, value in schema["properties"].items():
        meaning = _plain(value.get("description", said.get(key, "")))
        default = "required" if key in schema.get("required", ()) else _default(value)
        lines.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |")
    yield "\n".join(lines)


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and what is said of them in the section ``Attributes`` of a docstring."""
    yield from re.findall(r"^    (\w+): ((?:.|\n(?:     |$))*)", text, re.MULTILINE)


def _plain(text: str) -> str:
    """Return ``text`` of a docstring as one line for a table."""
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


def _default(value: Mapping[str, Any]) -> str:
    """Return the default in YAML's words; that of a section is what its own table says."""
    if "default" not in value:
        return ""
    default = value["default"]
    sections = default if isinstance(default, list) else [default]
    return "its own defaults" if any(isinstance(each, dict) for each in sections) else f"`{json.dumps(default)}`"


def _type(value: Mapping[str, Any]) -> str:
    """Return the type of a value in words, with links to the sections that it may be."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "$defs" in value["$ref"] else name
    for how in ("anyOf", "oneOf", "allOf"):
        if how in value:
            return _one_of(value[how])
    if "const" in value or "enum" in value:
        return " or ".join(f"`{json.dumps(each)}`" for each in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        inside = value.get("items") or {}
        return f"list of {_type(inside)}" if inside else "list"
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{words} {value[limit]:g}" for limit, words in limits.items() if limit in value]
    return ", ".join([str(value.get("type", "anything")), *bounds])


def _one_of(members: list[Mapping[str, Any]]) -> str:
    """Return a union in words; names that may stand for sections without other keys are not listed again."""
    sections = any("oneOf" in each for each in members)
    shown = [each for each in members if not (sections and "enum" in each)]
    bare = ["a bare name"] if len(shown) < len(members) else []
    return " or ".join(dict.fromkeys([*bare, *map(_type, shown)]))

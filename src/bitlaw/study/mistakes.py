"""What pydantic finds wrong with a study, as one line for the person who wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError, unknown
from bitlaw.laws import LAWS
from bitlaw.methods import METHODS
from bitlaw.mixing import SELECTS
from bitlaw.models.sources import SOURCES
from bitlaw.plugins import Plugins
from bitlaw.study.yaml_file import Location, YamlFile, is_short, place
from bitlaw.text import CORPORA

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

# What can be chosen under a key of a study.
_CHOICES: Mapping[str, Plugins[Any]] = {
    "models": SOURCES,
    "text": CORPORA,
    "methods": METHODS,
    "mixes": SELECTS,
    "laws": LAWS,
}

_LIST, _MAPPING, _WHOLE, _NUMBER = "a list", "`key: value` pairs", "a whole number", "a number"
_WANTED = {
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "greater_than_equal": "at least {ge}",
    "greater_than": "greater than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}


def one_line(error: ValidationError, content: Mapping[str, Any], files: Sequence[YamlFile]) -> UserError:
    """Return the first mistake in ``content``, which was read from ``files``, with its place."""
    first = error.errors()[0]
    location = _without_tags(first["loc"], content)
    message = _message(first, location)
    if first["type"] == "missing":
        location = location[:-1]
    return UserError(message, place=place(location, files))


def _message(first: ErrorDetails, location: Location) -> str:
    kind, context = first["type"], first.get("ctx", {})
    last = str(location[-1]) if location else ""
    if kind in _WANTED:
        return f"must be {_WANTED[kind].format(**context)}, not {_shown(first['input'])}"
    if kind == "extra_forbidden":
        return str(unknown("key", last, _fields(first["loc"][:-1])))
    if kind == "literal_error":
        named = next((step for step in reversed(location) if isinstance(step, str)), last)
        return str(unknown(named, str(first["input"]), re.findall("'([^']*)'", str(context["expected"]))))
    if kind.startswith("union_tag"):
        choices = _CHOICES[next(step for step in reversed(location) if isinstance(step, str))]
        if kind == "union_tag_invalid":
            return str(unknown(choices.kind, str(context["tag"]), choices))
        return f"the entry must say its {context['discriminator']}, one of {', '.join(choices)}"
    said = {
        "value_error": str(context.get("error")),
        "missing": f"'{last}' is missing",
        "too_short": "the list is empty",
        "invalid_key": "a key must be text",
    }
    return said.get(kind) or f"{first['msg'][:1].lower()}{first['msg'][1:]}, not {_shown(first['input'])}"


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_tags(location: Location, content: Any) -> list[str | int]:
    """Return ``location`` without what pydantic puts in for the member of a union: no step that the user wrote."""
    kept: list[str | int] = []
    chosen = False
    for step in location:
        named = content if isinstance(content, str) else _name(content)
        if not chosen and named == step:
            chosen = True
            continue
        if is_short(step, content):
            continue
        kept.append(step)
        chosen = False
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            content = None
    return kept


def _name(entry: Any) -> Any:
    return entry.get("source", entry.get("select", entry.get("name"))) if isinstance(entry, dict) else None


def _fields(location: Location) -> list[str]:
    """Return the valid keys at ``location`` of a study, by walking its JSON Schema."""
    from bitlaw.study.params import Study

    schema = Study.model_json_schema()
    node: dict[str, Any] = schema
    for step in location:
        node = _resolve(node, schema, "items" if isinstance(step, int) else None)
        mapping = node.get("discriminator", {}).get("mapping", {})
        if isinstance(step, int):
            node = node.get("items", {})
        elif step in node.get("properties", {}):
            node = node["properties"][step]
        elif step in mapping:
            node = {"$ref": mapping[step]}
    return [*_resolve(node, schema).get("properties", {}), *(() if location else ("scales", "scale"))]


def _resolve(node: dict[str, Any], schema: dict[str, Any], having: str | None = None) -> dict[str, Any]:
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        else:
            # What a short form can stand for is the last alternative, unless a list is asked for.
            there = [one for one in node["anyOf"] if one.get("type") != "null"]
            node = next((one for one in there if having in one), there[-1])
    return node

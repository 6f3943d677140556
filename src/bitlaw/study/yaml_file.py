"""YAML files that know their lines, so that a mistake in one can be pointed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bitlaw.errors import UserError

Location = Sequence[str | int]
"""Where a value is: keys of mappings and indices of lists, from the outside in."""


@dataclass(frozen=True)
class YamlFile:
    """A YAML file that has been read.

    Attributes:
        name: its path below the project folder.
        content: the mapping that it holds.
        tree: its nodes, which know the lines; ``None`` if it is empty.
    """

    name: str
    content: Mapping[str, Any]
    tree: yaml.Node | None

    def find(self, location: Location) -> tuple[int, int]:
        """Return how many steps of ``location`` the file has, and the line of the last of them (from 1)."""
        node, line = self.tree, 1
        for depth, step in enumerate(location):
            found = next(_children(node, step), None)
            if found is None:
                return depth, line
            line, node = found
        return len(location), line

    def part(self, location: Location, content: Mapping[str, Any]) -> YamlFile:
        """Return what is at ``location``, which is ``content``, as a file of the same name and lines."""
        node = self.tree
        for step in location:
            node = next((found for _, found in _children(node, step)), None)
        return YamlFile(self.name, content, node)


def place(location: Location, files: Sequence[YamlFile]) -> str:
    """Return ``file:line: path`` of the value at ``location`` in the file that has most of it, the first of equals."""
    file = max(files, key=lambda one: one.find(as_written(location, one.content))[0]) if location else files[-1]
    location = as_written(location, file.content)
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")
    depth, line = file.find(location)
    where = f"{file.name}:{line}" if depth else file.name
    return f"{where}: {path}" if path else where


def is_short(step: str | int, content: Any) -> bool:
    """Return whether ``content`` is the short form of what has ``step``: a mapping for a list, a list for a section."""
    if isinstance(content, Mapping):
        return isinstance(step, int) and step not in content
    return content is not None and isinstance(content, list) == isinstance(step, str)


def as_written(location: Location, content: Any) -> list[str | int]:
    """Return ``location`` without the steps that a short form in ``content`` leaves out."""
    written: list[str | int] = []
    for step in location:
        if is_short(step, content):
            continue
        written.append(step)
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            content = None
    return written


def read_yaml(path: Path, root: Path) -> YamlFile:
    """Return the YAML file at ``path``, named relative to ``root``.

    Raises:
        UserError: no such file, not UTF-8, malformed, a key that is there twice, or no mapping.
    """
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if not path.is_file():
        raise UserError("no such file", place=name)
    try:
        text = path.read_text("utf-8-sig")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", place=name) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(_problem(error), place=f"{name}:{mark.line + 1}" if mark else name) from None
    except yaml.YAMLError as error:
        raise UserError(f"malformed YAML: {error}", place=name) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError("the file must hold `key: value` lines", place=f"{name}:1")
    return YamlFile(name, content, tree)


class _Loader(yaml.SafeLoader):
    """YAML as it is, but a key written twice is a mistake and not a silent choice of the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(
                problem="a key must be a plain word; put text with braces or brackets in quotes",
                problem_mark=key.start_mark,
            )
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _children(node: yaml.Node | None, step: str | int) -> Iterator[tuple[int, yaml.Node]]:
    """Yield line and node of what ``step`` leads to below ``node``, what is merged in by ``<<`` last."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        yield node.value[step].start_mark.line + 1, node.value[step]
    elif isinstance(node, yaml.MappingNode):
        yield from ((key.start_mark.line + 1, value) for key, value in node.value if key.value == str(step))
        for key, value in node.value:
            if key.value == "<<":
                for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    yield from _children(base, step)


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong with a YAML file in words that say what to do."""
    problem, context = str(error.problem or error.context), str(error.context or "")
    # For a node that is missing inside a bracket, the mark is where the node should be.
    mark = None if "flow node" in context else error.context_mark
    opened = f"in line {mark.line + 1}" if mark else "above"
    if "'\\t'" in problem:
        return "malformed YAML: there is a tab; indent with blanks"
    if "parsing a flow" in context:
        return f"malformed YAML: the bracket opened {opened} is not closed, or a comma is missing"
    if "mapping values are not allowed" in problem:
        return "malformed YAML: a ':' where none can be; put the value in quotes, or mend the indentation"
    if "could not find expected ':'" in problem:
        return "malformed YAML: a ':' is missing after the key"
    if "is there twice" in problem:
        return problem
    return f"malformed YAML: {problem}"

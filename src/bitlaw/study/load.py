"""Reading a study: ``params.yaml`` selects a file under ``studies/`` and overrides it; mistakes are one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bitlaw.errors import UserError, unknown

if TYPE_CHECKING:
    from pydantic import ValidationError

    from bitlaw.study.params import Study


@dataclass(frozen=True)
class Loaded:
    """A study that has been read.

    Attributes:
        name: of the study file, without ending.
        root: the project folder.
        study: its validated content.
    """

    name: str
    root: Path
    study: Study


class _Loader(yaml.SafeLoader):
    """YAML as it is, but a key written twice is a mistake and not a silent choice of the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen and key.value != "<<":
            raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class _Source:
    """A YAML file with its content and its node tree, which knows the lines."""

    name: str
    content: dict[str, Any]
    tree: yaml.Node | None

    def line(self, location: Sequence[str | int]) -> int:
        """Return the line of the deepest node on ``location`` that the file has."""
        node = self.tree
        line = 1
        for step in location:
            below: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == step:
                        line, below = key.start_mark.line + 1, value
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                below = node.value[step]
                line = below.start_mark.line + 1
            # pydantic puts the name of a union's member into the location: a step that the file does not have.
            node = below or node
        return line


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder at or above ``start`` (default: here) that holds ``params.yaml``.

    Raises:
        UserError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder
    raise UserError("no params.yaml here or in a folder above; go to the project's folder", place=str(here))


def load_study(root: Path, name: str | None = None) -> Loaded:
    """Return the study that ``params.yaml`` in ``root`` selects.

    Every key of ``params.yaml`` but ``study`` overrides the study's key of that name: mappings are merged, all else is
    replaced.

    Args:
        root: the project folder.
        name: take this study instead of the one that ``params.yaml`` names, and none of its overrides.

    Raises:
        UserError: a missing file, malformed YAML, an unknown or wrong key: one line with its place.
    """
    params = _read(root / "params.yaml", root)
    chosen = name or params.content.get("study")
    if not isinstance(chosen, str):
        raise UserError("say which study: `study: demo`", place="params.yaml:1")
    base = _read(_study_file(root, chosen, params if name is None else None), root)
    overrides = {} if name else {key: value for key, value in params.content.items() if key != "study"}
    merged = _merge(base.content, overrides)
    sources = [base] if name else [params, base]
    return Loaded(Path(chosen).stem, root, validate(merged, sources))


def validate(content: Mapping[str, Any], sources: Sequence[_Source]) -> Study:
    """Return ``content`` as a study. Raises ``UserError`` with the place of the first mistake."""
    from pydantic import ValidationError

    from bitlaw.study.params import Study

    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise _one_line(error, sources) from None
    for section in ("formats", "methods"):
        entries = getattr(study, section)
        for index, entry in enumerate(entries):
            if entry in entries[:index]:
                raise UserError(f"{_text(entry)} is there twice", place=_place((section, index), sources))
    return study


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        # A text is one thing that is chosen as a whole: parts of two sources do not mix.
        together = isinstance(old, dict) and isinstance(value, dict) and "source" not in value
        merged[key] = _merge(old, value) if together and isinstance(old, dict) else value
    return merged


def _study_file(root: Path, name: str, params: _Source | None) -> Path:
    path = root / name if name.endswith((".yaml", ".yml")) else root / "studies" / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in (root / "studies").glob("*.yaml")]
        place = f"{params.name}:{params.line(['study'])}: study" if params else "study"
        raise unknown("study", name, known, place=place)
    return path


def _read(path: Path, root: Path) -> _Source:
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if not path.is_file():
        raise UserError("no such file", place=name)
    try:
        text = path.read_text("utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", place=name) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise UserError(f"malformed YAML: {error.problem or error.context}", place=place) from None
    except yaml.YAMLError as error:
        raise UserError(f"malformed YAML: {error}", place=name) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError("the file must hold a mapping of keys to values", place=f"{name}:1")
    return _Source(name, content, tree)


def _one_line(error: ValidationError, sources: Sequence[_Source]) -> UserError:
    first = error.errors()[0]
    location, kind, context = first["loc"], first["type"], first.get("ctx", {})
    place = _place(location, sources)
    if kind == "extra_forbidden":
        return unknown("key", str(location[-1]), _fields(location[:-1]), place=place)
    if kind == "union_tag_invalid":
        valid = [tag.strip().strip("'") for tag in str(context["expected_tags"]).split(",")]
        return unknown(str(context["discriminator"]).strip("'"), str(context["tag"]), valid, place=place)
    if kind == "union_tag_not_found":
        return UserError(f"the entry must say its {context['discriminator']}", place=place)
    if kind == "missing":
        return UserError(f"'{location[-1]}' is missing", place=place)
    message = str(context["error"]) if kind == "value_error" else first["msg"][:1].lower() + first["msg"][1:]
    return UserError(message if kind == "value_error" else f"{message}, not {first['input']!r}", place=place)


def _place(location: Sequence[str | int], sources: Sequence[_Source]) -> str:
    source = next((one for one in sources if location and location[0] in one.content), sources[-1])
    steps, value = "", source.content
    for step in location:
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            if step != location[-1]:
                continue  # the name of a union's member
        steps += f"[{step}]" if isinstance(step, int) else f".{step}"
    return f"{source.name}:{source.line(location)}: {steps.lstrip('.')}"


def _fields(location: Sequence[str | int]) -> list[str]:
    """Return the valid keys at ``location`` of a study, by walking its JSON Schema."""
    from bitlaw.study.params import Study

    schema = Study.model_json_schema()
    node: dict[str, Any] = schema
    for step in location:
        node = _resolve(node, schema)
        mapping = node.get("discriminator", {}).get("mapping", {})
        if isinstance(step, int):
            node = node.get("items", {})
        elif step in node.get("properties", {}):
            node = node["properties"][step]
        elif step in mapping:
            node = {"$ref": mapping[step]}
    return list(_resolve(node, schema).get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _text(entry: Any) -> str:
    return f"'{entry}'" if isinstance(entry, str) else f"'{entry.name}' with these settings"

"""Scales of a study: the same grid with some keys replaced, such as small models in place of those of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitlaw.errors import UserError, unknown
from bitlaw.study.yaml_file import YamlFile, place

KEY = "scales"
"""The key of a study file that holds them, by name."""

FULL = "full"
"""The scale of every study as it stands."""


def scales_of(file: YamlFile) -> dict[str, YamlFile]:
    """Return the scales of a study file, by name, each as if it were a file.

    Raises:
        UserError: they are no mapping of mappings, or one has the name of the study as it stands.
    """
    found = file.content.get(KEY) or {}
    if not isinstance(found, Mapping):
        raise UserError("must be `name: keys of a study`", place=place([KEY], [file]))
    for name, content in found.items():
        where = place([KEY, str(name)], [file])
        if name == FULL:
            raise UserError(f"'{FULL}' is the study as it stands; give the scale another name", place=where)
        if not isinstance(content, Mapping):
            raise UserError("must be `key: value` pairs of a study", place=where)
        if KEY in content:
            raise UserError("a scale has no scales", place=where)
    return {str(name): file.part([KEY, str(name)], content) for name, content in found.items()}


def scaled(file: YamlFile, scale: str | None, where: str) -> YamlFile | None:
    """Return what ``scale`` replaces in the study ``file``, or ``None`` for the study as it stands.

    Args:
        file: the study.
        scale: a name, ``full`` or ``None``.
        where: the place of the name, for errors.

    Raises:
        UserError: the study has no such scale; see also ``scales_of``.
    """
    scales = scales_of(file)
    if scale is None or scale == FULL:
        return None
    if scale not in scales:
        raise unknown(f"scale of {file.name}", scale, [FULL, *scales], place=where)
    return scales[scale]


def without_scales(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's content without its scales."""
    return {key: value for key, value in content.items() if key != KEY}

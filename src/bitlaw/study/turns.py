"""In which order artifacts are made, and which of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bitlaw.artifacts import canonical
from bitlaw.stage import Stage, Together


def parents_of(order: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths that the artifact of ``order`` is made from."""
    return (parent for group in order["inputs"].values() for parent in group)


def in_turn(
    orders: Iterable[Mapping[str, Any]], stages: Mapping[str, Stage], root: Path
) -> Iterator[list[Mapping[str, Any]]]:
    """Yield ``orders``, each after those that it is made from: one by one, or several that their stage makes at once.

    The latter wait until there are enough of them, or until one is needed, or until the end.

    Args:
        orders: as ``bitlaw.study.plan.order`` gives them, those of parents before those of children.
        stages: by name.
        root: the project folder.
    """
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    place: dict[str, str] = {}

    def ready(name: str) -> list[Mapping[str, Any]]:
        group = waiting.pop(name)
        for one in group:
            del place[one["path"]]
        return group

    for one in orders:
        for name in dict.fromkeys(place[parent] for parent in parents_of(one) if parent in place):
            yield ready(name)
        count = _together(one, stages[one["stage"]], root)
        if count == 1:
            yield [one]
            continue
        name = canonical([one["stage"], one["spec"], one["inputs"]["model"], one["hints"]])
        waiting.setdefault(name, []).append(one)
        place[one["path"]] = name
        if len(waiting[name]) == count:
            yield ready(name)
    yield from waiting.values()


def _together(order: Mapping[str, Any], stage: Stage, root: Path) -> int:
    if not isinstance(stage, Together):
        return 1
    return stage.together(
        order["spec"], {role: [root / one for one in paths] for role, paths in order["inputs"].items()}
    )

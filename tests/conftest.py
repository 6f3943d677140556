"""Puts this folder on the path of imports, so that all tests can use its modules; fixtures that several folders use."""

from __future__ import annotations

import pytest

LONG = ("recompute", "install", "cluster", "workflow", "browser")
"""Markers of what takes long, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with long tests go first, so that no worker is left alone with one at the end."""

    def rank(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(LONG) if item.get_closest_marker(name)), len(LONG))

    first: dict[str, int] = {}
    for item in items:
        file = item.nodeid.partition("::")[0]
        first[file] = min(rank(item), first.get(file, len(LONG)))
    items.sort(key=lambda item: first[item.nodeid.partition("::")[0]])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the libraries of the hub ask no network."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

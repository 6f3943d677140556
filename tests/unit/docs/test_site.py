"""The pages of the site that are made when it is built: they hold everything, and links lead where they should."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bitlaw.cli import COMMANDS
from bitlaw.cli.schema import params_schema
from projects import REPOSITORY

SITE = REPOSITORY / "docs" / "site"
CONFIG = SimpleNamespace(repo_url="https://example.org/bitlaw")


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module of docs/site/, which is no package."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "110")
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    return module("reference", monkeypatch)


@pytest.fixture
def hooks(reference: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    return module("hooks", monkeypatch)


def test_every_module_is_on_a_page_that_the_navigation_has(reference: Any) -> None:
    pages = reference.pages()
    shown = re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    package = REPOSITORY / "src"
    there = [path.relative_to(package).with_suffix("").parts for path in (package / "bitlaw").rglob("*.py")]
    names = {".".join(part for part in parts if part != "__init__") for parts in there}
    assert sorted(shown) == sorted(names - {"bitlaw.__main__"})
    assert set(re.findall(r"reference/[\w.]+\.md", str(reference.navigation()))) == set(pages)


def test_every_command_and_every_key_is_on_a_page(reference: Any) -> None:
    commands = reference.commands()
    assert re.findall(r"^## (\w+)$", commands, re.MULTILINE) == list(COMMANDS)
    assert "usage: bitlaw export [-h]" in commands
    schema = params_schema()
    expected = [key for section in (schema, *schema["$defs"].values()) for key in section["properties"]]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*) \| (.*) \|$", reference.params(), re.MULTILINE)
    assert sorted(key for key, *_ in rows) == sorted(expected)
    by_key = {key: (kind, default, meaning) for key, kind, default, meaning in rows}
    assert by_key["bootstraps"] == ("integer, at least 1", "`1000`", "bootstrap samples behind each interval.")
    assert by_key["calibration"][:2] == ("[Calibration](#calibration)", "its own defaults")


@pytest.mark.parametrize(
    ("name", "link", "expected"),
    [
        ("index.md", "[x](docs/zoo.md#the-text)", "[x](zoo.md#the-text)"),
        ("index.md", "![x](docs/figures/main.png)", "![x](figures/main.png)"),
        ("index.md", "[x](CITATION.cff)", "[x](https://example.org/bitlaw/blob/main/CITATION.cff)"),
        ("cache.md", "[x](../CONTRIBUTING.md)", "[x](contributing.md)"),
        ("tutorial/laptop.md", "[x](../study.md#texts)", "[x](../study.md#texts)"),
        ("contributing.md", "[x](docs/extending.md)", "[x](extending.md)"),
        ("study.md", "[x](https://example.org/y)", "[x](https://example.org/y)"),
        ("study.md", "table[name](path)", "table[name](path)"),
    ],
)
def test_links_lead_to_places_on_the_site(hooks: Any, name: str, link: str, expected: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=name))
    assert hooks.on_page_markdown(link, page, CONFIG) == expected

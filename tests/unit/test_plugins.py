"""A registry that is a folder, and the one line that a wrong name gets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bitlaw.errors import UserError, did_you_mean, unknown
from bitlaw.plugins import Plugins


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins[Any]:
    folder = tmp_path / "plugged"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "two.py").write_text("ENTRY: int = 2\n")
    (folder / "one.py").write_text("ENTRY = 1\n")
    (folder / "base.py").write_text("ENTRY_KIND = 'no entry'\nif ENTRY_KIND:\n    ENTRY = 3\n")
    (folder / "broken.py").write_text("ENTRY = 1 / 0\n")
    (folder / "notes.txt").write_text("ENTRY = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("plugged")]:
        monkeypatch.delitem(sys.modules, name)
    return Plugins("plugged", "ENTRY", "thing")


def test_one_file_is_one_entry(registry: Plugins[Any]) -> None:
    assert list(registry) == ["broken", "one", "two"]
    assert len(registry) == 3
    assert (registry["one"], registry["two"]) == (1, 2)
    assert registry.module("one") == "plugged.one"
    assert "one" in registry and "base" not in registry


def test_listing_imports_nothing(registry: Plugins[Any]) -> None:
    assert "broken" in list(registry)
    assert not [name for name in sys.modules if name.startswith("plugged.")]
    with pytest.raises(ZeroDivisionError):
        registry["broken"]


def test_a_wrong_name_gets_the_nearest(registry: Plugins[Any]) -> None:
    with pytest.raises(UserError, match=r"^unknown thing 'tow'; did you mean 'two'\?$"):
        registry["tow"]
    with pytest.raises(UserError, match=r"^unknown thing 'xyz'; valid: broken, one, two$"):
        registry.module("xyz")


def test_messages_are_one_line_with_their_place() -> None:
    error = UserError("two\n  lines", place="params.yaml:3")
    assert str(error) == "params.yaml:3: two lines"
    assert (error.message, error.place) == ("two lines", "params.yaml:3")
    assert str(unknown("format", "INT4", ["int4", "int8"])) == "unknown format 'INT4'; did you mean 'int4'?"
    assert did_you_mean("x", []) == ""
    assert did_you_mean("zzz", [f"name{i}" for i in range(20)]).endswith(", ...")


def test_every_registry_of_the_package_can_be_read() -> None:
    from bitlaw.cli import COMMANDS
    from bitlaw.formats import FORMATS
    from bitlaw.laws import LAWS
    from bitlaw.methods import METHODS
    from bitlaw.models.sources import SOURCES
    from bitlaw.stages import STAGES
    from bitlaw.text import CORPORA

    expected: list[tuple[Plugins[Any], set[str]]] = [
        (FORMATS, {"integer", "mxint"}),
        (METHODS, {"rtn", "gptq"}),
        (SOURCES, {"zoo", "path", "hub", "gguf", "train"}),
        (CORPORA, {"pydoc", "stdlib", "file", "dataset"}),
        (LAWS, {"power_offset", "kumar"}),
        (STAGES, {"model", "calibrate", "quantize", "evaluate", "table", "laws", "report"}),
        (COMMANDS, {"plan", "run", "make", "schema", "formats", "summary"}),
    ]
    for registry, names in expected:
        assert names <= set(registry)
        assert all(registry[name] is not None for name in registry)

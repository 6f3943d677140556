"""The sources of text."""

from __future__ import annotations

import gzip
import lzma
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from bitlaw.errors import UserError
from bitlaw.text import CORPORA
from bitlaw.text.base import END_OF_TEXT
from bitlaw.text.store import parse_text


def read(root: Path, **settings: Any) -> str:
    chosen = parse_text(settings)
    return CORPORA[chosen.source].read(chosen, root)


def name(**settings: Any) -> str:
    chosen = parse_text(settings)
    return CORPORA[chosen.source].name(chosen)


def test_pydoc_is_the_reference_of_the_language(tmp_path: Path) -> None:
    from pydoc_data.topics import topics

    text = read(tmp_path, source="pydoc")
    assert len(text) > 400_000
    assert all(topic.strip() in text for topic in topics.values())
    assert text == read(tmp_path, source="pydoc")
    assert 'The "while" statement' in text


def test_stdlib_is_the_library_without_the_reference(tmp_path: Path) -> None:
    text = read(tmp_path, source="stdlib")
    library = Path(sysconfig.get_path("stdlib"))
    assert len(text) > 5_000_000
    for module in ("argparse.py", "json/decoder.py", "asyncio/base_events.py"):
        assert (library / module).read_text("utf-8").strip() in text
    assert (library / "pydoc_data" / "topics.py").read_text("utf-8")[:2000].strip() not in text
    assert 'The "while" statement' not in text  # the reference is what models are evaluated on
    assert f"\n{END_OF_TEXT}\n" in text
    assert text == read(tmp_path, source="stdlib")


def test_no_source_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(UserError, match="no standard-library sources"):
        read(tmp_path, source="stdlib")


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_files(tmp_path: Path, ending: str, pack: Any) -> None:
    text = "Naïve café.\nSecond line\n"
    for data in (text.encode(), text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
        (tmp_path / f"my.text.txt{ending}").write_bytes(pack(data))
        assert read(tmp_path, source="file", path=f"my.text.txt{ending}") == text
        assert read(Path("/nowhere"), source="file", path=str(tmp_path / f"my.text.txt{ending}")) == text
    assert name(source="file", path=f"sub/my.text.txt{ending}") == "my"


def test_packed_files_that_are_not_whole(tmp_path: Path) -> None:
    for ending, pack in ((".xz", lzma.compress), (".gz", gzip.compress)):
        whole = pack(b"some text " * 1000)
        for data in (whole[: len(whole) // 2], b"plain text", whole[:20] + b"\xff" * 20 + whole[40:]):
            (tmp_path / f"a{ending}").write_bytes(data)
            with pytest.raises(UserError, match=f"^a{ending}: not a whole {ending} file$"):
                read(tmp_path, source="file", path=f"a{ending}")


def test_a_file_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("mine")
    assert read(Path("/nowhere"), source="file", path="~/a.txt") == "mine"


def test_names_and_mappings_are_the_same(tmp_path: Path) -> None:
    assert parse_text("pydoc") == parse_text({"source": "pydoc"}) == parse_text(parse_text("pydoc"))
    with pytest.raises(UserError, match="a text is a name or a mapping with 'source', not 3"):
        parse_text(3)
    with pytest.raises(UserError, match="unknown text source 'pydok'; did you mean 'pydoc'"):
        parse_text("pydok")


def test_without_the_library_for_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"data sets need a library: pip install 'bitlaw\[hub\]'"):
        read(tmp_path, source="dataset", name="Salesforce/wikitext")

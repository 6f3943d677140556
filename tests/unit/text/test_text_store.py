"""Texts as files with a known hash, and data sets that are read once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from bitlaw.errors import UserError
from bitlaw.text import CORPORA
from bitlaw.text.store import parse_text, resolve_text

ROWS = ["First row.", "Second row: naïve café.", "Third row."]


def test_the_file_holds_the_bytes_of_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é\r\nb".encode())
    text = resolve_text(parse_text({"source": "file", "path": "a.txt"}), tmp_path)
    assert text.path.read_bytes() == "é\nb".encode()
    assert text.sha256 == hashlib.sha256("é\nb".encode()).hexdigest() == text.path.stem
    assert (text.name, text.path.parent) == ("a", tmp_path / ".bitlaw" / "text")
    assert not (tmp_path / "results").exists()


def test_an_edited_file_is_another_text(tmp_path: Path) -> None:
    settings = parse_text({"source": "file", "path": "a.txt"})
    (tmp_path / "a.txt").write_text("one")
    one = resolve_text(settings, tmp_path)
    (tmp_path / "a.txt").write_text("two")
    two = resolve_text(settings, tmp_path)
    assert one.sha256 != two.sha256
    assert (one.path.read_text(), two.path.read_text()) == ("one", "two")


def test_a_kept_copy_that_was_changed_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    settings = parse_text({"source": "file", "path": "a.txt"})
    path = resolve_text(settings, tmp_path).path
    path.write_text("half")
    assert resolve_text(settings, tmp_path).path.read_text() == "one"


def test_the_same_text_from_two_sources_is_one(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("same")
    a, b = (resolve_text(parse_text({"source": "file", "path": f"{name}.txt"}), tmp_path) for name in "ab")
    assert (a.path, a.sha256) == (b.path, b.sha256)
    assert (a.name, b.name) == ("a", "b")


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A data set in a folder: a split in Parquet and one in JSON lines."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "my-data"
    folder.mkdir()
    pq.write_table(pa.table({"text": ROWS, "id": [1, 2, 3]}), folder / "test-0.parquet")
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train.jsonl").write_text("".join(json.dumps({"words": row}) + "\n" for row in ROWS))
    return {"source": "dataset", "name": "my-data"}


def test_a_data_set(dataset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parse_text(dataset)
    text = resolve_text(settings, tmp_path)
    assert text.name == "my-data-test"
    assert text.path.read_text("utf-8") == "\n\n".join(ROWS)
    assert text.path == tmp_path / "results" / "text" / f"{text.sha256}.txt"
    (record,) = text.path.parent.glob("*.json")
    assert json.loads(record.read_text())["sha256"] == text.sha256
    assert json.loads(record.read_text())["settings"]["name"] == "my-data"

    read: list[object] = []
    original = CORPORA["dataset"].read
    monkeypatch.setattr(CORPORA["dataset"], "read", lambda s, root: read.append(s) or original(s, root))
    origin = parse_text({**dataset, "origin": "from me"})
    assert resolve_text(settings, tmp_path) == resolve_text(origin, tmp_path) == text
    assert not read
    text.path.write_text("half")  # not whole any more
    assert resolve_text(settings, tmp_path) == text
    assert read == [settings]
    record.write_text("{")
    assert resolve_text(settings, tmp_path) == text
    assert len(read) == 2
    assert text.path.read_text("utf-8") == "\n\n".join(ROWS)


def test_settings_of_a_data_set(dataset: dict[str, Any], tmp_path: Path) -> None:
    def read(**changes: Any) -> str:
        return resolve_text(parse_text({**dataset, **changes}), tmp_path).path.read_text("utf-8")

    assert read(rows=2) == "\n\n".join(ROWS[:2])
    assert read(separator="") == "".join(ROWS)
    assert read(name="lines", split="train", column="words") == "\n\n".join(ROWS)
    assert CORPORA["dataset"].name(parse_text({**dataset, "config": "c", "split": "train"})) == "c-train"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": "txt"}, "^my-data: unknown column 'txt'; did you mean 'text'"),
        ({"column": "txt", "rows": 1}, "^my-data: unknown column 'txt'; did you mean 'text'"),
        ({"column": "id"}, "^my-data: the column 'id' does not hold text in every row"),
        ({"split": "tests"}, r"^my-data: the data set can't be loaded \(.*tests.*\)"),
        ({"name": "cache"}, r"^cache: the data set can't be loaded \("),
    ],
)
def test_data_sets_that_cannot_be_read(
    dataset: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "cache").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        resolve_text(parse_text({**dataset, **changes}), tmp_path)
    assert not list((tmp_path / "results").rglob("*"))


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nbecause")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        UserError, match=r"can't be loaded \(Couldn't reach the hub\); run this once where there is a"
    ) as e:
        resolve_text(parse_text({"source": "dataset", "name": "a/b"}), tmp_path)
    assert "HF_HOME" in str(e.value)


def test_a_long_file_is_never_held_whole(tmp_path: Path) -> None:
    code = """
        import pathlib, resource, sys
        from bitlaw.text.store import parse_text, resolve_text
        root = pathlib.Path(sys.argv[1])
        line = "the model reads a text and says how likely each token is, naïve café\\r\\n".encode()
        with (root / "long.txt").open("wb") as file:
            for _ in range(160):
                file.write(line * 18_000)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak()
        text = resolve_text(parse_text({"source": "file", "path": "long.txt"}), root)
        assert resolve_text(parse_text({"source": "file", "path": "long.txt"}), root) == text
        print((root / "long.txt").stat().st_size >> 20, peak() - before, text.path.stat().st_size)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    size, grown, kept = map(int, run.stdout.split())
    assert size > 180 and grown < 40
    assert kept == (tmp_path / "long.txt").stat().st_size - 160 * 18_000  # without the CRs
    for path in tmp_path.rglob("*.txt"):
        path.unlink()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_pieces_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    from bitlaw.text import file as module

    monkeypatch.setattr(module, "PIECE", size)
    text = "one\r\ntwo\rthree\r\r\nnaïve 漢字 🙂\r"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    settings = parse_text({"source": "file", "path": "a.txt"})
    assert CORPORA["file"].read(settings, tmp_path) == text.replace("\r\n", "\n")
    assert resolve_text(settings, tmp_path).path.read_bytes() == text.replace("\r\n", "\n").encode()
    for broken in ("naïve".encode() + b"\xff" + b"more", b"abcd\xe6\xbc", b"\xff"):
        (tmp_path / "a.txt").write_bytes(broken)
        at = broken.find(b"\xff") if b"\xff" in broken else 4
        with pytest.raises(UserError, match=f"not UTF-8 at byte {at};"):
            CORPORA["file"].read(settings, tmp_path)

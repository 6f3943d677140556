"""From a text's settings to a file with a known hash: a text must be known before anything made from it has a key."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bitlaw.artifacts import canonical, replace_file, sha256
from bitlaw.errors import UserError
from bitlaw.text import CORPORA
from bitlaw.text.base import Streamed, TextSettings
from bitlaw.text.file import FileSettings


@dataclass(frozen=True)
class Text:
    """A text that lies in a file.

    Attributes:
        name: readable name for tables.
        sha256: hash of the UTF-8 bytes.
        path: the file, UTF-8 with LF line ends.
    """

    name: str
    sha256: str
    path: Path


def parse_text(value: Any) -> TextSettings:
    """Return the settings for what a study says under ``text:``, a name such as ``pydoc`` or a mapping with ``source``.

    Raises ``UserError`` (unknown source) or pydantic's ``ValidationError`` (unknown or missing setting).
    """
    if isinstance(value, TextSettings):
        return value
    fields = {"source": value} if isinstance(value, str) else value
    if not isinstance(fields, dict) or not isinstance(fields.get("source"), str):
        raise UserError(f"a text is a name or a mapping with 'source', not {value!r}")
    return CORPORA[fields["source"]].Settings.model_validate(fields)


def resolve_text(settings: TextSettings, root: Path) -> Text:
    """Return the text as a file, reading its source if that has not been done before.

    A remote text is read once and then kept under ``results/text`` beside a record of its settings, so that it is
    shared with the results; it is read anew if that file is not whole. Any other text is read anew each time, so that
    an edited file is seen.

    Raises:
        UserError: missing, unreadable or empty text.
    """
    corpus = CORPORA[settings.source]
    name = corpus.name(settings)
    if isinstance(corpus, Streamed):
        return _keep(name, partial(corpus.pieces, settings, root), root / ".bitlaw" / "text")
    if not corpus.remote:
        whole = corpus.read(settings, root)
        return _keep(name, lambda: (whole,), root / ".bitlaw" / "text")
    folder = root / "results" / "text"
    asked = settings.model_dump(exclude={"origin"})
    record = folder / f"{sha256(canonical(asked).encode())[:32]}.json"
    if (known := _known(name, record)) is not None:
        return known
    whole = corpus.read(settings, root)
    text = _keep(name, lambda: (whole,), folder)
    replace_file(record, json.dumps({"settings": asked, "sha256": text.sha256}, indent=1).encode())
    return text


def resolve_texts(settings: tuple[TextSettings, ...], root: Path) -> tuple[Text, ...]:
    """Return several texts as files.

    The same texts are read once for all models that train on them, for unpacking and hashing takes seconds; a file
    that has changed is read anew.

    Raises:
        UserError: as ``resolve_text``.
    """
    return _resolve_all(settings, root, tuple(_stamp(one, root) for one in settings))


def _stamp(settings: TextSettings, root: Path) -> tuple[int, ...]:
    path = root / settings.path if isinstance(settings, FileSettings) else None
    if path is None or not path.is_file():
        return ()
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@lru_cache(maxsize=4)
def _resolve_all(settings: tuple[TextSettings, ...], root: Path, stamps: tuple[object, ...]) -> tuple[Text, ...]:
    return tuple(resolve_text(one, root) for one in settings)


def _known(name: str, record: Path) -> Text | None:
    """Return the text that ``record`` tells of, if both are whole."""
    try:
        digest = str(json.loads(record.read_text("utf-8"))["sha256"])
        path = record.with_name(f"{digest}.txt")
        return Text(name, digest, path) if _sha256(path) == digest else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _keep(name: str, pieces: Callable[[], Iterable[str]], folder: Path) -> Text:
    """Return the text that ``pieces`` yields, each time it is called, as a file in ``folder``; it is not held whole."""
    digest, blank = hashlib.sha256(), True
    for piece in pieces():
        digest.update(piece.encode("utf-8"))
        blank = blank and not piece.strip()
    if blank:
        raise UserError("the text is empty", place=name)
    path = folder / f"{digest.hexdigest()}.txt"
    if not path.is_file() or _sha256(path) != path.stem:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{path.name}.{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("wb") as file:
                file.writelines(piece.encode("utf-8") for piece in pieces())
            if _sha256(temporary) != path.stem:
                raise UserError("the text has just changed; try again", place=name)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return Text(name, path.stem, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

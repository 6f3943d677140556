"""Any UTF-8 file, plain or packed with xz or gzip."""

from __future__ import annotations

import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from bitlaw.errors import UserError
from bitlaw.text.base import TextSettings

_OPENERS: Mapping[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
PIECE = 2**20
"""Bytes that are read at a time."""


class FileSettings(TextSettings):
    """``text: {source: file, path: corpus/my.txt}``; a relative path starts at the project folder."""

    source: Literal["file"] = "file"
    path: str


class File:
    """A text file of the user's."""

    Settings = FileSettings
    remote = False

    def name(self, settings: FileSettings) -> str:
        """Return the file's name without endings."""
        return Path(settings.path).name.split(".")[0]

    def read(self, settings: FileSettings, root: Path) -> str:
        """Return the file's text with LF line ends; see ``Corpus.read``."""
        return "".join(self.pieces(settings, root))

    def pieces(self, settings: FileSettings, root: Path) -> Iterator[str]:
        """Yield the file's text with LF line ends; see ``Streamed.pieces``."""
        path = root / Path(settings.path).expanduser()
        if not path.is_file():
            raise UserError(f"no such text file; looked for {path}", place=settings.path)
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        position, held = 0, ""
        try:
            with _OPENERS.get(path.suffix, Path.open)(path, "rb") as file:
                while data := file.read(PIECE):
                    text = held + decoder.decode(data)
                    position += len(data)
                    # A line end may lie across two pieces.
                    held = "\r" if text.endswith("\r") else ""
                    yield text.removesuffix("\r").replace("\r\n", "\n")
                yield held + decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            start = max(0, position - (len(error.object) - len(data))) + error.start
            raise UserError(f"not UTF-8 at byte {start}; convert it to UTF-8", place=settings.path) from None
        except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError):
            raise UserError(f"not a whole {path.suffix} file", place=settings.path) from None


CORPUS = File()

"""Any UTF-8 file, plain or packed with xz or gzip."""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path
from typing import Literal

from bitlaw.errors import UserError
from bitlaw.text.base import TextSettings

_OPENERS = {".xz": lzma.decompress, ".gz": gzip.decompress}


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
        path = root / Path(settings.path).expanduser()
        if not path.is_file():
            raise UserError(f"no such text file; looked for {path}", place=settings.path)
        data = path.read_bytes()
        try:
            opener = _OPENERS.get(path.suffix)
            text = (opener(data) if opener else data).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"not UTF-8 at byte {error.start}; convert it to UTF-8", place=settings.path) from None
        except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError):
            raise UserError(f"not a whole {path.suffix} file", place=settings.path) from None
        return text.replace("\r\n", "\n")


CORPUS = File()

"""The code blocks of a page, with the comment above each that says where a test runs it.

``<!-- run: PLACE -->`` names a place of the tests; the blocks of a page with one place run there one after the other,
as a reader would type them. ``A is B`` behind a semicolon puts other words into a block for the test, where its own
could not run. ``<!-- file: PLACE: PATH -->`` above a block of any language writes it into a file. There is no mark for
a block that is not run: what cannot be run does not belong on these pages.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from projects import REPOSITORY

_FOLDERS = [REPOSITORY / "docs" / name for name in ("tutorial", "howto")]
_FILES = [REPOSITORY / "README.md", *(path for folder in _FOLDERS for path in sorted(folder.glob("*.md")))]
PAGES = [str(path.relative_to(REPOSITORY)) for path in _FILES]
"""The pages whose every command is run, relative to the repository."""
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FENCE = re.compile(r"^[ \t>]*(?:```|~~~)", re.MULTILINE)
RUN = ("sh", "python")
"""Languages whose blocks are commands: each must say where it is run."""
SHOWN = ("", "json", "yaml")
"""Languages whose blocks are no commands, such as what a command prints."""


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: its page, relative to the repository.
        line: where it begins there.
        language: what stands behind its backquotes.
        code: what is to be run or written, as changed for the test.
        place: where.
        file: where it is written to, if it is not run but written.
    """

    page: str
    line: int
    language: str
    code: str
    place: str
    file: str | None = None


def blocks(page: str) -> list[Block]:
    """Return the blocks of ``page`` that are commands or files. Fails for one without a mark, or with a wrong one."""
    text = (REPOSITORY / page).read_text("utf-8")
    found = []
    fences = len(_FENCE.findall(text))
    for match in _BLOCK.finditer(text):
        mark, language, code = match["mark"], match["language"], match["code"]
        line = text[: match.start()].count("\n") + 1
        where = f"{page}:{line}"
        fences -= len(_FENCE.findall(match[0]))
        assert language in (*RUN, *SHOWN), f"{where}: write '{language}' as one of {', '.join(RUN)}"
        kind, _, said = (mark or "").partition(": ")
        if kind == "run":
            assert language in RUN, f"{where}: what is run is {' or '.join(RUN)}"
            place, *changes = said.split("; ")
            found.append(Block(page, line, language, _changed(code, changes, where), place))
        elif kind == "file":
            place, file = said.split(": ")
            found.append(Block(page, line, language, code, place, file))
        else:
            assert language not in RUN, f"{where}: say above the block where it is run: <!-- run: PLACE -->"
    assert fences == 0, f"{page}: a block is indented, quoted or not closed, so no test would run it"
    return found


def _changed(code: str, changes: list[str], where: str) -> str:
    for change in changes:
        old, _, new = change.partition(" is ")
        assert new and old in code, f"{where}: nothing to replace: {change}"
        code = code.replace(old, new)
    return code


class Reader:
    """Somebody who types what a page says, and goes on where the last block ended: in its folder, with its variables.

    Args:
        folder: where they begin.
        environment: the variables of their shell.
        words: words of all pages that mean something else here, such as the address of a server.
        seconds: how long a block may take.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], words: Mapping[str, str] | None = None, seconds: int = 500
    ) -> None:
        self.folder, self.environment, self.words = folder, dict(environment), dict(words or {})
        self.seconds = seconds

    def do(self, block: Block) -> str:
        """Run ``block``, which must succeed, or write its file; return what it printed."""
        code = block.code
        for old, new in self.words.items():
            code = code.replace(old, new)
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, "utf-8")
            return ""
        left = Path(self.environment["TMPDIR"]) / "left-by-block"
        script = code if block.language == "sh" else f"python - <<'END_OF_BLOCK'\n{code}END_OF_BLOCK\n"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\nenv --null > {shlex.quote(str(left))}"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=self.seconds,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.page}:{block.line}:\n{code}\n{done.stdout}{done.stderr}"
        self.environment = dict(line.split("=", 1) for line in left.read_text("utf-8").split("\0") if line)
        self.folder = Path(self.environment["PWD"])
        return done.stdout + done.stderr

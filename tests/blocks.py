"""The code blocks of a page, with the comment above each that says where a test runs it, or why none does.

``<!-- run: PLACE -->`` names a place of the tests; the blocks of a page with one place run there one after the other,
as a reader would type them. What follows a semicolon changes a block for the test, where its own words could not run:
``A is B`` puts other words in their place, ``not LINE: REASON`` leaves a line out. ``<!-- not run: REASON -->`` leaves
out a block. ``<!-- file: PLACE: PATH -->`` above a block of any language writes it into a file.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from projects import REPOSITORY

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = ("sh", "python")
"""Languages whose blocks are commands: each must say where it is run."""


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: its page, relative to the repository.
        line: where it begins there.
        language: what stands behind its backquotes.
        code: what is to be run or written, as changed for the test.
        place: where; ``None`` for a block that is not run.
        reason: why it is not run.
        file: where it is written to, if it is not run but written.
    """

    page: str
    line: int
    language: str
    code: str
    place: str | None
    reason: str | None = None
    file: str | None = None


def blocks(page: str) -> list[Block]:
    """Return the blocks of ``page`` that are commands or files. Fails for one without a mark, or with a wrong one."""
    text = (REPOSITORY / page).read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        mark, language, code = match["mark"], match["language"], match["code"]
        where = f"{page}:{text[: match.start()].count(chr(10)) + 1}"
        if mark is None or not mark.startswith(("run:", "not run:", "file:")):
            assert language not in RUN, f"{where}: say above the block where it is run: <!-- run: PLACE -->"
            continue
        kind, _, said = mark.partition(": ")
        place, reason, file = None, None, None
        if kind == "run":
            place, *changes = said.split("; ")
            code = _changed(code, changes, where)
        elif kind == "file":
            place, file = said.split(": ")
        else:
            reason = said
            assert len(reason) > 10, f"{where}: say why it is not run"
        found.append(Block(page, int(where.rpartition(":")[2]), language, code, place, reason, file))
    return found


def _changed(code: str, changes: list[str], where: str) -> str:
    for change in changes:
        if change.startswith("not "):
            line, _, reason = change.removeprefix("not ").partition(": ")
            assert reason and line in code, f"{where}: nothing to leave out: {change}"
            code = "".join(each for each in code.splitlines(keepends=True) if not each.startswith(line))
        else:
            old, _, new = change.partition(" is ")
            assert new and old in code, f"{where}: nothing to replace: {change}"
            code = code.replace(old, new)
    return code


class Reader:
    """Somebody who types what a page says, and goes on where the last block ended.

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
        ended = Path(self.environment["TMPDIR"]) / "ended-in"
        script = (
            code
            if block.language == "sh"
            else f"{shlex.quote(sys.executable)} - <<'END_OF_BLOCK'\n{code}END_OF_BLOCK\n"
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\npwd > {shlex.quote(str(ended))}"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=self.seconds,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.page}:{block.line}:\n{code}\n{done.stdout}{done.stderr}"
        self.folder = Path(ended.read_text("utf-8").strip())
        return done.stdout + done.stderr

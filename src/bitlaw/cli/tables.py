"""What the commands on results tables share: which tables, which evaluation, and pages that they write into."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from bitlaw.artifacts import replace_file
from bitlaw.errors import UserError
from bitlaw.predictor.training import PUBLISHED, REFERENCE, SHIPPED
from bitlaw.study.load import find_root
from bitlaw.study.publish import VIEWS


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add ``--table``, ``--text`` and ``--root``, which the commands on tables take."""
    parser.add_argument(
        "--table",
        metavar="FILE",
        action="append",
        help=f"a results table, or '{PUBLISHED}' or '{REFERENCE}', which come with bitlaw; may be given several times",
    )
    parser.add_argument(
        "--text", metavar="NAME", help="the evaluation text, as NAME or NAME@WINDOW, if there are several"
    )
    parser.add_argument("--root", metavar="FOLDER", help="the project folder (default: the nearest with a params.yaml)")


def own(root: str | None) -> str | None:
    """Return the results table of the project, if there is a project and it has one."""
    try:
        path = find_root(Path(root) if root else None) / VIEWS["table"]
    except UserError:
        if root is not None:
            raise
        return None
    return str(path) if path.is_file() else None


def named(options: argparse.Namespace) -> list[str]:
    """Return the tables that the options name: the project's own by default.

    Raises:
        UserError: none is named, and the project has none.
    """
    names = options.table or [one for one in [own(options.root)] if one is not None]
    if not names:
        others = " or ".join(f"--table {name}" for name in SHIPPED)
        raise UserError(f"no results yet; run `snakemake --cores N`, or give --table FILE, or {others}")
    return list(names)


def write_section(path: Path, section: str, table: str) -> None:
    """Put ``table`` between ``<!-- SECTION -->`` and ``<!-- end -->``. Raises ``UserError`` if they are not there."""
    begin = f"<!-- {section} -->"
    text = path.read_text("utf-8") if path.is_file() else ""
    pattern = re.compile(rf"{re.escape(begin)}\n.*?<!-- end -->", re.DOTALL)
    if not section or not pattern.search(text):
        raise UserError(f"the page has no lines {begin} and <!-- end -->", place=str(path))
    replace_file(path, pattern.sub(lambda _: f"{begin}\n{table}\n<!-- end -->", text).encode())

"""The page of a data card: its sections stand between markers, and what is around them is the reader's."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from bitlaw.artifacts import replace_file
from bitlaw.card import SECTIONS
from bitlaw.card.base import Made, Study
from bitlaw.errors import UserError
from bitlaw.reference import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NOTHING = "The study has nothing of the kind."
SUMS = "checksums"
HEAD = """\
# The reference study

Every number and figure between markers on this page is made from the tables under `data/reference/` by one
command, `make reference-docs`; a test compares them. Losses are in nats per token; intervals hold 95 % and are over
resampled models, or over families or series of sizes where it says so.
"""
_DIGITS = 12


def ordered() -> list[str]:
    """Return the names of all sections in the order of the page."""
    return sorted(SECTIONS, key=lambda name: SECTIONS[name].order)


def write(page: Path, study: Study, figures: Path, names: Sequence[str] | None = None) -> list[str]:
    """Write sections of ``study`` into ``page`` and their figures into ``figures``; return what was written.

    A page that is not there is made, with all sections that the study has anything for. A section that a page has no
    markers for is not written.

    Args:
        page: the Markdown file.
        study: what is shown.
        figures: a folder; figures are ``<section>-<name>.svg``.
        names: sections; all if ``None``.

    Raises:
        UserError: an unknown section, or one that the page was asked for and has no markers of.
    """
    from bitlaw.report.figures import save

    new = not page.is_file()
    text = HEAD if new else page.read_text("utf-8")
    written = []
    for name in names or ordered():
        section = SECTIONS[name]
        if not new and _found(text, name) is None:
            if names:
                raise UserError(f"the page has no lines {_begin(name)} and <!-- end -->", place=str(page))
            continue
        made = section.make(study)
        if new and made is None:
            continue
        if new:
            text += f"\n## {section.title}\n\n{section.says}\n\n{_begin(name)}\n<!-- end -->\n"
        for drawing in made.drawings if made else ():
            save(drawing.chart, figures / f"{name.replace('_', '-')}-{drawing.name}.svg")
        text = _put(text, name, content(name, made, figures, page))
        written.append(name)
    if new:
        text += f"\n## What this page was made from\n\n{_begin(SUMS)}\n<!-- end -->\n"
    if _found(text, SUMS) is not None:
        text = _put(text, SUMS, sums(text, study))
    replace_file(page, text.encode())
    return written


def differing(page: Path, study: Study, figures: Path, *, slow: bool = True) -> Iterator[str]:
    """Yield the sections of ``page`` that are not what ``study`` gives, each with what is wrong.

    Args:
        page: the page.
        study: what it should be made from.
        figures: where its figures lie.
        slow: whether to make again what takes minutes; else its checksum is compared alone.
    """
    text = page.read_text("utf-8")
    for name in ordered():
        found = _found(text, name)
        if found is None or (SECTIONS[name].slow and not slow):
            continue
        made = SECTIONS[name].make(study)
        if found != content(name, made, figures, page):
            yield f"{name}: not what the tables give"
        for drawing in made.drawings if made else ():
            path = figures / f"{name.replace('_', '-')}-{drawing.name}.svg"
            if not path.is_file():
                yield f"{name}: {path} is not there"
    if _found(text, SUMS) != sums(text, study):
        yield f"{SUMS}: the page or the tables were changed since `make reference-docs`"


def content(name: str, made: Made | None, figures: Path, page: Path) -> str:
    """Return a section as it stands between its markers."""
    if made is None:
        return NOTHING
    folder = os.path.relpath(figures, page.parent).replace(os.sep, "/")
    drawn = (f"![{one.shows}]({folder}/{name.replace('_', '-')}-{one.name}.svg)" for one in made.drawings)
    return "\n\n".join([*drawn, made.text])


def sums(text: str, study: Study) -> str:
    """Return the checksums of the tables and of the sections of a page, as a table."""
    paths = [study.path.parent / name for name in (study.path.name, shipped.LANDSCAPE, shipped.CURVES)]
    rows = [(path.name, path.read_bytes()) for path in paths if path.is_file()]
    found = ((name, _found(text, name)) for name in ordered())
    rows += [(name, part.encode()) for name, part in found if part is not None]
    lines = [f"| `{name}` | `{hashlib.sha256(data).hexdigest()[:_DIGITS]}` |" for name, data in rows]
    return "\n".join(["| table or section | SHA-256 |", "| --- | --- |", *lines])


def _begin(name: str) -> str:
    return f"<!-- {name} -->"


def _found(text: str, name: str) -> str | None:
    match = re.search(rf"{re.escape(_begin(name))}\n(.*?)\n?<!-- end -->", text, re.DOTALL)
    return match[1] if match else None


def _put(text: str, name: str, content: str) -> str:
    pattern = re.compile(rf"({re.escape(_begin(name))}\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text, count=1)

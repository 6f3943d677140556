"""Pages of the site that are not files under docs/: those at the top of the repository, and the reference.

MkDocs calls ``on_config``, ``on_files`` and ``on_page_markdown``.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages at the top of the repository, and what they are called on the site."""

_LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated reference into the navigation."""
    (section,) = (entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    section += reference.navigation()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not under docs/."""
    pages = {name: (ROOT / source).read_text("utf-8") for source, name in TOP.items()}
    for name, content in {**pages, **reference.pages()}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Return a page with links that lead to the right places on the site; what is not on it is in the repository."""
    name = page.file.src_uri
    source = next((path for path, own in TOP.items() if own == name), f"docs/{name}")

    def link(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if not (ROOT / target).exists():
            return match[0]
        if target in TOP:
            target = TOP[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return f"]({config.repo_url}/blob/main/{target}{anchor})"
        return f"]({posixpath.relpath(target, posixpath.dirname(name) or '.')}{anchor})"

    return _LINK.sub(link, markdown)

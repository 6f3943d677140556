"""Pieces of HTML that several sections are made of."""

from __future__ import annotations

from html import escape


def scroll(label: str, table: str) -> str:
    """Return ``table`` (HTML) in a box that scrolls where it is too wide; the keyboard reaches it by ``label``."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def legend(entries: list[tuple[str, str]], marks: list[tuple[str, str]] | None = None) -> str:
    """Return what colours (name, colour) and marks (name, sign) mean."""
    if not entries and not marks:
        return ""
    spans = (f'<span><i style="background:{escape(color)}"></i>{escape(name)}</span>' for name, color in entries)
    signs = (f'<span><b aria-hidden="true">{sign}</b>{escape(name)}</span>' for name, sign in marks or [])
    return f'<div class="legend">{"".join(spans)}{"".join(signs)}</div>'


def power(text: str) -> str:
    """Return ``text`` with its powers of ten, written ``x10^n``, as superscripts."""
    parts = escape(text).split("^")
    done = parts[0]
    for part in parts[1:]:
        exponent, _, rest = part.partition(" ")
        done += f"<sup>{exponent}</sup>" + (f" {rest}" if rest else "")
    return done


def options(values: list[tuple[str, str]]) -> str:
    """Return the options of a select element: value and what is shown."""
    return "".join(f'<option value="{escape(value)}">{escape(shown)}</option>' for value, shown in values)

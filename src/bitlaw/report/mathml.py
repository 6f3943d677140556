r"""Formulas: the small part of LaTeX that laws are written in, as MathML, which browsers show without a library.

Known: letters, numbers, ``+ - = ( ) ,``, ``^``, ``_``, ``{}``, ``\frac``, ``\left``, ``\right``, ``\,``, Greek letters
and names of functions.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape, unescape

FUNCTIONS = ("exp", "log", "ln", "tanh", "max", "min")
CLOSE = "}"
MINUS = "\N{MINUS SIGN}"
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]|[0-9.]+|\S")


def mathml(latex: str, *, display: bool = False) -> str:
    """Return ``latex`` as a ``<math>`` element.

    Raises:
        ValueError: it uses a command that is not known here.
    """
    tokens = TOKEN.findall(latex)
    body = _row(tokens, until="")
    kind = ' display="block"' if display else ""
    return f"<math{kind}><mrow>{body}</mrow></math>"


def _row(tokens: list[str], until: str) -> str:
    parts = []
    while tokens and tokens[0] != until:
        parts.append(_scripted(tokens))
    if until:
        tokens.pop(0)
    return "".join(parts)


def _scripted(tokens: list[str]) -> str:
    base, below, above = _atom(tokens), "", ""
    while tokens and tokens[0] in "^_":
        if tokens.pop(0) == "^":
            above = _atom(tokens)
        else:
            below = _atom(tokens)
    if below and above:
        return f"<msubsup>{base}{below}{above}</msubsup>"
    return f"<msub>{base}{below}</msub>" if below else f"<msup>{base}{above}</msup>" if above else base


def _atom(tokens: list[str]) -> str:
    mark = tokens.pop(0)
    if mark == "{":
        inner = _word(tokens)
        return f"<mrow>{_row(tokens, until=CLOSE)}</mrow>" if inner is None else f"<mtext>{inner}</mtext>"
    if mark == "\\frac":
        return f"<mfrac>{_atom(tokens)}{_atom(tokens)}</mfrac>"
    if mark == "\\left":
        opening = tokens.pop(0)
        inner = _row(tokens, until="\\right")
        first, last = (f'<mo stretchy="true">{escape(end)}</mo>' for end in (opening, tokens.pop(0)))
        return f"<mrow>{first}{inner}{last}</mrow>"
    return _command(mark[1:]) if mark.startswith("\\") else _plain(mark)


def _plain(mark: str) -> str:
    if mark[0].isdigit():
        return f"<mn>{mark}</mn>"
    if mark.isalpha():
        return f"<mi>{mark}</mi>"
    fixed = ' stretchy="false"' if mark in ("(", ")") else ""
    return f"<mo{fixed}>{escape(MINUS if mark == '-' else mark)}</mo>"


def _word(tokens: list[str]) -> str | None:
    """Take a group of several plain letters, such as the index ``post``, and return it as one word."""
    end = tokens.index("}")
    letters = tokens[:end]
    if end > 1 and all(token.isalpha() for token in letters):
        del tokens[: end + 1]
        return "".join(letters)
    return None


def _command(name: str) -> str:
    letter = unescape(f"&{name};")  # HTML and LaTeX name Greek letters alike
    if len(letter) == 1 and "GREEK SMALL" in unicodedata.name(letter):
        return f"<mi>{letter}</mi>"
    if name in FUNCTIONS:
        return f"<mi>{name}</mi>"
    if name in (",", ";", " "):
        return '<mspace width="0.17em"></mspace>'
    raise ValueError(f"no MathML for \\{name}")

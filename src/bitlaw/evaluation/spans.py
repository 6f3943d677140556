"""The windows in which a text is scored.

Windows of ``window`` tokens begin at 0, ``stride``, 2 ``stride``, ...; each scores the tokens that no window before
it scored and that have at least one token of context in it. With ``stride < window`` every token but the first is
scored exactly once; with ``stride = window`` (disjoint windows, the protocol of GPTQ's and most papers' perplexities)
the first token of each window is not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bitlaw.errors import UserError


@dataclass(frozen=True)
class Span:
    """One window: it reads the tokens ``begin`` to ``end`` and scores those from ``first`` to ``end``."""

    begin: int
    first: int
    end: int


@lru_cache(maxsize=16)
def spans(n: int, window: int, stride: int) -> tuple[Span, ...]:
    """Return the windows over ``n`` tokens that score at least one token; the cells of a study share a few texts.

    Raises:
        UserError: ``window`` under 2, ``stride`` not in 1..``window``, or a text of fewer than 2 tokens.
    """
    if window < 2 or not 1 <= stride <= window:
        raise UserError(
            f"a window of {window} tokens with stride {stride}: it takes window >= 2 and 1 <= stride <= window"
        )
    if n < 2:
        raise UserError(f"the text has {n} tokens; it takes 2 to score one")
    found: list[Span] = []
    scored = 0
    for begin in range(0, n, stride):
        end = min(begin + window, n)
        first = max(scored, begin + 1)
        if first < end:
            found.append(Span(begin, first, end))
        scored = end
        if end == n:
            break
    return tuple(found)


def batches(windows: Sequence[Span], size: int) -> Iterator[list[Span]]:
    """Yield ``windows`` in groups of at most ``size``, of equal length: no padding, so no mask and no difference."""
    group: list[Span] = []
    for span in windows:
        if group and (len(group) == size or span.end - span.begin != group[0].end - group[0].begin):
            yield group
            group = []
        group.append(span)
    if group:
        yield group

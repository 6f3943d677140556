"""Progress of long loops: a bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield ``items``, showing a bar named ``what`` if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, leave=False)


@contextmanager
def counter(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many of ``total`` are done, and shows it as ``track`` does."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, leave=False) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show

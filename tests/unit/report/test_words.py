"""Numbers and names in words."""

from __future__ import annotations

import math

import pytest

from bitlaw.report import words

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.059812, "0.05981"),
        (-2.5, f"{MINUS}2.5"),
        (1.5e-9, f"1.5{words.TIMES}10^{MINUS}9"),
        (math.nan, "NaN"),
        (-math.inf, f"{MINUS}∞"),
        (None, words.MISSING),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0902, "+0.090"),
        (-0.25, f"{MINUS}0.250"),
        (0.0023, "+0.0023"),
        (0.00001234, "+0.000012"),
        (0.0, "+0.000"),
        (math.inf, "∞"),
    ],
)
def test_loss(value: float, text: str) -> None:
    assert words.loss(value) == text


def test_counts_sizes_and_lists() -> None:
    assert [words.count(n) for n in (950, 440_000, 1.6e6, 7e9)] == ["950", "440 k", "1.6 M", "7 B"]
    assert [words.size(bits) for bits in (800, 8 * 1024**2, 8 * 6.5 * 1024**3)] == ["100 B", "1 MiB", "6.5 GiB"]
    assert [words.several(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [words.block(name) for name in ("64", "row", "none")] == [
        "blocks of 64",
        "one scale per row",
        "one scale per matrix",
    ]

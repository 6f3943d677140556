"""The page of the reference study says what the tables say that come with bitlaw."""

from __future__ import annotations

import pytest

from bitlaw.cli.main import main
from bitlaw.reference import shipped
from projects import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference-study.md"


def test_every_number_on_the_page_is_that_of_the_shipped_table(capsys: pytest.CaptureFixture[str]) -> None:
    if not shipped.is_there():
        assert not PAGE.exists(), "a page without the tables that it was made from"
        pytest.skip("this checkout has no reference study")
    # Sections that take minutes are compared by their checksums; `bitlaw card --check` makes them again.
    assert main(["card", str(PAGE), "--check", "--quick"]) == 0, capsys.readouterr().err

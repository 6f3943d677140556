"""One real run, whose folder the tests copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkout import Checkout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.workflow)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout in which the study has been run by Snakemake; not to be changed."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout") / "finished")
    checkout.make()
    return checkout


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Checkout:
    """Return a copy of ``finished`` that the test may change."""
    return finished.copy(tmp_path / "copy")

"""Pools whose jobs are those of ``jobs.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitlaw import pool
from pool_calls import (
    HERE,
    Start,
)


@pytest.fixture(scope="module")
def path_of_jobs() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    yield
    patch.undo()


@pytest.fixture
def start(tmp_path: Path, path_of_jobs: None) -> Iterator[Start]:
    """Start pools that are ended with the test."""
    started = []

    def one(workers: int = 2, watch: int | None = None, **more: object) -> str:
        settings = {"target": "jobs:main", "preload": (), **more}
        address = pool.start(workers, watch or os.getpid(), tmp_path, **settings)  # type: ignore[arg-type]
        started.append(address)
        return address

    yield one
    for address in started:
        pool.stop(address)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, path_of_jobs: None) -> Iterator[str]:
    """One pool of two workers for the tests that leave it whole."""
    address = pool.start(2, os.getpid(), tmp_path_factory.mktemp("log"), target="jobs:main", preload=())
    yield address
    pool.stop(address)

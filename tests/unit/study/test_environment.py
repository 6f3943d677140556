"""Versions of libraries: which count for what, and when."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from bitlaw.errors import UserError
from bitlaw.study import environment
from bitlaw.study.artifact import code_of
from bitlaw.study.make import made_with, make
from bitlaw.study.plan import order
from projects import Project

MODEL = {"torch", "tokenizers", "transformers"}
STRICT = {
    "model": MODEL,
    "calibrate": MODEL,
    "factorize": MODEL,
    "quantize": MODEL,
    "evaluate": MODEL,
    "output_error": MODEL,
    "zeroshot": MODEL | {"lm_eval"},
    "table": {"pandas", "torch"},
    "laws": {"numpy", "pandas", "scipy"},
    "predictor": {"numpy", "pandas", "scikit-learn", "scipy", "torch"},
    "claims": {"numpy", "pandas", "scikit-learn", "torch"},
    "report": {"altair", "numpy", "pandas", "vl-convert-python"},
}
ALL = {
    "laws": ["kumar"],
    "predictor": True,
    "claims": True,
    "output_sqnr": True,
    "tasks": [{"task": "hellaswag", "data": "words.txt"}],
}


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str | None]]:
    """Return a mapping in which a test writes the versions, by package, that shall be installed."""
    versions: dict[str, str | None] = {}
    real = metadata.version

    def version(name: str) -> str:
        found = versions.get(name, real(name) if name not in versions else None)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    environment.libraries.cache_clear()
    made_with.cache_clear()
    yield versions
    environment.libraries.cache_clear()
    made_with.cache_clear()


def stages_changed(one: Project, upgrade: dict[str, str | None], name: str, version: str) -> set[str]:
    before = {artifact.path for artifact in one.artifacts()}
    upgrade[name] = version
    environment.libraries.cache_clear()
    return {artifact.stage for artifact in one.artifacts() if artifact.path not in before}


def test_without_strict_env_no_key_knows_a_version(tmp_path: Path, upgrade: dict[str, str | None]) -> None:
    project = Project(tmp_path / "p", laws=["kumar"])
    assert all(artifact.code == code_of(artifact.stage, artifact.spec) for artifact in project.artifacts())
    assert not any(environment.is_strict(artifact.code) for artifact in project.artifacts())
    assert stages_changed(project, upgrade, "torch", "99.0") == set()


def test_with_it_an_artifact_counts_the_libraries_that_its_code_imports(
    tmp_path: Path, upgrade: dict[str, str | None]
) -> None:
    project = Project(tmp_path / "p", **ALL, strict_env=True)
    counted = {artifact.stage: set(environment.split_code(artifact.code)[1]) for artifact in project.artifacts()}
    assert counted == STRICT
    for artifact in project.artifacts():
        bare, versions = environment.split_code(artifact.code)
        assert bare == code_of(artifact.stage, artifact.spec)
        assert versions == {name: metadata.version(name) for name in sorted(STRICT[artifact.stage])}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("torch", set(STRICT)),
        ("tokenizers", set(STRICT)),
        ("scipy", {"laws", "predictor", "report"}),
        ("altair", {"report"}),
        ("lm_eval", {"zeroshot", "table", "laws", "predictor", "claims", "report"}),
        ("pyarrow", set()),
    ],
)
def test_an_upgrade_changes_what_computes_with_the_library_and_what_follows(
    tmp_path: Path, upgrade: dict[str, str | None], name: str, changed: set[str]
) -> None:
    project = Project(tmp_path / "p", **ALL, strict_env=True)
    assert stages_changed(project, upgrade, name, "99.0") == changed


def test_another_version_of_the_harness_asks_other_questions(tmp_path: Path, upgrade: dict[str, str | None]) -> None:
    changed = stages_changed(Project(tmp_path / "p", **ALL), upgrade, "lm_eval", "99.0")
    assert changed == {"zeroshot", "table", "laws", "predictor", "claims", "report"}


def test_tasks_without_the_harness(tmp_path: Path, upgrade: dict[str, str | None]) -> None:
    project = Project(tmp_path / "p", **ALL)
    upgrade["lm_eval"] = None
    with pytest.raises(UserError, match=r"tasks: tasks need lm-evaluation-harness: pip install 'bitlaw\[tasks\]'"):
        project.plan()


def test_a_library_that_is_not_installed_is_named(tmp_path: Path, upgrade: dict[str, str | None]) -> None:
    project = Project(tmp_path / "p", strict_env=True)
    upgrade["torch"] = None
    with pytest.raises(UserError, match=r"strict_env: torch is not installed here.*set strict_env: false"):
        _ = project.artifacts()[0].key


def test_a_job_on_a_machine_with_other_versions_refuses(tmp_path: Path, upgrade: dict[str, str | None]) -> None:
    project = Project(tmp_path / "p", strict_env=True)
    model = order(project.artifacts()[0])
    upgrade["torch"] = "99.0"
    environment.libraries.cache_clear()
    with pytest.raises(UserError, match="libraries have changed since this was planned"):
        make(model, project.root)
    assert project.results() == []


def test_provenance_holds_all_that_can_count(upgrade: dict[str, str | None]) -> None:
    recorded = made_with()
    assert {name for names in STRICT.values() for name in names} <= set(recorded)
    assert recorded["python"].count(".") == 2
    upgrade["gguf"] = None
    made_with.cache_clear()
    assert "gguf" not in made_with()

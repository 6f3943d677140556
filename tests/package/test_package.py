"""The package: built from a checkout, installed where there is none, and of the version that the tags say."""

from __future__ import annotations

import json
import re
import shutil
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from projects import REPOSITORY, SMALL, WORDS, ZOO
from sources import call, committed, copied, done, git

VERSION = "9.8.7"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what git tracks, or would, without its history and without the zoo but for one model."""
    return copied(tmp_path_factory.mktemp("package") / "sources")


def fallback() -> str:
    """Return the version of sources without git."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    return str(settings["tool"]["setuptools_scm"]["fallback_version"])


@pytest.fixture(scope="module")
def built(sources: Path) -> Path:
    """Return the folder with the sdist of a tagged commit and the wheel that was built from the sdist."""
    copy = sources.parent / "tagged"
    shutil.copytree(sources, copy, symlinks=True)
    committed(copy)
    git("tag", f"v{VERSION}", where=copy)
    done(sys.executable, "-m", "build", "--no-isolation", where=copy)
    return copy / "dist"


@pytest.fixture(scope="module")
def outside(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with the wheel, beside an empty folder; what bitlaw needs comes from this environment."""
    folder = tmp_path_factory.mktemp("outside")
    done(sys.executable, "-m", "venv", "--without-pip", "env", where=folder)
    python = folder / "env" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    done(*pip, wheel, where=folder)
    site = Path(done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", where=folder))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "empty").mkdir()
    return folder / "env" / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    package = REPOSITORY / "src" / "bitlaw"
    expected = {
        f"bitlaw/{path.relative_to(package)}": path.read_bytes()
        for folder in (package, package / "published" / "data")  # the data is a link, which rglob does not follow
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    tables = (package / "reference" / "data").glob("*.parquet")  # beside them are models, which stay in the repository
    expected |= {f"bitlaw/{path.relative_to(package)}": path.read_bytes() for path in tables}
    assert "bitlaw/py.typed" in expected and "bitlaw/published/data/models.csv" in expected
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}
    assert sorted(held) == sorted(expected)
    assert held == expected


def test_the_metadata_is_sound(built: Path) -> None:
    from packaging.metadata import Metadata

    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        text = file.read(f"bitlaw-{VERSION}.dist-info/METADATA")
    metadata = Metadata.from_email(text, validate=True)
    assert str(metadata.version) == VERSION
    assert metadata.description_content_type == "text/markdown" and metadata.license_expression == "Apache-2.0"
    assert {"workflow", "hub", "docs", "test"} <= set(metadata.provides_extra or ())


def test_the_sdist_leaves_models_out(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    names = done("tar", "tzf", sdist, where=built)
    assert f"bitlaw-{VERSION}/src/bitlaw/py.typed" in names
    assert "data/zoo" not in names and "data/reference/models" not in names
    assert sdist.stat().st_size < 5e6


def test_commands_and_data_are_there_without_a_checkout(outside: Path) -> None:
    empty = outside.parents[1] / "empty"
    assert done(outside / "bitlaw", "--version", where=empty) == f"bitlaw {VERSION}"
    assert "mxint4_b32" in done(outside / "bitlaw", "formats", where=empty)
    said = done(outside / "bitlaw", "formats", "int4_b64", "--json", where=empty)
    assert json.loads(said)
    code = """
import bitlaw
from bitlaw.evaluation.task_files import SHIPPED
from bitlaw.published.load import load
from bitlaw.study.make import made_with
print(bitlaw.__file__)
print(len(load()), len(list(SHIPPED.glob("*.yaml"))), made_with()["bitlaw"], bitlaw.__version__)
"""
    where, found = done(outside / "python", "-c", code, where=empty).splitlines()
    assert where.startswith(str(outside.parent))
    rows, tasks, *versions = found.split()
    assert int(rows) > 1000 and int(tasks) > 10
    assert versions == [VERSION, VERSION]


def test_a_study_runs_without_a_checkout(outside: Path, tmp_path: Path) -> None:
    study = {**SMALL, "models": [{"source": "path", "path": str(ZOO / "gpt2-0.1m")}], "methods": ["rtn"]}
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text(yaml.safe_dump(study), "utf-8")
    (tmp_path / "params.yaml").write_text("study: mine\n", "utf-8")
    (tmp_path / "words.txt").write_text(WORDS, "utf-8")
    said = done(outside / "bitlaw", "run", where=tmp_path)
    assert said.startswith("made ") and said.endswith("report/index.html")
    (loss, *_) = (tmp_path / "results" / "evaluate").rglob("*.json")
    header = json.loads(loss.read_text("utf-8"))["header"]
    assert header["made_with"]["bitlaw"] == VERSION


@pytest.mark.parametrize(
    ("files", "command", "line"),
    [
        ({}, "plan", r"bitlaw: .*: no params.yaml here or in a folder above; go to the project's folder"),
        (
            {"params.yaml": "study: own", "studies/own.yaml": "models: [{source: zoo}]"},
            "plan",
            r"bitlaw: .*/data/zoo: the zoo comes with the project's repository, not with the package: .*",
        ),
    ],
)
def test_what_needs_a_checkout_says_so_in_a_line(
    outside: Path, tmp_path: Path, files: dict[str, str], command: str, line: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    ran = call(outside / "bitlaw", command, where=tmp_path)
    assert ran.returncode == 2 and ran.stdout == ""
    assert re.fullmatch(line, ran.stderr.strip()), ran.stderr


def test_without_tags_and_without_git_there_is_a_version(sources: Path) -> None:
    scm = (sys.executable, "-m", "setuptools_scm")
    assert done(*scm, where=sources) == fallback()
    copy = sources.parent / "untagged"
    copy.mkdir()
    shutil.copy2(sources / "pyproject.toml", copy)
    committed(copy)
    assert re.fullmatch(r"0\.1\.0\.dev1\+g[0-9a-f]+", done(*scm, where=copy))


def test_one_version_everywhere() -> None:
    import bitlaw
    from bitlaw.study.make import made_with

    changes = re.findall(r"^## (\S+)$", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))["version"]
    assert cited == changes[0] == fallback().removesuffix(".dev0")
    assert made_with().get("bitlaw", "0+unknown") == bitlaw.__version__


def test_the_workflows_are_yaml_and_run_what_is_there() -> None:
    jobs = {}
    for path in (REPOSITORY / ".github" / "workflows").glob("*.yml"):
        jobs |= yaml.safe_load(path.read_text("utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    said = "\n".join(step.get("run", "") for step in steps)
    assert "bash .ci/run" in said and "make docs" in said
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert not re.search(r"password|token:", yaml.safe_dump(steps))

"""Results that come from elsewhere: real clones, pulls and checkouts by Git and DVC, jobs counted by rule."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from checkout import WHOLE, Checkout

FINAL = {"table": 1, "laws": 1, "report": 1}
VIEWS = ("table.parquet", "laws.json", "index.html")


def run(checkout: Checkout, *commands: str) -> None:
    for command in commands:
        done = checkout.run(*command.split())
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def clone(origin: Checkout, root: Path) -> Checkout:
    """Return a clone of ``origin``, whose results are in the remote alone."""
    run(origin, f"git clone --quiet . {root}")
    cloned = object.__new__(Checkout)
    cloned.root = root
    run(cloned, "git config user.name colleague", "git config user.email colleague@example.invalid")
    assert not (root / "results").exists()
    return cloned


@pytest.fixture(scope="module")
def origin(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a repository with the finished study, pushed to a DVC remote; not to be changed."""
    folder = tmp_path_factory.mktemp("origin")
    checkout = finished.copy(folder / "repository")
    run(
        checkout,
        "git init --quiet --initial-branch main",
        "git config user.name tester",
        "git config user.email tester@example.invalid",
        f"dvc remote add --default team {folder / 'remote'}",
        "dvc repro --quiet",
        "git add --all",
        "git commit --quiet -m results",
        "dvc push --quiet",
    )
    return checkout


def test_a_clone_that_pulls_has_nothing_to_do_whatever_the_time_stamps(origin: Checkout, tmp_path: Path) -> None:
    mine = clone(origin, tmp_path / "clone")
    assert mine.jobs() == WHOLE
    run(mine, "dvc pull --quiet")
    chance = random.Random(0)
    tracked = [path for name in ("results", "src", "studies", "data") for path in (mine.root / name).rglob("*")]
    assert len(tracked) > 100
    for path in [*tracked, mine.root / "params.yaml", mine.root / "Snakefile"]:
        moment = chance.uniform(1e9, 2e9)
        os.utime(path, (moment, moment))
    shutil.rmtree(mine.root / ".snakemake")
    assert mine.jobs() == {}


def test_losses_alone_pulled_are_enough_for_all_that_follows(origin: Checkout, tmp_path: Path) -> None:
    mine = clone(origin, tmp_path / "clone")
    run(mine, "dvc pull --quiet results/evaluate")
    assert [path.name for path in (mine.root / "results").iterdir()] == ["evaluate"]
    assert mine.jobs() == FINAL
    mine.make()
    for name in VIEWS:
        assert mine.view(name) == origin.view(name), name


def test_a_colleagues_other_grid_is_joined(origin: Checkout, tmp_path: Path) -> None:
    theirs, mine = clone(origin, tmp_path / "theirs"), clone(origin, tmp_path / "mine")
    run(theirs, "dvc pull --quiet")
    theirs.params(formats=["int4_b64", "int5_b64"])
    assert theirs.jobs() == {"quantize": 4, "evaluate": 4, **FINAL}
    run(theirs, "dvc repro --quiet", "git commit --quiet --all -m another-grid", "dvc push --quiet")
    run(mine, "dvc pull --quiet")
    mine.params(formats=["int4_b64", "int5_b64", "mxint4_b32", "int6_b64"])
    assert mine.jobs() == {"quantize": 8, "evaluate": 8, **FINAL}
    run(mine, f"dvc get --quiet {theirs.root} results --out {tmp_path / 'pulled'}")
    shutil.copytree(tmp_path / "pulled", mine.root / "results", dirs_exist_ok=True)
    # Two models, two methods: what neither of us has.
    assert mine.jobs() == {"quantize": 4, "evaluate": 4, **FINAL}


def test_an_older_commit_and_its_results_have_nothing_to_do(origin: Checkout, tmp_path: Path) -> None:
    mine = clone(origin, tmp_path / "clone")
    run(mine, "dvc pull --quiet")
    mine.params(formats=["int5_b64"], title="Five bits")
    run(mine, "dvc repro --quiet", "git commit --quiet --all -m five-bits")
    for commit, title in (("HEAD~1", b"A small study"), ("main", b"Five bits"), ("main~1", b"A small study")):
        run(mine, f"git checkout --quiet {commit}", "dvc checkout --quiet")
        assert mine.jobs() == {}, commit
        assert title in mine.view("index.html"), commit
        assert "up to date" in mine.run("dvc", "status").stdout


def test_results_made_without_snakemake_and_dvc_count(checkout: Checkout, tmp_path: Path) -> None:
    # A machine that has no more than the code, the study and what it reads.
    elsewhere = checkout.copy(tmp_path / "elsewhere")
    for name in ("Snakefile", "profiles", "dvc.yaml", "workflow", ".dvc", ".bitlaw", ".snakemake", "results", "report"):
        path = elsewhere.root / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for package in ("snakemake", "dvc"):
        (elsewhere.root / "src" / f"{package}.py").write_text("raise ImportError('not on this machine')\n", "utf-8")
    grid = {"models": [{"source": "zoo", "name": "gpt2-0.1m"}], "formats": ["int5_b64"]}
    elsewhere.params(**grid)
    checkout.params(formats=["int4_b64", "int5_b64"])
    assert checkout.jobs() == {"quantize": 4, "evaluate": 4, **FINAL}
    run(elsewhere, f"{sys.executable} -m bitlaw run --missing --until evaluate")
    shutil.copytree(elsewhere.root / "results", checkout.root / "results", dirs_exist_ok=True)
    # The cells of one of the two models are there now.
    assert checkout.jobs() == {"quantize": 2, "evaluate": 2, **FINAL}
    checkout.params(**grid)
    assert checkout.jobs() == FINAL

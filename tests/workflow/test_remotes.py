"""Results go through real remotes, as folders by DVC and one by one; the commands of docs/sharing.md do as it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from checkout import REPOSITORY, STUDY, WHOLE, Checkout
from remotes import PLACES, Place

PAGE = (REPOSITORY / "docs" / "sharing.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
ADD_REMOTE, PUBLISH, CLONE, FIRST, SECOND, FIRST_AGAIN, COMPARE, EXPERIMENT = BLOCKS
VIEWS = ("table.parquet", "laws.json", "index.html")
FINAL = {"table": 1, "laws": 1, "report": 1}


def do(checkout: Checkout, *commands: str) -> str:
    """Run ``commands`` (lines of a page, or one each), which must all succeed, and return what they printed."""
    printed = ""
    for command in filter(None, "\n".join(commands).splitlines()):
        done = checkout.run(*shlex.split(command))
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        printed += done.stdout + done.stderr
    return printed


def cells(checkout: Checkout) -> set[str]:
    """Return the artifacts of ``checkout`` that are not made anew in seconds."""
    folder = checkout.root / "results"
    every = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in every if not path.startswith(("table/", "laws/", "report/"))}


def project(source: Checkout, folder: Path, place: Place, remote: str = ADD_REMOTE) -> Checkout:
    """Return a copy of ``source`` under git with the remote of the page at ``place`` and an ``origin`` beside it."""
    checkout = source.copy(folder / "first")
    do(
        checkout,
        "git init --quiet --initial-branch main",
        "git add --all",
        "git config user.name first",
        "git config user.email first@example.invalid",
        'git commit --quiet --message "A study"',
        remote.replace("/mnt/team/bitlaw", place.url),
        *(f"dvc remote modify --local team {name} {value}" for name, value in place.options.items()),
        f"git clone --quiet --bare . {folder / 'origin'}",
        f"git remote add origin {folder / 'origin'}",
        "git fetch --quiet",
        "git branch --quiet --set-upstream-to origin/main",
    )
    return checkout


def clone(checkout: Checkout, name: str) -> Checkout:
    """Return another user's clone of ``checkout``'s origin, who has the secrets of the remote too."""
    other = object.__new__(Checkout)
    other.root = checkout.root.parent / name
    do(checkout, f"git clone --quiet {checkout.root.parent / 'origin'} {other.root}")
    do(other, f"git config user.name {name}", f"git config user.email {name}@example.invalid")
    secrets = checkout.root / ".dvc" / "config.local"
    if secrets.is_file():
        shutil.copy2(secrets, other.root / ".dvc" / "config.local")
    return other


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as place:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        yield place


@pytest.fixture(scope="module")
def recorded(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy of ``finished`` that DVC has recorded; not to be changed."""
    checkout = finished.copy(tmp_path_factory.mktemp("recorded") / "project")
    do(checkout, "git init --quiet", "dvc repro --quiet")
    shutil.rmtree(checkout.root / ".git")
    return checkout


def test_a_version_travels_as_a_whole(recorded: Checkout, tmp_path: Path, place: Place) -> None:
    first = project(recorded, tmp_path, place)
    # The lock file is in the first commit already, so there is nothing for `git commit` to do.
    do(first, *(line for line in PUBLISH.splitlines() if "commit" not in line), "dvc push --run-cache")
    other = clone(first, "second")
    assert other.jobs() == WHOLE
    done = do(other, CLONE)
    assert done.count("didn't change, skipping") == 3
    assert other.jobs() == {}
    for name in VIEWS:
        assert other.view(name) == recorded.view(name), name
    # The run-cache: without the lock file, the stage that only reads files is not run but looked up.
    do(other, "dvc pull --run-cache")
    (other.root / "dvc.lock").unlink()
    assert "Stage 'metrics' is cached - skipping run" in do(other, "dvc repro")


def test_a_part_of_a_version_is_enough(recorded: Checkout, tmp_path: Path) -> None:
    first = project(recorded, tmp_path, Place(str(tmp_path / "remote")))
    do(first, "dvc push --quiet", "git push --quiet")
    other = clone(first, "second")
    do(other, "dvc pull --quiet results/evaluate")
    assert other.jobs() == FINAL
    reader = clone(first, "reader")
    do(reader, "dvc pull --quiet report")
    assert reader.jobs() == {}
    assert not (reader.root / "results" / "evaluate").exists()
    assert reader.view("index.html") == recorded.view("index.html")
    assert do(reader, "dvc repro --allow-missing").count("skipping") == 3


def test_artifacts_travel_one_by_one(finished: Checkout, tmp_path: Path, place: Place) -> None:
    first = project(finished, tmp_path, place)
    do(first, "git push --quiet")
    count = sum(WHOLE.values()) - sum(FINAL.values())
    assert f"sent {count} artifacts" in do(first, "bitlaw push")
    assert f"sent 0 artifacts (0.0 MB) to remote 'team'; {count} were there" in do(first, "bitlaw push")
    other = clone(first, "second")
    # The losses are there, so nothing that they were made from is needed.
    assert f"received {WHOLE['evaluate']} artifacts" in do(other, "bitlaw pull")
    assert other.jobs() == FINAL
    assert f"received {count - WHOLE['evaluate']} artifacts" in do(other, "bitlaw pull --all")
    assert cells(other) == cells(first)
    for path in cells(first):
        assert (other.root / "results" / path).read_bytes() == (first.root / "results" / path).read_bytes()
    other.make()
    for name in VIEWS:
        assert other.view(name) == finished.view(name), name


def test_two_who_work_at_once_end_with_the_union(recorded: Checkout, tmp_path: Path) -> None:
    first = project(recorded, tmp_path, Place(str(tmp_path / "remote")))
    do(first, "dvc push --quiet", "git push --quiet")
    second = clone(first, "second")
    do(second, "dvc pull --quiet")
    first.study(formats=["int4_b64", "mxint4_b32", "int5_b64"])
    do(first, FIRST)
    mine = cells(first)
    second.study(models=[{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m", "opt-0.1m"]}])
    before, after = SECOND.split("bitlaw pull --all\n")
    do(second, before, "bitlaw pull --all")
    assert do(second, "git status --porcelain --untracked-files=no") == ""
    theirs = cells(second)
    # What neither had: the first's format on the second's model.
    methods = len(STUDY["methods"])
    assert second.jobs() == {"quantize": methods, "evaluate": methods, **FINAL}
    do(second, after)
    do(first, FIRST_AGAIN)
    assert first.jobs() == second.jobs() == {}
    assert cells(first) == cells(second) >= mine | theirs
    assert len(cells(first)) == len(mine | theirs) + 2 * methods
    for checkout in (first, second):
        assert do(checkout, "dvc repro").count("didn't change, skipping") == 3
    for name in VIEWS:
        assert first.view(name) == second.view(name), name


def test_without_the_driver_a_merge_would_ask(recorded: Checkout, tmp_path: Path) -> None:
    checkout = project(recorded, tmp_path, Place(str(tmp_path / "remote")))
    lock = checkout.root / "dvc.lock"
    do(checkout, "git checkout --quiet -b theirs")
    lock.write_text(lock.read_text("utf-8").replace("nfiles: 10", "nfiles: 11"), "utf-8")
    do(checkout, "git commit --quiet --all --message theirs", "git checkout --quiet main")
    lock.write_text(lock.read_text("utf-8").replace("nfiles: 10", "nfiles: 12"), "utf-8")
    do(checkout, "git commit --quiet --all --message ours")
    kept = lock.read_bytes()
    assert checkout.run("git", "merge", "--no-edit", "theirs").returncode == 1
    do(checkout, "git merge --abort")
    assert "merge.dvc-lock.driver" in do(checkout, "bitlaw pull")
    assert "merge.dvc-lock.driver" not in do(checkout, "bitlaw pull", "git merge --no-edit theirs")
    assert lock.read_bytes() == kept


def test_damage_on_the_remote_is_left_out(finished: Checkout, tmp_path: Path) -> None:
    first = project(finished, tmp_path, Place(str(tmp_path / "remote")))
    do(first, "git push --quiet", "bitlaw push")
    losses = sorted((tmp_path / "remote" / "cells" / "evaluate").iterdir())
    losses[0].write_bytes(losses[0].read_bytes()[:-10])
    losses[1].write_bytes(losses[1].read_bytes().replace(b'"nll": ', b'"nll": 1'))  # 14.1 for 4.1
    losses[2].write_bytes(losses[3].read_bytes())
    (tmp_path / "remote" / "cells" / "evaluate" / f"{'0' * 32}~x.pkl").write_bytes(b"no")
    other = clone(first, "second")
    done = other.run("bitlaw", "pull")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(f"received {WHOLE['evaluate'] - 3} artifacts")
    named = [f"bitlaw: cells/evaluate/{path.name} on the remote is damaged and was left out" for path in losses[:3]]
    assert sorted(done.stderr.splitlines()) == named
    assert len(cells(other)) == WHOLE["evaluate"] - 3
    assert other.jobs()["evaluate"] == 3


def test_dvc_compares_commits_and_runs_experiments(recorded: Checkout, tmp_path: Path) -> None:
    checkout = project(recorded, tmp_path, Place(str(tmp_path / "remote")))
    printed = do(checkout, "dvc metrics show --json")
    numbers = json.loads(printed)[""]["data"]["report/metrics.json"]["data"]
    assert numbers["cells"] == WHOLE["evaluate"]
    assert set(numbers["delta_nll"]) == {"rtn", "gptq"}
    assert set(numbers["delta_nll"]["rtn"]) == set(STUDY["formats"])
    assert do(checkout, "dvc params diff", "dvc metrics diff") == ""
    shown = do(checkout, "dvc plots show --json")
    assert {"report/plots/loss/rtn.json", "report/plots/loss/gptq.json"} <= set(re.findall(r"report/\S+?\.json", shown))
    # Another study: one model fewer; its cells are there.
    small = yaml.safe_load((checkout.root / "studies" / "small.yaml").read_text("utf-8"))
    small["models"] = [{"source": "zoo", "name": "gpt2-0.1m"}]
    (checkout.root / "studies" / "other.yaml").write_text(yaml.safe_dump(small), "utf-8")
    do(
        checkout,
        "git add studies",
        "git commit --quiet --message other",
        EXPERIMENT.splitlines()[0].replace("small", "other"),
    )
    assert json.loads(do(checkout, "dvc params diff --json"))["params.yaml"]["study"] == {
        "old": "small",
        "new": "other",
    }
    assert json.loads(do(checkout, "dvc metrics diff --json"))["report/metrics.json"]["cells"]["new"] == 5
    do(checkout, EXPERIMENT.splitlines()[1])
    params = yaml.safe_load((checkout.root / "params.yaml").read_text("utf-8"))
    assert params == {"study": "other", "formats": ["int4_b64"]}
    do(checkout, COMPARE)
    assert "int4_b64" in do(checkout, EXPERIMENT.splitlines()[2])
    assert checkout.jobs() == {}
    # A comment is no change of a parameter, and another study no change of this one.
    study = checkout.root / "studies" / "other.yaml"
    study.write_text("# A comment.\n" + study.read_text("utf-8"), "utf-8")
    checkout.study(title="Not this one")
    assert "up to date" in do(checkout, "dvc status")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["push", "--remote", "teem"], "--remote: unknown remote 'teem'; did you mean 'team'?"),
        (["pull", "--stage", "evalute"], "--stage: unknown stage 'evalute'; did you mean 'evaluate'?"),
        (["pull"], None),
    ],
)
def test_a_mistake_is_one_line(finished: Checkout, tmp_path: Path, arguments: list[str], line: str | None) -> None:
    remote = tmp_path / "file" / "remote"
    checkout = project(finished, tmp_path, Place(str(remote)))
    if line is None:
        remote.parent.write_text("no folder")
        (checkout.root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    done = checkout.run("bitlaw", *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    if line is None:
        assert "no remote" in done.stderr and "dvc remote add" in done.stderr
    else:
        assert done.stderr == f"bitlaw: {line}\n"

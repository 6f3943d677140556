"""What every branch reaches: its studies, expanded by its own code, as if it were checked out here.

Keys hold fingerprints of code, so only a branch's own sources can say its keys. Each branch is written to a temporary
folder; what Git does not track (texts, models, texts fetched before) is linked there, for it would stay here at a
checkout too; and so is what lies beside the project, for studies may name ``../my-model``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitlaw.errors import UserError
from bitlaw.study import reach

# Folders of the project that hold nothing that a study reads.
_OWN = (".bitlaw", ".snakemake", "report", "logs")


@dataclass(frozen=True)
class Reach:
    """What some branches reach together.

    Attributes:
        sources: the branches, and the working tree.
        keys: the keys of all their artifacts.
        strict: whether a study counts versions of libraries.
        unjudged: for each study that cannot be judged, ``<study>: <why>``, the sources that have it so.
    """

    sources: tuple[str, ...]
    keys: frozenset[str]
    strict: bool
    unjudged: Mapping[str, tuple[str, ...]]


def reach_of(root: Path, also: tuple[str, ...] = ()) -> Reach:
    """Return what the working tree in ``root``, every local branch and the commits ``also`` reach.

    Args:
        root: the project folder, in a Git repository or not.
        also: names of further commits: tags, branches of remotes.

    Raises:
        UserError: there is no Git to read the branches of a repository, or no such commit.
    """
    found = {"the working tree": _studies(root, root)}
    if (top := _top(root)) is not None:
        trees: dict[str, dict[str, Any]] = {}  # branches of equal content are judged once
        for name in (*_branches(top), *also):
            tree = _git(top, "rev-parse", "--verify", "--quiet", f"{name}^{{tree}}", what=f"no commit '{name}'")
            if tree not in trees:
                with _checkout(top, tree) as copy:
                    trees[tree] = _studies(_with_hashes(copy / root.relative_to(top), root), root)
            found[name] = trees[tree]
    elif also:
        raise UserError("not a Git repository", place=str(root))
    return _joined(found)


def _with_hashes(folder: Path, root: Path) -> Path:
    """Return ``folder`` with the hashes of large files that are known in ``root``: they go by absolute paths."""
    hashes = root / ".bitlaw" / "hashes.json"
    if hashes.is_file() and folder.is_dir():
        (folder / ".bitlaw").mkdir(exist_ok=True)
        shutil.copyfile(hashes, folder / ".bitlaw" / "hashes.json")
    return folder


def _joined(found: Mapping[str, Mapping[str, Any]]) -> Reach:
    keys: set[str] = set()
    unjudged: dict[str, tuple[str, ...]] = {}
    strict = False
    for source, studies in found.items():
        for study, said in studies.items():
            keys.update(said.get("keys", ()))
            strict |= said.get("strict", False)
            if "error" in said:
                line = f"{study}: {said['error']}"
                unjudged[line] = (*unjudged.get(line, ()), source)
    return Reach(tuple(found), frozenset(keys), strict, unjudged)


def _studies(folder: Path, root: Path) -> dict[str, Any]:
    """Return what ``reach.py`` says of the project in ``folder``, by its own code if it has any."""
    code = folder / "src" if (folder / "src" / "bitlaw").is_dir() else Path(reach.__file__).parents[2]
    # What was never fetched cannot be judged, and asking the hub for it would take minutes without a network.
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(  # noqa: S603 (code of the user's own branches)
        [sys.executable, "-P", reach.__file__, str(folder)],
        cwd=folder if folder.is_dir() else root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no answer"]
        return {"all studies": {"error": lines[-1]}}
    # A message must not name a folder that is gone when it is read.
    return json.loads(json.dumps(said).replace(json.dumps(str(folder))[1:-1], "."))  # type: ignore[no-any-return]


def _top(root: Path) -> Path | None:
    """Return the top folder of the repository that holds ``root``, or ``None`` if none does."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None
    return Path(_git(root, "rev-parse", "--show-toplevel", what="git can't read the repository"))


def _branches(top: Path) -> list[str]:
    """Return the local branches, and ``HEAD`` if it is on none of them."""
    names = _git(top, "for-each-ref", "--format=%(refname:short)", "refs/heads", what="git lists no branches")
    detached = _run(top, "symbolic-ref", "--quiet", "HEAD").returncode != 0
    return [*names.split(), *(["HEAD"] if detached else [])]


@contextmanager
def _checkout(top: Path, tree: str) -> Iterator[Path]:
    """Yield the folder of a temporary copy of the repository ``top`` with the content ``tree``."""
    with tempfile.TemporaryDirectory(prefix="bitlaw-gc-") as folder:
        base = Path(folder)
        copy = _mirror(top, base / "root")
        index = {"GIT_INDEX_FILE": str(base / "index")}
        _git(top, "read-tree", tree, what="git can't read a branch", **index)
        _git(top, "checkout-index", "--all", f"--prefix={copy}/", what="git can't write a branch", **index)
        others = _git(top, "ls-files", "--others", "--directory", "-z", what="git can't list files")
        for name in filter(None, others.split("\0")):
            if Path(name).name not in _OWN:
                _link(top / name.rstrip("/"), copy / name.rstrip("/"))
        yield copy


def _link(source: Path, target: Path) -> None:
    """Let ``target`` be ``source``, or hold what it holds; files of the branch that are there already win."""
    if target.is_dir() and source.is_dir():
        for entry in source.iterdir():
            _link(entry, target / entry.name)
    elif not os.path.lexists(target):
        with suppress(FileExistsError, NotADirectoryError):  # the branch has a file where this is in a folder
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def _mirror(top: Path, base: Path) -> Path:
    """Return a new, empty folder below ``base`` with links around it to all that lies around ``top``."""
    real, here = Path(top.anchor), base
    for part in top.parts[1:]:
        here.mkdir()
        with suppress(PermissionError):  # the folders of other users: no study here reads them
            for entry in real.iterdir():
                if entry.name != part:
                    (here / entry.name).symlink_to(entry)
        real, here = real / part, here / part
    here.mkdir()
    return here


def _git(top: Path, *arguments: str, what: str, **environment: str) -> str:
    done = _run(top, *arguments, **environment)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UserError(f"{what}{f' ({lines[-1]})' if lines else ''}", place=str(top))
    return done.stdout.strip("\n")


def _run(top: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    git = shutil.which("git")
    if git is None:
        raise UserError("git is needed to know the branches; it is not installed", place=str(top))
    return subprocess.run(  # noqa: S603 (no shell, and refs are names that git lists or resolves)
        [git, *arguments], cwd=top, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )

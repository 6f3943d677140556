"""Git, the project's study, and the remote that results are shared through."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.doctor.base import Finding
from bitlaw.errors import UserError
from bitlaw.study.load import find_root, load_study

if TYPE_CHECKING:
    from dvc.repo import Repo

SECONDS = 20


def check(root: str | None) -> list[Finding]:
    """Return whether there is a project, git knows it, its study is valid, and its DVC remote can be reached."""
    try:
        folder = find_root(Path(root) if root else None)
    except UserError as error:
        fix = "go to the project's folder, or write a params.yaml; predict, advise and formats need none"
        return [*_git(None), Finding("project", "warn", str(error), fix)]
    try:
        study = Finding("project", "ok", f"{folder}, study {load_study(folder).name}")
    except UserError as error:
        study = Finding("project", "fail", str(error), "mend that line; `bitlaw plan` reads it again")
    return [*_git(folder), study, _remote(folder)]


def _git(folder: Path | None) -> list[Finding]:
    git = shutil.which("git")
    if git is None:
        return [Finding("git", "warn", "not installed: DVC keeps no versions without it", "install git")]
    said = subprocess.run([git, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = said.stdout.strip().removeprefix("git version ")
    if folder is None:
        return [Finding("git", "ok", version)]
    inside = subprocess.run([git, "-C", str(folder), "rev-parse"], capture_output=True, text=True, check=False)  # noqa: S603
    if inside.returncode:
        why = (inside.stderr.strip().splitlines() or ["no repository"])[0].removeprefix("fatal: ")
        return [Finding("git", "warn", f"{version}, but {folder}: {why}", f"git -C {folder} init, for DVC to work")]
    return [Finding("git", "ok", version)]


def _remote(folder: Path) -> Finding:
    """Return whether the default remote of DVC is there; addresses that take a network are asked by DVC itself."""
    name = "dvc remote"
    if not (folder / ".dvc").is_dir():
        return Finding(name, "warn", "the project is no DVC repository", "dvc init, in a git repository")
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError:
        return Finding(name, "warn", "DVC is not installed", "pip install 'bitlaw[workflow]'")
    fix = "dvc remote add --default team ADDRESS; docs/sharing.md"
    try:
        return _of_repo(Repo(str(folder)), fix)
    except DvcException as error:
        return Finding(name, "warn", " ".join(str(error).split()), fix)


def _of_repo(repo: Repo, fix: str) -> Finding:
    name = "dvc remote"
    default = repo.config["core"].get("remote")
    if not default:
        return Finding(name, "warn", "none: results stay on this machine", fix)
    remote = repo.cloud.get_remote(default)
    kind = remote.fs.protocol if isinstance(remote.fs.protocol, str) else remote.fs.protocol[0]
    says = f"{default}, {kind}: {remote.path}"
    if kind == "local":
        path = Path(remote.path)
        there = next((each for each in (path, *path.parents) if each.exists()), path)
        if not os.access(there, os.W_OK):
            return Finding(name, "warn", f"{says}: cannot be written to", "mount it, or ask for the right to write")
        if not path.exists() and there != path.parent:
            return Finding(name, "warn", f"{says}: not there, nor the folder above it", "is the disk mounted?")
        return Finding(name, "ok", says)
    return _listed(str(repo.root_dir), says)


_LIST = """
import sys
from dvc.repo import Repo
repo = Repo(sys.argv[1])
remote = repo.cloud.get_remote(repo.config["core"]["remote"])
above = remote.fs.parent(remote.path)
try:
    remote.fs.ls(remote.path)
except FileNotFoundError:  # it is made by the first push, in what is there already
    if above in ("", "/", remote.path):
        raise
    remote.fs.ls(above)
"""
"""A program that ends with an error if the default remote of the repository that it is given cannot be listed."""


def _listed(root: str, says: str) -> Finding:
    """Return whether a remote behind a network can be listed; by a process of its own, for clients try for minutes."""
    try:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _LIST, root], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return Finding("dvc remote", "warn", f"{says}: no answer in {SECONDS} s", "check network and address")
    if ran.returncode:
        why = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding("dvc remote", "warn", f"{says}: {why}", "check address and credentials; docs/sharing.md")
    return Finding("dvc remote", "ok", says)


CHECK = check

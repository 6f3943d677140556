"""The sources as git would have them, in a folder of their own, and commands that see nothing of this environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from projects import REPOSITORY


def call(*command: str | Path, where: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``command`` without this environment's paths of imports."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SETUPTOOLS_SCM"))}
    return subprocess.run(
        [str(word) for word in command], cwd=where, env=kept | env, capture_output=True, text=True, timeout=300
    )


def done(*command: str | Path, where: Path, **env: str) -> str:
    """Run ``command``, which must succeed, and return what it printed."""
    ran = call(*command, where=where, **env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip()


def copied(target: Path) -> Path:
    """Copy what git tracks, or would, into ``target``, without its history and without the zoo but for one model."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a checkout of git")
    for name in done("git", "ls-files", "--cached", "--others", "--exclude-standard", where=REPOSITORY).splitlines():
        source, copy = REPOSITORY / name, target / name
        if not source.exists() or (name.startswith("data/zoo/") and not name.startswith("data/zoo/gpt2-0.1m/")):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)
    return target


def git(*arguments: str, where: Path) -> None:
    """Run git as somebody with a name."""
    me = {
        f"GIT_{role}_{what}": "tester@example.invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done("git", *arguments, where=where, **me)


def committed(folder: Path) -> Path:
    """Make ``folder`` a repository of one commit, and return it."""
    git("init", "--quiet", where=folder)
    git("add", "--all", where=folder)
    git("commit", "--quiet", "--message", "all", where=folder)
    return folder

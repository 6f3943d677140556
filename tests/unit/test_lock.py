"""Whose lock of Snakemake is removed, and whose is not."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bitlaw.lock import hold


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """Return the folder of Snakemake's locks, with one in it that is left over."""
    folder = tmp_path / ".snakemake" / "locks"
    folder.mkdir(parents=True)
    (folder / "0.output.lock").write_text("results/x\n")
    return folder


def owners(root: Path, *hosts: str) -> None:
    (root / ".bitlaw").mkdir()
    (root / ".bitlaw" / "run.lock").write_text("".join(f"{host}\n" for host in hosts))


def test_a_lock_of_this_machine_without_an_owner_is_removed(locks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = locks.parents[1]
    owners(root, socket.gethostname(), socket.gethostname())
    file = hold(root)
    assert file is not None
    assert not list(locks.iterdir())
    assert capsys.readouterr().err == "bitlaw: removed the lock of a run that was killed\n"
    assert (root / ".bitlaw" / "run.lock").read_text() == f"{socket.gethostname()}\n"
    file.close()


def test_a_lock_whose_owner_lives_stays(locks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = locks.parents[1]
    owners(root, socket.gethostname())
    code = f"from pathlib import Path; import fcntl; f = open({str(root / '.bitlaw' / 'run.lock')!r}, 'a')"
    code += "; fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        file = hold(root)
        assert list(locks.iterdir())
        assert file is not None  # it shares: who comes after it may not clean up either
        owner.kill()
    other = hold(root)
    assert other is not None
    assert list(locks.iterdir())
    file.close()
    other.close()
    assert capsys.readouterr().err == ""
    last = hold(root)
    assert last is not None
    assert not list(locks.iterdir())
    last.close()


@pytest.mark.parametrize("hosts", [(), ("elsewhere",), ("elsewhere", socket.gethostname())])
def test_a_lock_of_another_machine_stays_and_one_line_says_what_to_do(
    locks: Path, capsys: pytest.CaptureFixture[str], hosts: tuple[str, ...]
) -> None:
    owners(locks.parents[1], *hosts)
    file = hold(locks.parents[1])
    assert file is not None
    file.close()
    assert list(locks.iterdir())
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "snakemake --unlock" in err
    assert ("elsewhere" if hosts else "an unknown machine") in err


def test_where_nothing_can_be_written_or_is_left_it_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".bitlaw").write_text("a file, not a folder")
    assert hold(tmp_path) is None
    root = tmp_path / "other"
    root.mkdir()
    owners(root, "elsewhere")
    file = hold(root)
    assert file is not None
    file.close()
    assert (root / ".bitlaw" / "run.lock").read_text() == f"{socket.gethostname()}\n"
    assert capsys.readouterr().err == ""

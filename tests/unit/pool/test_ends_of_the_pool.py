"""Whoever is killed, nothing is left behind; where there is no pool, a job runs by itself."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitlaw import pool
from bitlaw.errors import UserError
from bitlaw.pool.server import Watched, follow
from pool_calls import (
    CLIENT,
    HERE,
    SOURCE,
    Start,
    alive,
    call,
    children,
    command,
    environment,
    hang,
    server_pid,
    spawn,
    until,
)


def test_killed_worker_fails_only_its_job(start: Start, tmp_path: Path) -> None:
    address = start(2)
    client, worker, child = hang(address, tmp_path)
    bystander, kept, _ = hang(address, tmp_path, "bystander")
    os.kill(worker, signal.SIGKILL)
    _, error = client.communicate(timeout=5)
    assert (client.returncode, error) == (
        1,
        f"bitlaw: worker died (signal 9) while making: hang {tmp_path / 'hangs'}\n",
    )
    assert until(lambda: not alive(child))
    assert call(address, "say", "next").stdout == "next\n"
    assert alive(kept) and bystander.poll() is None
    bystander.kill()
    bystander.communicate()


def test_worker_that_leaves_fails_its_job(running: str) -> None:
    done = call(running, "leave")
    assert (done.returncode, done.stderr) == (1, "bitlaw: worker died (exit code 9) while making: leave\n")
    assert call(running, "say", "next").stdout == "next\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_client_stops_the_work(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    address = start(1)
    client, worker, child = hang(address, tmp_path)
    client.send_signal(number)
    _, error = client.communicate(timeout=5)
    assert client.returncode == (130 if number == signal.SIGINT else -number)
    assert error == ""
    assert until(lambda: not alive(worker) and not alive(child), 2)
    assert call(address, "say", "next").stdout == "next\n"


def test_client_that_left_the_queue_starts_nothing(start: Start, tmp_path: Path) -> None:
    address = start(1)
    first, worker, _ = hang(address, tmp_path)
    queued = spawn(address, "hang", str(tmp_path / "queued"))
    time.sleep(0.2)
    queued.kill()
    queued.wait()
    first.kill()
    first.communicate()
    assert call(address, "say", "next").stdout == "next\n"
    queued.communicate()
    assert not (tmp_path / "queued").exists()
    assert not alive(worker)


def test_pool_ends_with_the_process_it_watches(start: Start, tmp_path: Path) -> None:
    watched = subprocess.Popen(["sleep", "60"])
    address = start(2, watched.pid)
    client, worker, child = hang(address, tmp_path)
    server = server_pid(address)
    pids = [server, worker, child, *children(server)]
    assert len(pids) == 5
    watched.kill()  # it stays a zombie until wait(), and counts as ended
    assert until(lambda: not any(alive(pid) for pid in pids), 5)
    _, error = client.communicate(timeout=5)
    assert (client.returncode, error) == (
        1,
        f"bitlaw: the pool of workers ended while making: hang {tmp_path / 'hangs'}\n",
    )
    assert not Path(address).parent.exists()
    watched.wait()


def test_killed_server_leaves_no_worker(start: Start, tmp_path: Path) -> None:
    address = start(2)
    client, worker, child = hang(address, tmp_path)
    pids = children(server_pid(address))
    assert worker in pids and len(pids) == 2
    os.kill(server_pid(address), signal.SIGKILL)
    assert until(lambda: not any(alive(pid) for pid in pids), 5)
    assert client.wait(5) == 1
    os.kill(child, signal.SIGKILL)  # what a job has started is out of reach when nobody is left to end it
    client.communicate()


def test_stop_ends_all(start: Start, tmp_path: Path) -> None:
    address = start(2)
    client, worker, child = hang(address, tmp_path)
    pids = [server_pid(address), worker, child]
    pool.stop(address)
    assert not any(alive(pid) for pid in pids)
    assert not Path(address).parent.exists()
    client.communicate(timeout=5)
    pool.stop(address)  # a second time is no error


def test_stop_from_another_process(start: Start) -> None:
    address = start(1)
    server = server_pid(address)
    code = f"from bitlaw import pool; pool.stop({address!r})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
    assert until(lambda: not alive(server), 2)


def test_idle_pool_ends(start: Start, tmp_path: Path) -> None:
    address = start(1, idle=1.0)
    server = server_pid(address)
    client, _, _ = hang(address, tmp_path)
    time.sleep(1.6)
    assert alive(server)  # work is not idleness
    client.kill()
    client.communicate()
    assert until(lambda: not alive(server), 5)
    assert not Path(address).exists()


def test_follow_ends_an_orphan() -> None:
    """The way of systems without PR_SET_PDEATHSIG."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            os.write(writer, f"{os.getpid()}\n".encode())
            follow(os.getppid(), 0.05)
        time.sleep(60)
    orphan = int(os.read(reader, 100))
    time.sleep(0.2)
    assert alive(orphan)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(lambda: not alive(orphan), 5)
    os.close(reader)
    os.close(writer)


def test_a_reused_process_number_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(os.getpid())
    assert not watched.ended()
    monkeypatch.setattr("bitlaw.pool.server._birth", lambda _: "another time")
    assert watched.ended()


# Starting, and doing without


@pytest.fixture
def own_bitlaw(tmp_path: Path) -> str:
    """A package ``bitlaw`` that says how it was called; the value for PYTHONPATH."""
    package = tmp_path / "elsewhere" / "bitlaw"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys\nprint(sys.argv[1:], sys.prefix, sys.flags.no_site, sys.flags.ignore_environment)\nsys.exit(7)\n"
    )
    return str(package.parent)


def expected(*arguments: str) -> tuple[str, int]:
    return f"{list(arguments)} {sys.prefix} 0 0\n", 7


@pytest.mark.parametrize("address", ["", "/no/such/socket", "/" + "x" * 200])
def test_without_a_pool_the_command_runs_by_itself(own_bitlaw: str, address: str) -> None:
    done = call(address, "make", "a b", "", PYTHONPATH=own_bitlaw)
    assert (done.stdout, done.returncode) == expected("make", "a b", "")


def test_stale_socket_is_no_pool(own_bitlaw: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "socket"))
    done = call(str(tmp_path / "socket"), "make", PYTHONPATH=own_bitlaw)
    assert (done.stdout, done.returncode) == expected("make")


def test_work_that_was_not_begun_is_done_elsewhere(start: Start, tmp_path: Path, own_bitlaw: str) -> None:
    address = start(1)
    first, _, _ = hang(address, tmp_path)
    queued = subprocess.Popen(
        command("make"), env=environment(address, PYTHONPATH=own_bitlaw), stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.2)
    pool.stop(address)
    first.communicate()
    output, _ = queued.communicate(timeout=10)
    assert (output, queued.returncode) == expected("make")


def test_requests_wait_for_the_imports(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(1)\nREADY = 1\n")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    begin = time.monotonic()
    address = start(1, preload=("slow_to_import:READY",))
    patch.undo()
    assert time.monotonic() - begin < 0.9
    assert call(address, "say", "waited").stdout == "waited\n"
    assert time.monotonic() - begin > 1


def test_server_that_cannot_start_says_why(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bitlaw.sh"
    broken.write_text("#!/bin/sh\necho 'no interpreter here' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(UserError, match="did not start: no interpreter here"):
        start(1)


def test_a_live_socket_is_not_taken_and_a_stale_one_is(running: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bitlaw.pool.server", "--workers=1", f"--watch={os.getpid()}", "--preload="]
    words += ["--target=jobs:main", "--idle=0"]
    run = {"env": {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{HERE}"}, "capture_output": True, "text": True}
    refused = subprocess.run([*words, f"--socket={running}"], check=False, **run)  # type: ignore[call-overload]
    assert refused.returncode == 1
    assert "another pool listens there" in refused.stderr
    assert call(running, "say", "unharmed").stdout == "unharmed\n"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "socket"))
    taken = subprocess.run([*words, f"--socket={tmp_path / 'socket'}"], check=False, **run)  # type: ignore[call-overload]
    assert (taken.returncode, taken.stderr) == (0, "")
    assert not (tmp_path / "socket").exists()


def test_workers_that_cannot_live_end_the_pool(start: Start, tmp_path: Path) -> None:
    """Not a fork after the other for ever."""
    address = start(1)
    server = server_pid(address)

    def kill_all() -> bool:
        for worker in children(server) if alive(server) else []:
            os.kill(worker, signal.SIGKILL)
        return not alive(server)

    assert until(kill_all)
    assert "workers in a row died" in (tmp_path / "pool.log").read_text()


def test_only_this_user_can_ask(running: str) -> None:
    assert stat.S_IMODE(Path(running).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(running).parent.stat().st_mode) == 0o700


def test_a_long_temporary_folder_is_avoided(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    address = start(1)
    assert len(address) < 100
    assert call(address, "say", "here").stdout == "here\n"
    assert list(deep.iterdir()) == []


def test_strangers_and_silence_do_no_harm(running: str) -> None:
    for words in (b"", b"GET / HTTP/1.1\r\n", b"{'argv': []}\n"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(running)
            stranger.sendall(words)
    assert call(running, "say", "next").stdout == "next\n"


def test_planning_and_clients_stay_light() -> None:
    code = "import sys; import bitlaw.pool; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    code = f"import sys; before = set(sys.modules); sys.path.insert(0, {str(CLIENT.parent)!r})\n"
    code += "import client; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['__future__', '_socket', 'client']\n"


def test_the_real_command_line_says_the_same_in_a_worker(start: Start) -> None:
    address = start(1, target=pool.TARGET)
    for words in (["--help"], ["no-such-command"]):
        warm = call(address, *words)
        cold = call("", *words, PYTHONPATH=str(SOURCE))
        assert (warm.stdout, warm.stderr, warm.returncode) == (cold.stdout, cold.stderr, cold.returncode)
        assert warm.stdout or warm.stderr
    assert children(server_pid(address))  # so it was a worker that has answered


def test_the_real_imports_start_no_thread(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    address = start(2, preload=pool.PRELOAD)
    for _ in range(4):
        done = call(address, "torch")
        assert (done.stdout, done.stderr) == ("1 27000000.0\n", "")
    assert (tmp_path / "pool.log").read_text() == ""

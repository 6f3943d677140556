"""The pool with real processes: what a job says comes back, one at a time and several at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitlaw import pool
from pool_calls import (
    Start,
    call,
    spawn,
)


def test_output_and_exit_code_come_back(running: str) -> None:
    done = call(running, "say", "naïve 漢字", "3")
    assert (done.stdout, done.stderr, done.returncode) == ("naïve 漢字\n", "naïve 漢字, on the error stream\n", 3)


def test_no_return_value_is_success(running: str) -> None:
    done = call(running, "nothing")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize(
    ("value", "code", "error"), [("null", 0, ""), ("0", 0, ""), ("7", 7, ""), ("-1", 255, ""), ('"why"', 1, "why\n")]
)
def test_system_exit_is_that_of_a_process(running: str, value: str, code: int, error: str) -> None:
    done = call(running, "exit", value)
    assert (done.returncode, done.stderr) == (code, error)


def test_exception_is_a_traceback_and_one(running: str) -> None:
    done = call(running, "raise")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("LookupError: no such luck\n")


def test_interrupt_of_a_worker(running: str) -> None:
    assert call(running, "interrupt").returncode == 130
    assert call(running, "say", "next").stdout == "next\n"


def test_big_output_is_whole(running: str) -> None:
    done = call(running, "big", "30000")
    assert done.stdout == "".join(f"{number} " + "x" * 100 + "\n" for number in range(30000))


def test_big_arguments(running: str) -> None:
    texts = ["é'\"\\\n" * 20_000, ""]  # one argument may have 128 KiB on Linux
    assert call(running, "say", texts[0]).stdout == texts[0] + "\n"
    assert call(running, "say", texts[1]).stdout == "\n"


def test_all_ways_of_writing_reach_the_client(running: str) -> None:
    assert call(running, "parts").stdout == "python\ndescriptor\nprocess\n"


def test_folder_and_variables_are_the_clients(running: str, tmp_path: Path) -> None:
    done = call(running, "see", cwd=tmp_path, BITLAW_X="1", HF_Y="two words", JOB_Z="not passed")
    assert json.loads(done.stdout) == [str(tmp_path), {"BITLAW_X": "1", "HF_Y": "two words"}, ["bitlaw", "see"]]


def test_nothing_of_one_job_is_left_to_the_next(start: Start, tmp_path: Path) -> None:
    address = start(1)
    before = call(address, "pid").stdout
    assert call(address, "spoil", cwd=tmp_path, BITLAW_X="1").returncode == 0
    done = call(address, "see", cwd=tmp_path)
    assert json.loads(done.stdout) == [str(tmp_path), {}, ["bitlaw", "see"]]
    assert call(address, "pid").stdout == before  # the very same worker


def test_closed_output_costs_the_worker_not_the_next_job(start: Start) -> None:
    address = start(1)
    done = call(address, "close")
    assert (done.stdout, done.returncode) == ("last words\n", 120)
    assert call(address, "say", "next").stdout == "next\n"


def test_broken_pipe_does_not_reach_the_next_job(start: Start) -> None:
    address = start(1)
    client = spawn(address, "big", "30000")
    assert client.stdout is not None
    client.stdout.close()
    assert client.wait(10) == 1
    assert client.stderr is not None
    assert "BrokenPipeError" in client.stderr.read()
    client.stderr.close()
    assert call(address, "say", "next").stdout == "next\n"


# Several at once


def test_two_workers_run_two_jobs_at_once(running: str, tmp_path: Path) -> None:
    clients = [spawn(running, "meet", str(tmp_path), *pair) for pair in (("a", "b"), ("b", "a"))]
    for client in clients:
        client.communicate()
    assert [client.returncode for client in clients] == [0, 0]


def test_twenty_clients(running: str) -> None:
    with ThreadPoolExecutor(20) as threads:
        done = list(threads.map(lambda number: call(running, "say", f"job {number}", str(number)), range(20)))
    assert [(one.stdout, one.returncode) for one in done] == [(f"job {n}\n", n) for n in range(20)]


def test_two_pools_know_nothing_of_each_other(start: Start) -> None:
    one, other = start(1), start(1)
    assert one != other
    pids = [call(address, "pid").stdout for address in (one, other)]
    assert pids[0] != pids[1]
    pool.stop(one)
    assert call(other, "pid").stdout == pids[1]

"""What a job costs before it computes anything: handed to a warm worker, against a fresh Python with torch.

Run: ``python benchmarks/job_overhead.py [--rounds 30]``. Both sides run in turn, so that a change of the
machine's speed meets both; medians are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bitlaw import pool

CLIENT = Path(pool.__file__).with_name("client.py")
JOB = ["formats", "int4_b64"]  # a command that needs no model


def seconds(command: list[str], env: dict[str, str]) -> float:
    """Return the wall time of ``command``."""
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        address = pool.start(2, os.getpid(), Path(folder))
        env = {**os.environ, "BITLAW_POOL": address}
        warm_command = [sys.executable, "-S", "-E", str(CLIENT), *JOB]
        fresh_command = [sys.executable, "-c", "import torch, bitlaw.cli.main as m; m.main(['formats', 'int4_b64'])"]
        for _ in range(4):
            seconds(warm_command, env)  # both workers import what the command needs
        warm, fresh = [], []
        for _ in range(rounds):
            warm.append(seconds(warm_command, env))
            fresh.append(seconds(fresh_command, env))
        pool.stop(address)
    a, b = statistics.median(warm), statistics.median(fresh)
    print(f"{'job':<28}{'median ms':>10}")
    for name, value in (("warm worker", a), ("fresh Python with torch", b)):
        print(f"{name:<28}{value * 1e3:>10.1f}")
    print(f"ratio: {b / a:.0f}")


if __name__ == "__main__":
    main()

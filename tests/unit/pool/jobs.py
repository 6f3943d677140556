"""What the workers of the tests run in place of the real command line: light, and able to go wrong in many ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(argv: list[str]) -> int | None:
    """Do what ``argv`` says."""
    job = globals()[f"job_{argv[0]}"]
    return job(*argv[1:])


def job_say(text: str, code: str = "0") -> int:
    print(text)
    print(f"{text}, on the error stream", file=sys.stderr)
    return int(code)


def job_nothing() -> None:
    pass


def job_big(lines: str) -> None:
    for number in range(int(lines)):
        print(f"{number} " + "x" * 100)


def job_pid() -> None:
    print(os.getpid())


def job_meet(folder: str, own: str, other: str) -> int:
    """Succeed if the job ``other`` runs at the same time."""
    (Path(folder) / own).touch()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if (Path(folder) / other).exists():
            return 0
        time.sleep(0.01)
    return 1


def job_hang(file: str) -> None:
    """Say who is at work, with a process of its own, then never end."""
    child = subprocess.Popen(["sleep", "60"])
    Path(f"{file}.new").write_text(json.dumps([os.getpid(), child.pid]))
    Path(f"{file}.new").rename(file)
    time.sleep(60)


def job_exit(value: str) -> None:
    sys.exit(json.loads(value))


def job_raise() -> None:
    raise LookupError("no such luck")


def job_interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def job_leave() -> None:
    print("never seen")
    os._exit(9)


def job_see() -> None:
    names = [name for name in os.environ if name.startswith(("BITLAW_", "HF_", "JOB_"))]
    print(json.dumps([str(Path.cwd()), {name: os.environ[name] for name in sorted(names)}, sys.argv]))


def job_spoil() -> None:
    """Change what the next job must not notice."""
    os.environ["JOB_LEFT"] = "behind"
    os.chdir("/")
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    sys.argv.append("spoilt")


def job_close() -> None:
    print("last words")
    sys.stdout.close()


def job_parts() -> None:
    """Write through Python, through the descriptor and through a process."""
    print("python")
    sys.stdout.flush()
    os.write(1, b"descriptor\n")
    subprocess.run(["echo", "process"], check=True)


def job_torch() -> None:
    import torch
    from torch.nn.functional import linear

    print(torch.get_num_threads(), float(linear(torch.ones(300, 300), torch.ones(300, 300)).sum()))
    torch.set_num_threads(2)

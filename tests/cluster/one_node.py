"""SLURM of one machine: munged, slurmctld and slurmd with a configuration of their own in a temporary folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")

# No control groups and no accounting, so that it runs in a container too. A requeued job would be retried by SLURM
# before Snakemake knows that it was lost; the tests want to see Snakemake do it.
CONFIGURATION = """\
ClusterName=bitlaw
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=0
KillWait=2
SlurmdTimeout=20
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """SLURM cannot run here; the message says why."""


class Slurm:
    """A cluster of one node, which is this machine.

    Attributes:
        folder: where it keeps everything.
        env: variables under which SLURM's commands find it.
    """

    def __init__(self) -> None:
        missing = [name for name in PROGRAMS if self._find(name) is None]
        if missing:
            raise Unavailable(f"not installed: {', '.join(missing)} (Debian: slurm-wlm and munge)")
        self.folder = Path(tempfile.mkdtemp(prefix="bitlaw-slurm-"))  # short: munged's socket lies in it
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._write()
        # srun inside a job loses SLURM_CONF, for the plugin clears the variables of the job around it.
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    def start(self) -> None:
        """Start the daemons and wait until the node is idle. Raises ``Unavailable`` if that does not happen."""
        munge = self.folder / "munge"
        paths = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._run("munged", "--foreground", "--force", *(f"--{key}={munge / name}" for key, name in paths.items()))
        self._until(lambda: (munge / "socket").exists(), "munged")
        self._run("slurmctld", "-D", "-i")
        self.start_node()

    def start_node(self) -> None:
        """Start the node's daemon and wait until jobs can go there."""
        self._run("slurmd", "-D")
        self._until(lambda: self.command("sinfo", "--noheader", "--format=%t").strip() in ("idle", "mix"), "slurmd")

    def kill_node(self) -> None:
        """Kill the node's daemon with kill -9, and all processes of its jobs: what a loss of power does."""
        self._daemons["slurmd"].kill()
        self._daemons.pop("slurmd").wait()
        self._kill(daemons=True)

    def kill_jobs(self) -> None:
        """Kill the processes of all jobs with kill -9."""
        self._kill(daemons=False)

    def jobs(self) -> list[dict[str, str]]:
        """Return number, state and time limit of all jobs so far, the first first."""
        said = self.command("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%l|%k")
        names = ("job", "state", "limit", "comment")
        return [dict(zip(names, line.split("|"), strict=True)) for line in said.splitlines()]

    def command(self, *command: str) -> str:
        """Run one of SLURM's commands and return what it printed; empty if it failed."""
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def stop(self) -> None:
        """End all jobs and daemons and remove the folder."""
        if "slurmctld" in self._daemons:
            self.command("scancel", "--state=RUNNING", "--signal=KILL", "--full")
            self.command("scancel", "--me")
        self._kill(daemons=True)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir()
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        facts = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "ports": _free_ports()}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder, **facts))
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {self._find("srun")} "$@"\n')
        srun.chmod(0o755)

    def _run(self, name: str, *arguments: str) -> None:
        program = str(self._find(name))
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [program, *arguments], env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _until(self, ready: Callable[[], bool], name: str) -> None:
        end = time.monotonic() + 30
        while not ready():
            dead = [each for each, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                name = dead[0] if dead else name
                said = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
                raise Unavailable(f"{name} does not start here: {said[-1] if said else 'it says nothing'}")
            time.sleep(0.2)

    def _kill(self, *, daemons: bool) -> None:
        """Kill the processes of jobs, known by the variables that they were given; ``daemons``: their keepers too."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                variables = (process / "environ").read_bytes().split(b"\0")
                keeper = (process / "comm").read_text().strip() == "slurmstepd"
                ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in variables
                in_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
                if ours and (daemons if keeper else in_job):
                    os.kill(int(process.name), signal.SIGKILL)

    @staticmethod
    def _find(name: str) -> str | None:
        return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]

#!/usr/bin/env python3
"""Runs a job of Snakemake as a Kubernetes job, through kubectl, in its current context and namespace.

``pod.py submit ... SCRIPT`` prints the name of the job, ``pod.py status NAME`` one of success, failed and running, and
``pod.py NAME ...`` deletes jobs. Snakemake's own executor for Kubernetes copies inputs and outputs through object
storage; here all pods share one volume, as the machines of other clusters share a folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any


def main(arguments: list[str]) -> int:
    """Do what ``arguments`` say and return the exit code."""
    if arguments[:1] == ["submit"]:
        return submit(arguments[1:])
    if arguments[:1] == ["status"]:
        print(status(arguments[1]))
        return 0
    return kubectl("delete", "--ignore-not-found", "--wait=false", *arguments).returncode


def submit(arguments: list[str]) -> int:
    """Create a job and print its name."""
    parser = argparse.ArgumentParser(prog="pod.py submit")
    for name in ("claim", "mount", "image"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("megabytes", "minutes", "cpus"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("script")
    done = kubectl("create", "--filename=-", "--output=name", given=json.dumps(job(parser.parse_args(arguments))))
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def job(options: argparse.Namespace) -> dict[str, Any]:
    """Return the job that runs ``options.script`` once, on the shared volume, within its limits."""
    needs = {"cpu": str(options.cpus), "memory": f"{options.megabytes}M"}
    container = {
        "name": "bitlaw",
        "image": options.image,
        "command": ["/bin/sh", options.script],
        "resources": {"requests": needs, "limits": {"memory": needs["memory"]}},
        "volumeMounts": [{"name": "project", "mountPath": options.mount}],
    }
    volume = {"name": "project", "persistentVolumeClaim": {"claimName": options.claim}}
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    spec = {
        "backoffLimit": 0,  # Snakemake tries again, with more
        "activeDeadlineSeconds": 60 * options.minutes,
        "ttlSecondsAfterFinished": 86400,
        "template": {"spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "bitlaw-"}, "spec": spec}


def status(name: str) -> str:
    """Return ``success``, ``failed`` or ``running``; a job that was deleted has failed."""
    done = kubectl("get", name, "--output=json")
    if done.returncode:
        # A cluster that does not answer for a moment has not lost the job.
        return "failed" if "NotFound" in done.stderr else "running"
    state = json.loads(done.stdout).get("status", {})
    return "success" if state.get("succeeded") else "failed" if state.get("failed") else "running"


def kubectl(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl and return what came of it."""
    return subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False)  # noqa: S603, S607 (kubectl of the user)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The libraries that read models, run the workflow and pack checkpoints."""

from __future__ import annotations

import sys

from bitlaw.doctor.base import Finding, package

PACKAGES = (
    ("transformers", "fail", "no model is read without it", "pip install 'transformers>=5'"),
    ("snakemake", "warn", "`bitlaw run` does the same in one process", "pip install 'bitlaw[workflow]'"),
    ("dvc", "warn", "results have no versions and no remote", "pip install 'bitlaw[workflow]'"),
    ("huggingface_hub", "warn", "no model of the hub is downloaded", "pip install 'bitlaw[hub]'"),
    ("compressed-tensors", "warn", "`bitlaw export` writes ordinary weights only", "pip install 'bitlaw[export]'"),
    ("lm-eval", "warn", "no zero-shot tasks", "pip install 'bitlaw[tasks]'"),
)  # fmt: skip


def check(root: str | None) -> list[Finding]:
    """Return whether the packages are there, and new enough."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    found = [Finding("python", "ok", python)]
    for name, level, what, install in PACKAGES:
        found.append(package(name, "fail" if level == "fail" else "warn", what, install))
    return found


CHECK = check

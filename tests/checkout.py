"""A checkout in a temporary folder in which Snakemake and DVC run for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from projects import KEY

REPOSITORY = Path(__file__).resolve().parents[1]
COPIED = ("src", "workflow", "Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", ".gitattributes", "pyproject.toml")
STUDY: Mapping[str, Any] = {
    "title": "A small study",
    "models": [{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m"]}],
    "formats": ["int4_b64", "mxint4_b32"],
    "methods": ["rtn", "gptq"],
    "calibration": {"text": {"source": "file", "path": "calibration.txt"}, "samples": 2, "length": 32},
    "evaluation": {
        "text": {"source": "file", "path": "evaluation.txt"}, "window": 64, "stride": 63, "max_tokens": 400, "batch": 8
    },
    "laws": ["power_offset", "kumar"],
    "bootstraps": 20,
}  # fmt: skip
# What a run of STUDY makes: jobs by rule.
WHOLE = {"model": 2, "calibrate": 2, "factorize": 2, "quantize": 8, "evaluate": 10, "table": 1, "laws": 1, "report": 1}


def text(seed: int) -> str:
    """Return a few kilobytes of English that differ with ``seed``."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)[seed : seed + 3])


class Checkout:
    """A copy of the project with one study, ``small``, selected.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source = REPOSITORY / name
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=ignored)
            else:
                shutil.copy2(source, root / name)
        shutil.copytree(REPOSITORY / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        (root / "profiles").symlink_to("workflow/profiles")
        (root / "data" / "zoo").mkdir(parents=True)
        for name in ("gpt2-0.1m", "llama-0.1m", "opt-0.1m"):
            shutil.copytree(REPOSITORY / "data" / "zoo" / name, root / "data" / "zoo" / name)
        (root / "studies").mkdir()
        (root / "calibration.txt").write_text(text(0), "utf-8")
        (root / "evaluation.txt").write_text(text(10), "utf-8")
        self.study()
        self.params()

    def copy(self, root: Path) -> Checkout:
        """Return a copy of this checkout with all that it holds."""
        other = object.__new__(Checkout)
        other.root = root
        shutil.copytree(self.root, root, symlinks=True)
        return other

    def study(self, **changes: Any) -> None:
        """Write the study file: ``STUDY`` with ``changes``."""
        (self.root / "studies" / "small.yaml").write_text(yaml.safe_dump({**STUDY, **changes}), "utf-8")

    def params(self, **overrides: Any) -> None:
        """Write ``params.yaml``."""
        (self.root / "params.yaml").write_text(yaml.safe_dump({"study": "small", **overrides}), "utf-8")

    def edit(self, module: str, old: str, new: str) -> None:
        """Replace ``old``, which must be there once, by ``new`` in a file below ``src/bitlaw``."""
        path = self.root / "src" / "bitlaw" / module
        source = path.read_text("utf-8")
        assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {module}"
        path.write_text(source.replace(old, new), "utf-8")

    def run(self, *command: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run ``command`` here, with this checkout's code, and return what came of it."""
        return subprocess.run(
            command, cwd=self.root, env=self.environment(), text=True, capture_output=True, timeout=seconds
        )

    def environment(self) -> dict[str, str]:
        """Return the variables under which commands run here: this checkout's code, nothing of a run around it."""
        binaries = str(Path(sys.executable).parent)
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BITLAW_", "SNAKEMAKE_"))},
            "PYTHONPATH": str(self.root / "src"),
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "XDG_CACHE_HOME": str(self.root / ".cache"),
        }

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with two cores."""
        return self.run("snakemake", "--cores", "2", *arguments)

    def make(self) -> str:
        """Run the workflow, which must succeed, and return what it printed."""
        done = self.snakemake()
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self) -> dict[str, int]:
        """Return the number of jobs by rule that a dry run announces, ``all`` left out; empty if nothing is to do."""
        done = self.snakemake("--dry-run")
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        if "Nothing to be done" in printed:
            return {}
        table = printed.split("Job stats")[1].split("total")[0]
        # Snakemake's logger with colors writes a rule's name with blanks.
        rows = re.findall(r"^\s*(\w+(?: \w+)*)\s+(\d+)\s*$", table, re.M)
        return {rule.replace(" ", "_"): int(count) for rule, count in rows if rule != "all"}

    def made(self) -> Counter[str]:
        """Return how many artifacts of each stage there are; the files that belong to one, such as pictures, not."""
        results = self.root / "results"
        files = [path for path in results.rglob("*") if path.is_file() and not KEY.fullmatch(path.parent.name)]
        return Counter(path.relative_to(results).parts[0] for path in files)

    def view(self, name: str) -> bytes:
        """Return the content of a file under ``report/``."""
        return (self.root / "report" / name).read_bytes()

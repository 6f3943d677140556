"""What the workflow itself costs at 35,000 cells: planning, sharing, and a run in chunks whose stages compute nothing.

Run: ``python benchmarks/scale.py`` (a quarter of an hour, 4 GiB in the temporary folder); names of parts as arguments
run only those. Real ``snakemake``, ``git`` and ``dvc`` in a temporary copy of this checkout; artifacts are made up, for
planning looks no closer than at their names. The run in chunks is of a copy whose stages write a line and no more:
everything around them is the real thing. Needs an environment with the extra ``workflow``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

import synthetic  # noqa: E402  (the tests' folder is no package)
from bitlaw.artifacts import write_json, write_table  # noqa: E402
from bitlaw.stage import Header  # noqa: E402
from checkout import Checkout  # noqa: E402

FORMATS = ["{int,dyn,quantile}{3..8}_b64", "{int,dyn}{3..8}_b128", "int{3..6}_b256"]  # 34
ONE_MORE = "int8_b256"
METHODS: list[Any] = [
    "rtn",
    *({"name": "proxy", "p": round(0.005 * i, 3)} for i in range(1, 40)),
    *(
        {"name": "gptq", "damping": damping, "static_groups": static, "block_columns": columns}
        for damping in (0.003, 0.01, 0.03, 0.1, 0.3)
        for static in (False, True)
        for columns in (32, 64, 128)
    ),
]  # 70
STUDY: dict[str, Any] = {
    "title": "Large",
    "models": [{"source": "zoo"}],
    "formats": FORMATS,
    "methods": METHODS,
    "calibration": {"text": "stdlib", "samples": 32, "length": 256},
    "evaluation": {"text": "pydoc", "window": 256, "stride": 255, "max_tokens": 8192, "batch": 8},
}
CHUNK = 50
# Appended to each stage of a copy: the artifact holds its header, and was no work.
TRIVIAL = """

def _trivial(self, job):
    from bitlaw.artifacts import write_json

    write_json(job.out, job.header, {})


type(STAGE).run = _trivial
"""
KEYS = """
import json, sys, time
from pathlib import Path
from bitlaw.study.grid import expand
from bitlaw.study.load import load_study

root = Path(sys.argv[1])
loaded = load_study(root)
expand(loaded)  # texts are read and models hashed here, once
begin = time.perf_counter()
paths = [artifact.path for artifact in expand(loaded).artifacts]
print(json.dumps({"seconds": time.perf_counter() - begin, "paths": paths}))
"""


@dataclass(frozen=True)
class Cost:
    """What a command took: wall seconds, and the largest resident set of one of its processes in MiB."""

    seconds: float
    mebibytes: float
    output: str = ""


class Large(Checkout):
    """A copy of this checkout with the study ``STUDY`` on the whole zoo."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        shutil.rmtree(root / "data" / "zoo")
        shutil.copytree(REPOSITORY / "data" / "zoo", root / "data" / "zoo")

    def study(self, **changes: Any) -> None:
        """Write the study."""
        (self.root / "studies" / "small.yaml").write_text(json.dumps({**STUDY, **changes}), "utf-8")

    def cost(self, *command: str, at: Path | None = None) -> Cost:
        """Run ``command``, which must succeed, and return its cost."""
        env = {**os.environ, "PYTHONPATH": str(self.root / "src"), "DVC_NO_ANALYTICS": "1"}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        with tempfile.TemporaryFile("w+") as output:
            begin = time.perf_counter()
            process = subprocess.Popen(command, cwd=at or self.root, env=env, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{text[-4000:]}")
        return Cost(seconds, usage.ru_maxrss / 1024, text)

    def paths(self) -> list[str]:
        """Return the paths of all artifacts, as this copy's code has them."""
        return self.keys()[1]

    def keys(self) -> tuple[float, list[str]]:
        """Return how many seconds the expansion of the study and its keys took, and the paths of all artifacts."""
        found = json.loads(self.cost(sys.executable, "-c", KEYS, str(self.root)).output)
        return found["seconds"], found["paths"]

    def pretend(self, *stages: str) -> int:
        """Put a kilobyte of its own where each artifact of ``stages`` (default: all) would be; return how many."""
        chosen = [path for path in self.paths() if not stages or path.split("/")[1] in stages]
        for path in chosen:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(f"{path}\n" * (1000 // len(path)), "utf-8")
        return len(chosen)


Row = tuple[str, str, str, str]


def planning(folder: Path) -> Iterator[Row]:
    """Yield what keys and dry runs cost."""
    large = Large(folder / "planning")
    keys = [large.keys() for _ in range(3)]
    paths = keys[0][1]
    cells = sum(path.startswith("results/evaluate/") for path in paths)
    yield f"keys of {cells:,} cells ({len(paths):,} artifacts)", f"{sorted(s for s, _ in keys)[1]:.1f} s", "5 s", ""
    large.pretend()
    done = large.cost("snakemake", "--cores", "2", "--dry-run")
    _expect("Nothing to be done", done)
    yield "`snakemake -n`, nothing to do", *_figures(done, "20 s, 1 GiB")
    large.params(formats=[*FORMATS, ONE_MORE])
    added = large.cost("snakemake", "--cores", "2", "--dry-run")
    missing = len(METHODS) * 15
    _expect(f"{missing}", added)
    yield f"`snakemake -n`, one format more ({missing:,} cells missing)", *_figures(added, "40 s")
    added = large.cost("snakemake", "--cores", "2", "--dry-run", "--config", f"chunk={CHUNK}")
    yield f"the same, `--config chunk={CHUNK}`", *_figures(added, "40 s")


def sharing(folder: Path) -> Iterator[Row]:
    """Yield what DVC costs, with all losses in the store and without the quantized weights."""
    large = Large(folder / "sharing")
    many = large.pretend("model", "evaluate", "table", "laws", "report")
    _readable(large)
    remote, clone = folder / "remote", folder / "clone"
    for command in (
        "git init --quiet",
        "git config user.name benchmark",
        "git config user.email benchmark@example.invalid",
        f"dvc remote add --default local {remote}",
    ):
        large.cost(*command.split())
    first = large.cost("dvc", "repro", "--quiet")
    yield f"`dvc repro`, {many:,} artifacts new to DVC", *_figures(first, "")
    again = large.cost("dvc", "repro")
    _expect("didn't change", again)
    yield "`dvc repro`, nothing to do", *_figures(again, "60 s")
    yield "`dvc push`, local remote", *_figures(large.cost("dvc", "push", "--quiet"), "")
    large.cost("git", "add", "--all")
    large.cost("git", "commit", "--quiet", "-m", "results")
    cloned = large.cost("git", "clone", "--quiet", str(large.root), str(clone))
    pulled = large.cost("dvc", "pull", "--quiet", at=clone)
    found = sum(path.is_file() for path in (clone / "results").rglob("*"))
    if found != many:
        raise SystemExit(f"{found} files came back, not {many}")
    both = Cost(cloned.seconds + pulled.seconds, max(cloned.mebibytes, pulled.mebibytes))
    yield f"restore: `git clone` and `dvc pull`, {many:,} artifacts", *_figures(both, "60 s")


def _readable(large: Large) -> None:
    """Make a table and laws that `bitlaw metrics` can read of what pretends to be these."""
    nobody = Header("", "", {}, {}, "")
    (table,) = (large.root / "results" / "table").rglob("*.parquet")
    write_table(table, nobody, synthetic.table())
    (laws,) = (large.root / "results" / "laws").rglob("*.json")
    write_json(laws, nobody, {"laws": {}})


def running(folder: Path) -> Iterator[Row]:
    """Yield what a run in chunks costs if the stages are no work."""
    large = Large(folder / "running")
    for path in (large.root / "src" / "bitlaw" / "stages").glob("[a-z]*.py"):
        with path.open("a", encoding="utf-8") as file:
            file.write(TRIVIAL)
    paths = large.paths()
    done = large.cost("snakemake", "--cores", "2", "--config", f"chunk={CHUNK}", "--quiet", "all")
    found = sum(path.is_file() for path in (large.root / "results").rglob("*"))
    if found != len(paths):
        raise SystemExit(f"the run made {found} artifacts of {len(paths)}")
    cells = sum(path.startswith("results/evaluate/") for path in paths)
    yield f"trivial run: {cells:,} cells, {found:,} artifacts, chunks of {CHUNK}", *_figures(done, "180 s")


PARTS: dict[str, Callable[[Path], Iterator[Row]]] = {"planning": planning, "sharing": sharing, "running": running}


def _figures(cost: Cost, target: str) -> tuple[str, str, str]:
    return f"{cost.seconds:.1f} s", target, f"{cost.mebibytes:.0f} MiB"


def _expect(text: str, cost: Cost) -> None:
    if text not in cost.output:
        raise SystemExit(f"'{text}' is not in:\n{cost.output[-4000:]}")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bitlaw-scale-") as name:
        yield Path(name)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    chosen = parser.parse_args().parts or list(PARTS)
    for name in chosen:
        if name not in PARTS:
            parser.error(f"no part '{name}'; there are {', '.join(PARTS)}")
    rows: list[Row] = []
    for name in chosen:
        with _folder() as folder:
            for row in PARTS[name](folder):
                print(*row, sep=" | ", file=sys.stderr, flush=True)
                rows.append(row)
    print(f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    for row in [("what", "took", "at most", "memory"), ("---",) * 4, *rows]:
        print(f"| {' | '.join(row)} |")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()

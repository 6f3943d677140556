"""Every command of the README, the tutorial and the how-to pages runs, in the place that the page names."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks import PAGES, Reader, blocks
from checkout import Checkout, text
from hub import files_of, serving, variables
from projects import REPOSITORY, ZOO
from remotes import s3

ELSEWHERE = {"slurm": "tests/cluster/test_slurm.py", "install": "tests/package/test_install_blocks.py"}
# The papers' studies, thinned out until a test can run them, as the scale that the pages name.
THIN: Mapping[str, Any] = {
    "models": [{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m"]}],
    "methods": ["rtn"],
    "tasks": [],
    "evaluation": {"text": {"source": "file", "path": "evaluation.txt"}, "window": 64, "stride": 63, "max_tokens": 400},
    "calibration": {"text": {"source": "file", "path": "calibration.txt"}, "samples": 2, "length": 32},
    "laws": [],
    "predictor": False,
    "claims": False,
}
LANDSCAPE = {"along": ["random"], "kinds": ["filter"], "points": 5, "directions": 1, "tokens": 128, "window": 64}
MIX = {"granularity": "matmul", "q_ratio": [0.5, 0.9], "select": "random", "trials": 2}
STUDIES: Mapping[str, Mapping[str, Any]] = {
    "kbit": {"formats": ["int3_b64", "int4_b64"]},
    "mx": {"formats": ["mxint3_b32", "mxint4_b32"], "landscape": LANDSCAPE},
    "mixed": {"formats": ["mxint4_b32"], "mixes": [MIX]},
}


class Places:
    """Where blocks can be run, each made when a page first names it.

    Args:
        folder: an empty folder.
        finished: a checkout in which a small study has been run.
        stack: closes what the places open, such as servers.
    """

    def __init__(self, folder: Path, finished: Checkout, stack: ExitStack) -> None:
        self.folder, self.finished, self.stack = folder, finished, stack

    def checkout(self) -> Reader:
        """Return a reader in a checkout with the environment that ``make`` sets up, models beside it and a hub."""
        checkout = self._checkout("study")
        model = self._with_long_context(self.folder / "my-model")
        (checkout.root / "corpus").mkdir()
        (checkout.root / "corpus" / "my-notes.txt").write_text(text(0) + text(10), "utf-8")
        shutil.copy2(REPOSITORY / "studies" / "demo.yaml", checkout.root / "studies")
        shutil.copy2(REPOSITORY / "Makefile", checkout.root)
        (checkout.root / "constraints.txt").touch()
        self._environment_of_make(checkout.root / ".venv")
        hub = self.stack.enter_context(serving({"EleutherAI/pythia-70m": files_of(model)}, "step143000"))
        more = variables(hub, self.folder / "hf")
        return self._reader(checkout, more, {"/mnt/team/": f"{self.folder}/team/"})

    def figures(self) -> Reader:
        """Return a reader in a checkout with the studies of the papers, thinned out."""
        checkout = self._checkout("study")
        for name, changes in STUDIES.items():
            study = yaml.safe_load((REPOSITORY / "studies" / f"{name}.yaml").read_text("utf-8"))
            study["scales"]["zoo"] = {**THIN, **changes}
            (checkout.root / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(study), "utf-8")
        return self._reader(checkout, {})

    def laptop(self) -> Reader:
        """Return a reader in an empty folder, with a hub."""
        models = {f"EleutherAI/pythia-{size}": files_of(ZOO / "neox-0.1m") for size in ("70m", "160m")}
        hub = self.stack.enter_context(serving(models, "step143000"))
        (self.folder / "home").mkdir()
        (self.folder / "tmp").mkdir()
        environment = {
            **_shell(os.environ),
            **variables(hub, self.folder / "hf"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "TMPDIR": str(self.folder / "tmp"),
        }
        return Reader(self.folder / "home", environment)

    def s3(self) -> Reader:
        """Return a reader in a checkout under git, with an ``origin`` and an S3 server."""
        server = self.stack.enter_context(s3(self.folder))
        checkout = self._checkout("study")
        more = {
            "AWS_ENDPOINT_URL": server.options["endpointurl"],
            "AWS_ACCESS_KEY_ID": server.options["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": server.options["secret_access_key"],
            "AWS_DEFAULT_REGION": server.options["region"],
        }
        origin = str(self.folder / "origin")
        for command in (
            f"git clone --quiet --bare . {origin}",
            f"git remote add origin {origin}",
            "git fetch --quiet",
            "git branch --quiet --set-upstream-to origin/main",
        ):
            done = checkout.run(*command.split())
            assert done.returncode == 0, done.stderr
        # The code of the folder that the reader is in is that of all clones.
        return self._reader(checkout, more, {"git@example.org:team/study.git": origin})

    def _checkout(self, name: str) -> Checkout:
        checkout = self.finished.copy(self.folder / name)
        me = ("config user.name me", "config user.email me@example.invalid")
        for command in ("init --quiet --initial-branch main", *me, "add --all", "commit --quiet --message Study"):
            assert checkout.run("git", *command.split()).returncode == 0
        return checkout

    def _reader(self, checkout: Checkout, more: Mapping[str, str], words: Mapping[str, str] | None = None) -> Reader:
        (self.folder / "tmp").mkdir()
        who = {"NAME": "me", "EMAIL": "me@example.invalid"}
        me = {f"GIT_{role}_{what}": said for role in ("AUTHOR", "COMMITTER") for what, said in who.items()}
        environment = {**_shell(checkout.environment()), **me, **more, "TMPDIR": str(self.folder / "tmp")}
        return Reader(checkout.root, environment, words)

    def _with_long_context(self, folder: Path) -> Path:
        """Return a model that takes windows of 1,024 tokens: positions of a Llama need no weights."""
        shutil.copytree(ZOO / "llama-0.1m", folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1024}), "utf-8")
        return folder

    def _environment_of_make(self, folder: Path) -> None:
        if not (Path(sys.prefix) / "pyvenv.cfg").is_file():
            pytest.skip("the tests run in no virtual environment, so there is none to show as .venv")
        folder.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (folder / name).symlink_to(Path(sys.prefix) / name)
        (folder / "ready").touch()


def _shell(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` without what a run of the tests, or a proxy before the servers here, puts there."""
    left_out = ("BITLAW_", "SNAKEMAKE_", "MAKE", "MFLAGS", "PYTEST_")
    kept = {name: value for name, value in environment.items() if not name.startswith(left_out)}
    return {name: value for name, value in kept.items() if "proxy" not in name.lower()}


@pytest.mark.parametrize("page", PAGES)
def test_a_page(page: str, finished: Checkout, tmp_path: Path) -> None:
    readers: dict[str, Reader] = {}
    with ExitStack() as stack:
        for block in blocks(page):
            if block.place in ELSEWHERE:
                continue
            if block.place not in readers:
                make: Callable[[], Reader] = getattr(Places(tmp_path, finished, stack), block.place)
                readers[block.place] = make()
            readers[block.place].do(block)


def test_places_that_are_elsewhere_are_used_there() -> None:
    for place, module in ELSEWHERE.items():
        assert f'"{place}"' in (REPOSITORY / module).read_text("utf-8")
    places = {block.place for page in PAGES for block in blocks(page)}
    assert {place for place in places if not hasattr(Places, place)} == set(ELSEWHERE)

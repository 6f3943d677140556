"""The tutorial's installation, from a package registry into a fresh environment, and the page run in what it gave."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks import PAGES, Block, Reader, blocks
from hub import files_of, serving, variables
from projects import ZOO
from sources import committed, copied

pytestmark = [pytest.mark.install, pytest.mark.timeout(1800)]
PLACE = "install"
ADDRESS = "https://github.com/bitlaw/bitlaw"
SMALL_PACKAGE = "iniconfig"
LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where pip cannot ask its registry."""
    folder = tmp_path_factory.mktemp("registry")
    options = ("--quiet", "--no-deps", "--no-cache-dir", "--retries", "0", "--timeout", "20", "--dest", str(folder))
    command = (sys.executable, "-m", "pip", "download", *options, SMALL_PACKAGE)
    asked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if asked.returncode:
        pytest.skip(f"no package registry to install from: {asked.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def origin(registry: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what is cloned instead of the project's repository: the sources as they are here."""
    return committed(copied(tmp_path_factory.mktemp("origin") / "bitlaw"))


@pytest.fixture
def reader(origin: Path, tmp_path: Path) -> Iterator[Reader]:
    """Return a reader in an empty folder who has Python, git and the registry's settings, and no bitlaw.

    Their git takes ``origin`` for the project's address; ``python3`` is what this environment was made from.
    """
    hidden = ("BITLAW_", "SNAKEMAKE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "SETUPTOOLS_SCM", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    here = str(Path(sys.executable).parent)
    path = [folder for folder in kept["PATH"].split(os.pathsep) if folder != here]
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    environment = {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.base_prefix) / "bin"), *path]),
        "TMPDIR": str(tmp_path / "tmp"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
        "NO_PROXY": ",".join(filter(None, (kept.get("NO_PROXY"), LOCAL))),
        "no_proxy": ",".join(filter(None, (kept.get("no_proxy"), LOCAL))),
    }
    yield Reader(tmp_path / "home", environment, seconds=1500)
    shutil.rmtree(tmp_path / "home")  # gigabytes, which pytest would keep


def install(reader: Reader, page: str) -> None:
    """Let ``reader`` do the blocks of ``page`` that install, after which their bitlaw is the one that was cloned."""
    before = reader.folder
    for block in here(page, PLACE):
        reader.do(block)
    where = reader.do(Block(page, 0, "python", "import sys, bitlaw\nprint(sys.prefix, bitlaw.__file__)\n", PLACE))
    prefix, file = where.split()
    assert Path(prefix) == before / "bitlaw" / ".venv"
    assert Path(file).is_relative_to(before / "bitlaw")


def here(page: str, place: str) -> list[Block]:
    found = [block for block in blocks(page) if block.place == place]
    assert found
    return found


def test_every_page_that_installs_is_run_here() -> None:
    assert {page for page in PAGES if any(block.place == PLACE for block in blocks(page))} == {
        "docs/tutorial/laptop.md",
        "docs/tutorial/slurm.md",
    }


def test_the_laptop(reader: Reader, tmp_path: Path) -> None:
    page = "docs/tutorial/laptop.md"
    models = {f"EleutherAI/pythia-{size}": files_of(ZOO / "neox-0.1m") for size in ("70m", "160m")}
    install(reader, page)
    with serving(models, "step143000") as hub:
        reader.environment |= variables(hub, tmp_path / "hf")
        for block in here(page, "laptop"):
            reader.do(block)
    assert (reader.folder / "out" / "pythia-int4" / "model.safetensors").is_file()


def test_slurm(reader: Reader) -> None:
    """A cluster runs the rest of the page elsewhere; what was installed must know one, and the page's profile."""
    page = "docs/tutorial/slurm.md"
    install(reader, page)
    study = here(page, "slurm")[0].code.partition("snakemake")[0]
    planned = reader.do(Block(page, 0, "sh", f"{study}snakemake --profile workflow/profiles/slurm --dry-run\n", PLACE))
    assert "evaluate" in planned

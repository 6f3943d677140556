"""bitlaw doctor: what it says of machines that lack something."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bitlaw import gpu
from bitlaw.cli.main import main
from bitlaw.doctor import CHECKS, base
from bitlaw.doctor.base import Finding
from bitlaw.doctor.checks import space
from bitlaw.models import hub
from projects import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "p")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return project


def of(check: str, root: str | None = None) -> dict[str, Finding]:
    return {one.name: one for one in CHECKS[check](root)}


def test_it_looks_at_all_that_runs_need(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {"torch", "disk of results", "snakemake", "dvc", "dvc remote", "hub", "kernels", "git", "project"} <= set(
        found
    )
    assert all(one["level"] == "ok" or one["fix"] or one["name"] == "gpu" for one in found.values())
    assert found["hub"]["level"] == "warn" and "HF_HUB_OFFLINE" in found["hub"]["says"]
    assert found["project"]["says"].endswith("study small")


def test_a_broken_study_fails(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.params("study: small\nformats: [int4_b63]\n")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  project" in said and "params.yaml:2: formats[0]" in said and "-> mend that line" in said
    assert "1 failures" in said


def test_no_project_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert of("project")["project"].level == "warn"


def test_remotes(project: Project, tmp_path: Path) -> None:
    assert "no DVC repository" in of("project")["dvc remote"].says
    for argv in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(argv, cwd=project.root, check=True)
    assert of("project")["dvc remote"].says.startswith("none")
    (tmp_path / "team").mkdir()
    config = project.root / ".dvc" / "config"
    for address, level in ((tmp_path / "team" / "new", "ok"), (tmp_path / "gone" / "away", "warn")):
        config.write_text(f"[core]\n    remote = team\n['remote \"team\"']\n    url = {address}\n")
        assert of("project")["dvc remote"].level == level
    config.write_text(
        "[core]\n    remote = team\n['remote \"team\"']\n    url = s3://nowhere\n    endpointurl = http://127.0.0.1:9\n"
    )
    found = of("project")["dvc remote"]
    assert found.level == "warn" and found.fix


def test_a_folder_without_git(project: Project) -> None:
    found = of("project")["git"]
    assert found.level == "warn" and "git -C" in found.fix
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)
    assert of("project")["git"].level == "ok"


@pytest.mark.parametrize(("free", "level"), [(2**29, "fail"), (5 * 2**30, "warn"), (50 * 2**30, "ok")])
def test_disks(monkeypatch: pytest.MonkeyPatch, free: int, level: str, tmp_path: Path) -> None:
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = of("space", str(tmp_path))
    assert found["disk of results"].level == level and bool(found["disk of results"].fix) == (level != "ok")


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "version", lambda name: {"snakemake": "9.1.0", "dvc": None}.get(name, "99"))
    found = of("packages")
    assert found["snakemake"].says == "9.1.0, but 9.20 or newer is needed" and found["snakemake"].level == "warn"
    assert found["dvc"].says.startswith("not installed") and "pip install" in found["dvc"].fix
    assert found["transformers"].level == "ok"
    monkeypatch.setattr(base, "version", lambda name: None)
    assert of("packages")["transformers"].level == "fail"
    assert of("torch")["torch"].level == "fail"


def test_versions_are_compared_by_their_numbers() -> None:
    assert (
        base.is_older("9.3", "9.20") and not base.is_older("2.13.0+cpu", "2.6") and not base.is_older("9.20", "9.20.0")
    )


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda at: "Some GPU")
    for free, level in ((2**36, "ok"), (2**20, "warn")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda at, free=free: (free, 2**36))
        assert of("torch")["gpu 0"].level == level
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert "nvidia-smi" in of("torch")["gpu"].fix or "CUDA build" in of("torch")["gpu"].fix


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from bitlaw.formats.kernels import cpu

    def none() -> None:
        warnings.warn("no compiled kernels, so rounding is slower: no compiler", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(cpu, "shared_library", none)
    found = of("kernels")["kernels"]
    assert found.level == "warn" and "no compiler" in found.says and "g++" in found.fix


@pytest.mark.parametrize(
    ("version", "level", "says"),
    [("3.2.0", "warn", "Triton 3.2.0 is too old"), ("3.10.1+git1", "ok", "Triton 3.10.1"), (None, "warn", "no Triton")],
)
def test_the_triton_of_a_gpu(version: str | None, level: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "triton_version", lambda: version)
    found = of("kernels")["gpu kernels"]
    assert found.level == level and says in found.says
    assert gpu.has_triton() == (level == "ok")


def test_versions_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # as if it were not installed
    gpu.triton_version.cache_clear()
    assert gpu.triton_version() is None and not gpu.has_triton()
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.3.1"))
    gpu.triton_version.cache_clear()
    assert gpu.triton_version() == "3.3.1" and gpu.has_triton()
    gpu.triton_version.cache_clear()


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(405)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_the_hub_answers_or_not(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert hub.unreachable() is None and of("hub")["hub"].level == "ok"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub.unreachable() and of("hub")["hub"].level == "warn"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.configuration("somebody/nothing-there") is None

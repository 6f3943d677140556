"""The hub: downloads from a stand-in on this machine, and one clear line where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import COMMIT, files_of, serving, variables

Saved = Callable[[str], Path]
LOAD = """
import sys, json
from bitlaw.errors import UserError
from bitlaw.models.load import load_model, load_tokenizer, local_folder
location = {"pretrained": sys.argv[1], "revision": sys.argv[2], "trust_remote_code": False}
try:
    folder = local_folder(location)
    if len(sys.argv) > 3:
        model, tokenizer = load_model(location), load_tokenizer(location)
        print(json.dumps([str(folder), sum(p.numel() for p in model.parameters()), len(tokenizer)]))
    else:
        print(json.dumps(sorted(path.name for path in folder.iterdir())))
except UserError as error:
    print("UserError:", error)
"""


@pytest.fixture
def files(saved: Saved) -> dict[str, bytes]:
    return files_of(saved("llama")) | {"README.md": b"read me"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[str]:
    with serving({"someone/tiny": files}, "v1") as address:
        yield address


def run(endpoint: str, home: Path, *args: str, code: str = LOAD, **env: str) -> str:
    fields = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    fields |= {**variables(endpoint, home), **env}
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=fields, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_downloads_once_and_then_needs_no_network(hub: str, saved: Saved, tmp_path: Path) -> None:
    from tiny import tiny_model, tiny_tokenizer

    folder, parameters, tokens = json.loads(run(hub, tmp_path, "someone/tiny", COMMIT, "load"))
    assert parameters == sum(p.numel() for p in tiny_model("llama").parameters())
    assert tokens == len(tiny_tokenizer())
    names = {path.name for path in Path(folder).iterdir()}
    assert "README.md" not in names
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    for env in ({"HF_HUB_OFFLINE": "1"}, {}):
        assert set(json.loads(run("http://127.0.0.1:9", tmp_path, "someone/tiny", COMMIT, **env))) == names


def test_without_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    for env in ({}, {"HF_HUB_OFFLINE": "1"}, {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}):
        said = run("http://127.0.0.1:9", tmp_path, "someone/tiny", "v1", **env)
        assert said.count("\n") == 0
        assert said.startswith("UserError: someone/tiny@v1: ")
        assert "'hf download someone/tiny --revision v1'" in said
        assert "HF_HOME" in said and "source: path" in said


def test_what_the_hub_does_not_have(hub: str, files: dict[str, bytes], tmp_path: Path) -> None:
    assert "has no revision 'v9'" in run(hub, tmp_path, "someone/tiny", "v9")
    assert "the hub has no model 'someone/other'" in run(hub, tmp_path, "someone/other", "v1")
    del files["model.safetensors"]
    assert "no *.safetensors weights at this revision" in run(hub, tmp_path, "someone/tiny", "v1")


def test_a_configuration_is_had_without_the_weights(hub: str, tmp_path: Path) -> None:
    code = "import sys; from bitlaw.models.hub import configuration; print(configuration(sys.argv[1]))"
    folder = Path(run(hub, tmp_path, "someone/tiny", code=code))
    assert folder.name == COMMIT and [path.name for path in folder.iterdir()] == ["config.json"]
    assert run(hub, tmp_path, "someone/other", code=code) == "None"
    # From the cache without network, and no answer for another within seconds.
    assert run("http://127.0.0.1:9", tmp_path, "someone/tiny", code=code) == str(folder)
    began = time.monotonic()
    assert run("http://127.0.0.1:9", tmp_path, "someone/other", code=code) == "None"
    assert time.monotonic() - began < 15

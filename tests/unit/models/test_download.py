"""The hub: downloads from a stand-in on this machine, and one clear line where there is none."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

Saved = Callable[[str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
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


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download of ``someone/tiny`` needs."""

    files: dict[str, bytes] = {}

    def do_GET(self) -> None:
        path, _, _ = unquote(self.path).partition("?")
        if path.startswith("/api/models/someone/tiny"):
            if f"/revision/{COMMIT}" in path or "/revision/v1" in path:
                names = [{"rfilename": name} for name in self.files]
                self.reply(json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": names}).encode())
            elif "/tree/" in path and COMMIT in path:
                entries = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in self.files.items()
                ]
                self.reply(json.dumps(entries).encode())
            else:
                self.fail("RevisionNotFound")
        elif path.startswith(f"/someone/tiny/resolve/{COMMIT}/") and path.rpartition("/")[2] in self.files:
            self.reply(self.files[path.rpartition("/")[2]])
        else:
            self.fail("RepoNotFound")

    do_HEAD = do_GET

    def reply(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def fail(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(saved: Saved) -> Iterator[str]:
    Hub.files = {path.name: path.read_bytes() for path in saved("llama").iterdir()} | {"README.md": b"read me"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def run(endpoint: str, home: Path, *args: str, **env: str) -> str:
    fields = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    fields |= {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
        **env,
    }
    done = subprocess.run([sys.executable, "-c", LOAD, *args], capture_output=True, text=True, env=fields, timeout=120)
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


def test_what_the_hub_does_not_have(hub: str, tmp_path: Path) -> None:
    assert "has no revision 'v9'" in run(hub, tmp_path, "someone/tiny", "v9")
    assert "the hub has no model 'someone/other'" in run(hub, tmp_path, "someone/other", "v1")
    del Hub.files["model.safetensors"]
    assert "no *.safetensors weights at this revision" in run(hub, tmp_path, "someone/tiny", "v1")

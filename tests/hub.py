"""A stand-in for the Hugging Face hub on this machine: as much of it as downloads of models need."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = Mapping[str, bytes]


class _Hub(BaseHTTPRequestHandler):
    """Answers for the ``models`` of its subclass: files by repository, all at ``COMMIT``, ``main`` and the ``tags``."""

    models: Mapping[str, Files] = {}
    tags: tuple[str, ...] = ()

    def do_GET(self) -> None:
        path, _, _ = unquote(self.path).partition("?")
        for name, files in self.models.items():
            if path.startswith(f"/api/models/{name}"):
                return self._describe(name, path, files)
            places = tuple(f"/{name}/resolve/{revision}/" for revision in (COMMIT, "main", *self.tags))
            if path.startswith(places) and path.rpartition("/")[2] in files:
                return self._reply(files[path.rpartition("/")[2]])
        return self._fail("RepoNotFound")

    do_HEAD = do_GET

    def _describe(self, name: str, path: str, files: Files) -> None:
        if any(f"/revision/{revision}" in path for revision in (COMMIT, *self.tags)):
            names = [{"rfilename": file} for file in files]
            self._reply(json.dumps({"id": name, "sha": COMMIT, "siblings": names}).encode())
        elif "/tree/" in path and COMMIT in path:
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in files.items()
            ]
            self._reply(json.dumps(entries).encode())
        else:
            self._fail("RevisionNotFound")

    def _reply(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _fail(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a model's folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def serving(models: Mapping[str, Files], *tags: str) -> Iterator[str]:
    """Yield the address of a hub that has ``models`` (files by repository) at ``COMMIT``, ``main`` and ``tags``."""
    handler = type("Hub", (_Hub,), {"models": models, "tags": tags})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def variables(address: str, home: Path) -> dict[str, str]:
    """Return the variables under which the hub's library asks ``address`` and keeps what it gets in ``home``."""
    return {
        "HF_HOME": str(home),
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
    }

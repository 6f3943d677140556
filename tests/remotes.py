"""Real remotes on this machine for DVC: a folder, an S3 server, an SSH server."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Place:
    """Where a remote is.

    Attributes:
        url: its address, as ``dvc remote add`` takes it.
        options: what ``dvc remote modify`` must say of it; secrets among them.
        environment: variables that the clients need.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def local(folder: Path) -> Iterator[Place]:
    """Yield a remote that is a folder."""
    yield Place(str(folder / "remote"))


@contextmanager
def s3(folder: Path) -> Iterator[Place]:
    """Yield a remote that is a bucket of an S3 server on loopback."""
    pytest.importorskip("dvc_s3", reason="the S3 remote needs dvc-s3")
    server_of = pytest.importorskip("moto.server", reason="the S3 server of the test is moto's")
    import boto3

    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address, secrets = f"http://{host}:{port}", {"access_key_id": "me", "secret_access_key": "mine"}
        region = "us-east-1"
        keys = {f"aws_{name}": value for name, value in secrets.items()}
        # What moto's servers of one process hold outlives them: whoever comes later begins with nothing.
        urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
        boto3.client("s3", endpoint_url=address, region_name=region, **keys).create_bucket(Bucket="team")
        yield Place("s3://team/bitlaw", {"endpointurl": address, "region": region, **secrets})
    finally:
        server.stop()


@contextmanager
def ssh(folder: Path) -> Iterator[Place]:
    """Yield a remote behind an SSH server on loopback, with a host key and a user's key of its own."""
    pytest.importorskip("dvc_ssh", reason="the SSH remote needs dvc-ssh")
    daemon = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if daemon is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root puts its unprivileged half
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    public = (folder / "host.pub").read_text().split()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    config = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([daemon, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        _wait(port, server, folder / "sshd.log")
        options = {"keyfile": str(folder / "user")}
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}/remote"
        yield Place(url, options, {"HOME": str(home)})
    finally:
        server.terminate()
        server.wait(10)


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"sshd did not start: {log.read_text()}")


PLACES = {"folder": local, "s3": s3, "ssh": ssh}

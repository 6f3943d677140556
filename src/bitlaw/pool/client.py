"""Hands one command to the pool of warm workers; without a pool, runs it in a process of its own.

Run as ``python -S -E .../bitlaw/pool/client.py ARGS`` in place of ``python -m bitlaw ARGS``: same output, same exit
code. ``BITLAW_POOL`` names the pool's socket. It is started once per artifact, so it imports nothing but what the
interpreter has built in: ``_socket`` costs nothing, where ``socket``, ``json`` and ``signal`` would double its time.

The request is one line, a Python literal of ``argv``, ``cwd`` and ``env``, sent along with the descriptors of standard
output and standard error. The answers are lines too: ``started``, then ``exit CODE`` or ``died HOW``.
"""

from __future__ import annotations

import _socket
import os
import sys

PASSED = ("BITLAW_", "HF_")


def main(arguments: list[str]) -> None:
    """Run ``arguments`` and end this process with their exit code."""
    try:
        code = in_pool(os.environ.get("BITLAW_POOL", ""), arguments)
    except KeyboardInterrupt:
        os._exit(130)
    if code is None:
        os.execv(sys.executable, [sys.executable, "-m", "bitlaw", *arguments])  # noqa: S606
    os._exit(code)


def in_pool(address: str, arguments: list[str]) -> int | None:
    """Run ``arguments`` in the pool at ``address``.

    Returns:
        The exit code, or None if no worker has begun the work, so that it can safely be done elsewhere.
    """
    if not address:
        return None
    env = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(address)
        streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (1, 2))
        request = {"argv": arguments, "cwd": os.getcwd(), "env": env}  # noqa: PTH109  (pathlib is slow to import)
        line = ascii(request).encode() + b"\n"
        sent = connection.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
        if sent < len(line):  # to send even nothing would fail once a quick job is over
            connection.sendall(line[sent:])
    except OSError:
        return None  # without its end, a request is not begun
    answer = _answer(connection)
    if not answer:
        return None
    verdict, _, value = answer.partition(" ")
    if verdict == "exit":
        return int(value)
    how = f"worker died ({value})" if verdict == "died" else "the pool of workers ended"
    os.write(2, f"bitlaw: {how} while making: {' '.join(arguments)}\n".encode("utf-8", "backslashreplace"))
    return 1


def _answer(connection: _socket.socket) -> str:
    """Return the last line that the pool sent before it hung up or the job was over; empty if there was none."""
    received = b""
    try:
        while not (received.endswith(b"\n") and received != b"started\n"):
            part = connection.recv(4096)
            if not part:
                break
            received += part
    except OSError:
        pass  # the pool is gone; what was received until then says whether the work had begun
    lines = received.decode().splitlines()
    return lines[-1] if lines else ""


if __name__ == "__main__":
    main(sys.argv[1:])

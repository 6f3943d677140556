"""What a warm worker does: take a request, run it with the client's output streams, answer with the exit code."""

from __future__ import annotations

import ast
import ctypes
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from bitlaw.pool.client import PASSED

Call = Callable[[list[str]], "int | None"]

TAKEN, DONE = b"+", b"-"
"""What a worker tells the server: a job is taken (sent along with the client's connection), it is done."""

_REQUEST_SECONDS = 30.0


def work(listener: socket.socket, control: socket.socket, call: Call) -> NoReturn:
    """Serve requests from ``listener`` one after the other, telling the server through ``control``, for ever."""
    own = Streams()
    while True:
        connection, _ = listener.accept()
        with connection:
            request, streams = receive(connection)
            if request is None:
                continue
            # The server holds the connection too: it ends this process if the client goes away, and tells the client
            # if this process dies. It must have it before the job begins.
            socket.send_fds(control, [TAKEN], [connection.fileno()])
            connection.sendall(b"started\n")
            code = own.lend(streams, partial(run, call, request))
            control.sendall(DONE)
            with suppress(OSError):  # the client has just gone away, too late to matter
                connection.sendall(b"exit %d\n" % code)
        if not own.sound:
            raise SystemExit("output of a job could not be written; the worker is replaced")


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Return the request and the descriptors of the client's standard output and error.

    The request is None, without descriptors, if the client has gone away or sent something else.
    """
    line, streams = b"", list[int]()
    connection.settimeout(_REQUEST_SECONDS)
    try:
        while not line.endswith(b"\n"):
            part, received, _, _ = socket.recv_fds(connection, 65536, 2)
            streams += received
            if not part:
                break
            line += part
        connection.settimeout(None)
        if len(streams) == 2 and line.endswith(b"\n") and not hung_up(connection):
            return ast.literal_eval(line.decode()), streams
    except (OSError, ValueError, SyntaxError):
        pass  # the client is gone, or is none of ours: nobody is there to be told
    for stream in streams:
        os.close(stream)
    return None, []


def hung_up(connection: socket.socket) -> bool:
    """Return whether the other side has closed ``connection``, which has nothing more to send."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


class Streams:
    """Standard output and error of this process, lent to one job at a time.

    The Python objects stay the same, as loggers keep them; the descriptors 1 and 2 below them are exchanged.
    """

    def __init__(self) -> None:
        self.sound = True
        self._objects = sys.stdout, sys.stderr
        self._descriptors = [os.dup(1), os.dup(2)]
        self._flush_c = ctypes.CDLL(None).fflush

    def lend(self, streams: list[int], job: Callable[[], int]) -> int:
        """Run ``job`` with the descriptors ``streams`` as its output, close them, and return its exit code."""
        self._put(streams)
        for stream in streams:
            os.close(stream)
        try:
            code = job()
        finally:
            sys.stdout, sys.stderr = self._objects
            self._flush()
            self._put(self._descriptors)
        return code if self.sound else code or 120  # 120 is Python's own code for output that cannot be written

    def _put(self, descriptors: list[int]) -> None:
        for number, descriptor in enumerate(descriptors, start=1):
            os.dup2(descriptor, number)

    def _flush(self) -> None:
        for stream in self._objects:
            try:
                stream.flush()
            except (OSError, ValueError):  # a closed pipe, a full disk; or the job has closed the stream
                self.sound = False  # what is left in the buffer must not come out in the next job
        self._flush_c(None)


def run(call: Call, request: Mapping[str, Any]) -> int:
    """Call ``call`` as if in a process of its own: with the client's folder and variables. Return its exit code."""
    argv, environment = sys.argv, dict(os.environ)
    try:
        os.chdir(request["cwd"])
        _set_environment(request["env"])
        sys.argv = ["bitlaw", *request["argv"]]
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        return call(list(request["argv"])) or 0
    except SystemExit as end:
        return _exit_code(end.code)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        _print_traceback()
        return 1
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
        os.chdir("/")


def _set_environment(variables: Mapping[str, str]) -> None:
    """Take over the client's ``variables``, and drop those of the server's that it would have passed if it had them."""
    for name in [name for name in os.environ if name.startswith(PASSED)]:
        del os.environ[name]
    os.environ.update(variables)
    # A job that waited for a job of its own pool could wait for ever.
    os.environ.pop("BITLAW_POOL", None)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _print_traceback() -> None:
    # If standard error is the very thing that is broken, the exit code still says that the job failed.
    with suppress(OSError, ValueError):
        traceback.print_exc()

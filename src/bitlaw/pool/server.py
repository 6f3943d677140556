"""The pool's server: imports the heavy libraries once, then forks workers that all accept from one socket.

Run as ``python -m bitlaw.pool.server --socket PATH --workers N --watch PID``. This process runs no job. It replaces
workers that died, ends a worker whose client went away, and ends itself with the process it watches.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bitlaw.pool import PRELOAD, TARGET, listens
from bitlaw.pool.worker import DONE, TAKEN, Call, work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

_BACKLOG = 4096
_TICK = 0.5  # seconds between looks at the watched process
_FUTILE = 10  # workers in a row that died before any job
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Watched:
    """The process that the pool serves."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._born = _birth(pid)

    def ended(self) -> bool:
        """Return whether it has ended; another process that got its number is not taken for it."""
        return self._born is None or _birth(self._pid) != self._born


def _birth(pid: int) -> str | None:
    """Return the start time of process ``pid`` (empty where the system does not tell), None if it is not running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it is there, and another user's
    if sys.platform != "linux":
        return ""
    try:
        # proc(5): the name in parentheses may hold blanks; after it come the state (3rd field) ... starttime (22nd).
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(eq=False)
class Worker:
    """One forked process, as the server sees it; ``client`` is the connection of the job in hand."""

    pid: int
    control: socket.socket
    client: socket.socket | None = None
    used: bool = False

    def kill(self) -> None:
        """End it and the processes that its job has started."""
        # It leads a process group of its own, except in the first moments of its life.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Server:
    """Keeps ``size`` workers until the watched process ends or nothing has been asked for ``idle`` seconds."""

    def __init__(self, size: int, watched: Watched, idle: float) -> None:
        self._size, self._watched, self._idle = size, watched, idle
        self._pid = os.getpid()
        self._workers: list[Worker] = []
        self._futile = 0
        self._ending = False
        self._last_use = time.monotonic()
        # poll() holds its list in this process; an epoll descriptor would be shared with the forked workers.
        self._selector = selectors.PollSelector()
        self._bell, self._button = socket.socketpair()

    def run(self, listener: socket.socket, call: Call) -> None:
        """Let workers answer at ``listener`` by ``call``; return when the pool is to end, with no worker left."""
        self._bell.setblocking(False)
        self._button.setblocking(False)
        signal.set_wakeup_fd(self._button.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._bell, selectors.EVENT_READ, self._reap)
        self._last_use = time.monotonic()
        try:
            while not self._ending and not self._watched.ended() and not self._unused():
                while len(self._workers) < self._size:
                    self._fork(listener, call)
                for key, _ in self._selector.select(_TICK):
                    key.data()
        finally:
            listener.close()
            for worker in self._workers:
                worker.kill()
                os.waitpid(worker.pid, 0)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Signal handler: end the pool at the next occasion."""
        self._ending = True

    def _unused(self) -> bool:
        if any(worker.client for worker in self._workers):
            self._last_use = time.monotonic()
        return time.monotonic() - self._last_use > self._idle

    def _fork(self, listener: socket.socket, call: Call) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become_worker(lambda: work(listener, theirs, call))
        theirs.close()
        ours.setblocking(False)
        worker = Worker(pid, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, worker))

    def _become_worker(self, job: Callable[[], NoReturn]) -> NoReturn:
        """In the new process: undo what makes it a server, then do ``job``."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            end_with(self._pid)
            kept = [worker.client for worker in self._workers] + [worker.control for worker in self._workers]
            for held in (*kept, self._bell, self._button):
                if held is not None:
                    held.close()
            self._selector.close()
            job()
        except SystemExit as end:
            print(f"worker {os.getpid()}: {end.code}", file=sys.__stderr__, flush=True)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(1)

    def _hear(self, worker: Worker) -> None:
        """Take in what ``worker`` has said."""
        while worker in self._workers:
            try:
                word, received, _, _ = socket.recv_fds(worker.control, 1, 1)
            except (BlockingIOError, ConnectionResetError):
                return
            if word == TAKEN:
                worker.used = True
                self._futile = 0
                worker.client = client = socket.socket(fileno=received[0])
                left = partial(self._client_left, worker, client)
                self._selector.register(client, selectors.EVENT_READ, left)
            elif word == DONE:
                self._last_use = time.monotonic()
                self._release(worker)
            else:  # it has died
                if worker.control in self._selector.get_map():
                    self._selector.unregister(worker.control)
                return

    def _client_left(self, worker: Worker, client: socket.socket) -> None:
        """End ``worker`` unless it has finished the job of ``client``."""
        self._hear(worker)  # it says so before it answers, so that is known by now
        if worker.client is client:
            print(f"worker {worker.pid}: its client went away", flush=True)
            self._release(worker)
            worker.kill()

    def _release(self, worker: Worker) -> None:
        if worker.client is not None:
            self._selector.unregister(worker.client)
            worker.client.close()
            worker.client = None

    def _reap(self) -> None:
        """See which workers have died, and tell their clients."""
        with suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass
        for worker in list(self._workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: Worker, code: int) -> None:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        print(f"worker {worker.pid}: ended ({how})", flush=True)
        self._hear(worker)
        if worker.client is not None:
            with suppress(OSError):  # the client may have gone as well
                worker.client.send(f"died {how}\n".encode(), socket.MSG_DONTWAIT)
        self._release(worker)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)  # what its job has started
        if worker.control in self._selector.get_map():
            self._selector.unregister(worker.control)
        worker.control.close()
        self._workers.remove(worker)
        self._futile += not worker.used
        if self._futile >= _FUTILE:
            raise SystemExit(f"{_FUTILE} workers in a row died before they took a job ({how})")


def end_with(parent: int) -> None:
    """Let this process be killed when its parent, process ``parent``, ends in whatever way.

    Raises:
        OSError: Linux does not let it.
    """
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=follow, args=(parent,), daemon=True).start()


def follow(parent: int, seconds: float = _TICK) -> NoReturn:
    """End this process as soon as its parent is not ``parent`` any more; look every ``seconds``."""
    while os.getppid() == parent:
        time.sleep(seconds)
    os._exit(1)


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, for this user alone.

    Raises:
        SystemExit: another pool listens there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if listens(str(path)):
            raise SystemExit(f"{path}: another pool listens there") from None
        path.unlink()  # left behind by a server that was killed
        listener.bind(str(path))
    finally:
        os.umask(mask)
    path.with_name("pid").write_text(str(os.getpid()), "ascii")
    listener.listen(_BACKLOG)
    return listener


def load(name: str) -> Any:
    """Import ``module`` or ``module:attribute`` and return it."""
    module, _, attribute = name.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def threads() -> int:
    """Return how many threads this process has, including those that Python does not know of."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bitlaw.pool.server", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="where to listen, in a folder of its own")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--watch", type=int, required=True, metavar="PID", help="end when this process ends")
    parser.add_argument("--idle", type=float, default=900.0, metavar="SECONDS", help="end after so long without work")
    parser.add_argument("--target", default=TARGET, help="module:function that runs a job")
    parser.add_argument("--preload", default=",".join(PRELOAD), help="what to import before the workers are forked")
    options = parser.parse_args(arguments)
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by the libraries when they are imported
    watched = Watched(options.watch)
    server = Server(options.workers, watched, options.idle)
    # From now on, so that the socket will be removed; during the imports, it waits until they are done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.end)
    listener = listen(options.socket)
    try:
        for name in filter(None, options.preload.split(",")):
            load(name)
        call = load(options.target)
        gc.collect()
        gc.freeze()  # the workers share these objects as long as no collection touches them
        if threads() > 1:
            print("warning: an import has started threads; the workers are forked without them", flush=True)
        server.run(listener, call)
    finally:
        for path in (options.socket, options.socket.with_name("pid")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody keeps something else there
            options.socket.parent.rmdir()


if __name__ == "__main__":
    main()

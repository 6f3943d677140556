"""Making what is missing in several processes, without Snakemake: whole models to each, on any number of GPUs.

All artifacts of a model are made in one process, so that it stays in memory there, and nothing has to be handed over.
Models are taken in the order of the study: name the largest first, and no process is left with it at the end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError
from bitlaw.study.make import make_each
from bitlaw.study.seconds import Seconds

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

_shared: dict[str, Synchronized[int]] = {}
"""In a worker: ``made``, the number of artifacts that all workers have made."""


def by_model(orders: Sequence[Mapping[str, Any]]) -> tuple[list[list[Mapping[str, Any]]], list[Mapping[str, Any]]]:
    """Return ``orders`` model by model, and those of the whole study; parents stay before children."""
    models: dict[str, list[Mapping[str, Any]]] = {}
    whole: list[Mapping[str, Any]] = []
    for one in orders:
        _, _, *label, _ = one["path"].split("/")
        (models.setdefault(label[0], []) if label else whole).append(one)
    return list(models.values()), whole


def make_in(
    workers: int,
    groups: Sequence[Sequence[Mapping[str, Any]]],
    root: Path,
    hold: tuple[str, ...],
    progress: Callable[[int], None],
) -> Iterator[tuple[str, Exception]]:
    """Make ``groups`` of orders, each in one of ``workers`` processes.

    On a machine with GPUs each has as many processes as the others. An interrupt ends all of them: what is made stays.

    Args:
        workers: how many processes.
        groups: orders that need none of another group; see ``by_model``.
        root: the project folder.
        hold: as for ``make_each``.
        progress: called a few times a second with the number of artifacts that were made.

    Yields:
        As ``make_each``. An error that is no ``UserError`` comes as a ``RuntimeError`` whose text is its traceback.

    Raises:
        UserError: a process died.
    """
    context = multiprocessing.get_context("spawn")  # a process that has used a GPU cannot be forked
    count = context.Value("q", 0)
    gpus = (_gpus() or [None])[:workers]
    pools = []
    for number, gpu in enumerate(gpus):
        size = len(range(number, workers, len(gpus)))
        start = (count, gpu, os.getpid())
        pools.append(ProcessPoolExecutor(size, mp_context=context, initializer=_begin, initargs=start))
    left = iter(groups)
    running: dict[Future[list[tuple[str, str, str | None]]], ProcessPoolExecutor] = {}

    def begin(pool: ProcessPoolExecutor) -> None:
        if (group := next(left, None)) is not None:
            running[pool.submit(_work, list(group), root, hold)] = pool

    try:
        # Dealt out like cards, so that each GPU gets as many large models as the others; who is done takes the next.
        for number in range(workers):
            begin(pools[number % len(pools)])
        while running:
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            progress(count.value)
            for future in done:
                begin(running.pop(future))
                yield from ((path, _error(text, place)) for path, text, place in future.result())
    except BaseException as error:
        # Children of an interrupted run would go on with what they have begun.
        for process in [process for pool in pools for process in list((pool._processes or {}).values())]:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            message = "a process died, most likely for want of memory; what is made is kept: run again with fewer"
            raise UserError(message, place="--workers") from None
        raise
    finally:
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _error(text: str, place: str | None) -> Exception:
    return RuntimeError(text) if place is None else UserError(text, place=place or None)


def _gpus() -> list[str | None]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Counting them does not begin to use them.
    return [*named.split(",")] if named else [str(number) for number in range(torch.cuda.device_count())]


def _begin(count: Synchronized[int], gpu: str | None, parent: int) -> None:
    """Prepare a process: its GPU, the counter that all share, and its end when that of ``parent`` comes."""
    _shared["made"] = count
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends this process
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(orders: list[Mapping[str, Any]], root: Path, hold: tuple[str, ...]) -> list[tuple[str, str, str | None]]:
    """Make ``orders``; return path, text and place of each error, the place null for one that is not the user's."""
    errors: list[tuple[str, str, str | None]] = []
    count = _shared["made"]
    with Seconds(root) as seconds:

        def made(order: Mapping[str, Any], took: float) -> None:
            seconds.add(order, took)
            with count.get_lock():
                count.value += 1

        for path, error in make_each(orders, root, hold=hold, made=made):
            if isinstance(error, UserError):
                errors.append((path, error.message, error.place or ""))
            else:
                errors.append((path, "".join(traceback.format_exception(error)), None))
    return errors

"""Work done ahead in other processes, its answers in order, no more of them than memory holds."""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Generic, TypeVar

from napari_pathsam.datasets.base import Pixels, Sample

T = TypeVar("T")
R = TypeVar("R")

EACH = 2
"""How many items are given to each worker before their answers are asked for."""

_work: Callable[[Any], Any] | None = None  # of a worker process


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    if torch := sys.modules.get("torch"):  # workers are as many as there are cores for them
        torch.set_num_threads(1)


def _do(item: Any) -> Any:
    assert _work is not None
    return _work(item)


class Ahead(Generic[T, R]):
    """``work(item)`` in worker processes, which live until :meth:`close`.

    ``work`` and the items are pickled. Processes are started afresh (not forked, which is not safe
    beside threads), so a script that uses them must guard its own start with
    ``if __name__ == "__main__":``. With ``workers`` 0 everything is done here, when it is asked
    for. An error in a worker is raised here, when its turn comes.
    """

    def __init__(self, work: Callable[[T], R], workers: int) -> None:
        self._work, self._workers = work, workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, items: Iterable[T]) -> Iterator[R]:
        """Answers in the order of the items; closing the generator forgets what is under way."""
        if not self._workers:
            yield from map(self._work, items)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._work,),
            )
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(_do, item))
                if len(waiting) >= EACH * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Ahead[T, R]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_ahead(samples: Iterable[Sample], *, workers: int = 0) -> Iterator[tuple[Sample, Pixels]]:
    """Every sample with its image and labels, read ahead in worker processes.

    At most ``2 · workers`` of them are in memory before they are asked for.
    """
    listed = list(samples)
    with Ahead(Sample.load, workers) as ahead:
        yield from zip(listed, ahead.map(listed), strict=True)

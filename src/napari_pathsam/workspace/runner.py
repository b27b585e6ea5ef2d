"""Runner: where slow work runs; the docks have one with threads, tests one that works at once."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Job(Protocol):
    """Work that was handed to a runner."""

    def cancel(self) -> None:
        """Do not start it any more; when it has started, neither callback is called."""


class Runner(Protocol):
    """Runs functions away from the caller and answers in the caller's thread."""

    def submit(
        self,
        fn: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> Job:
        """Call ``fn(*args)``; then ``then(result)`` or ``failed(error)``, in the GUI thread."""


class _Done:
    def cancel(self) -> None:
        """Nothing is left to cancel."""


class InlineRunner:
    """Runs everything at once, in the caller's thread: for tests and the command line."""

    def submit(
        self,
        fn: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> Job:
        """Run ``fn`` and call back before returning."""
        try:
            result = fn(*args)
        except Exception as error:  # noqa: BLE001  whatever a worker raises is shown, not lost
            failed(error)
        else:
            then(result)
        return _Done()


class _Collector:
    """Python's collector, which runs in whichever thread comes by."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders, self._was_on = 0, False

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Not in this block, in any thread: in a worker it would free what is the GUI's."""
        with self._lock:
            if not self._holders:
                self._was_on = gc.isenabled()
                gc.disable()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders and self._was_on:
                    gc.enable()


no_collecting = _Collector().held_back

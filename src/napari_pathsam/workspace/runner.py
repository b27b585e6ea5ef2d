"""Runner: where slow work runs; the docks have one with threads, tests one that works at once."""

from __future__ import annotations

from collections.abc import Callable
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

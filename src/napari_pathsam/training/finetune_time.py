"""What training costs: seconds on each kind of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Spent:
    """Seconds spent on each kind of work, and what follows for the rest."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._seconds = dict.fromkeys(("encode", "step", "score"), 0.0)
        self._times = dict.fromkeys(("encode", "step", "score"), 0)

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """What runs inside is work of this kind."""
        started = perf_counter()
        yield
        self._seconds[kind] += perf_counter() - started
        self._times[kind] += 1

    def left(self, steps: int, scorings: float) -> float | None:
        """Seconds that so many steps and scored tiles still take; None: not known yet.

        What goes on between them, previews and writing, goes on at the rate it did.
        """
        if not self._times["step"]:
            return None
        pace = (perf_counter() - self._began) / sum(self._seconds.values())
        each = {k: s / max(1, self._times[k]) for k, s in self._seconds.items()}
        return pace * (steps * each["step"] + scorings * each["score"])

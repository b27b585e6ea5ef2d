"""Steps in turns: what a trainer did between two reports, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np


class Steps(Protocol):
    """A trainer that takes one step at a time and can keep its state."""

    step: int

    def train_step(self) -> tuple[float, ...]: ...
    def save(self, path: Path) -> None: ...


def in_turns(
    trainer: Steps, steps: int, report_every: int, state: Path | None
) -> Iterator[tuple[tuple[float, ...], float]]:
    """Train to so many steps; after each turn the means of its steps, and the seconds left.

    The state is saved to ``state`` before each report, where given.
    """
    seen: list[tuple[float, ...]] = []
    started = perf_counter()
    while trainer.step < steps:
        seen.append(trainer.train_step())
        if trainer.step % report_every == 0 or trainer.step == steps:
            if state is not None:
                trainer.save(state)
            per_step = (perf_counter() - started) / len(seen)
            yield tuple(np.mean(seen, axis=0).tolist()), per_step * (steps - trainer.step)
            seen, started = [], perf_counter()

"""How long a run takes still: what a plain sum over all tasks says, at no cost by the block."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_pathsam.inference.slide_time import TIMED, TimeLeft

Timed = Callable[..., TimeLeft]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """``timed(runs, tasks, workers)``: of blocks that run the model so often."""

    def make(runs: Sequence[int], tasks: Sequence[Sequence[int]], workers: int) -> TimeLeft:
        monkeypatch.setattr(
            "napari_pathsam.inference.slide_time.runs_by_block", lambda *_: dict(enumerate(runs))
        )
        job: Any = SimpleNamespace(plan=None, batch=1)
        return TimeLeft(job, tasks, workers=workers)

    return make


@pytest.mark.parametrize("workers", [0, 1, 3, 50])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_is_what_a_sum_over_all_tasks_says(
    timed: Timed, workers: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of each block in hand is done, whatever the order tasks end in; some run nothing."""
    clock = 0.0
    monkeypatch.setattr("napari_pathsam.inference.slide_time.perf_counter", lambda: clock)
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 3, 60).tolist()
    cuts = np.sort(rng.choice(np.arange(1, 60), 39, replace=False))
    tasks = [part.tolist() for part in np.split(np.arange(60), cuts)]
    found = timed(left, tasks, workers)
    first = (0.0, sum(left))
    ends = [first]
    for k in rng.permutation(len(tasks)):
        for number in tasks[k]:
            clock += float(rng.random())
            found.worked_out(number)
            left[number] = 0
            under_way = [[r for n in task if (r := left[n])] for task in tasks]
            under_way = [runs for runs in under_way if runs][:workers]
            now = sum(left) - sum(runs[0] for runs in under_way) / 2
            last = workers * max((sum(runs) - runs[0] / 2 for runs in under_way), default=0)
            ends.append((clock, now))
            known = ends if workers else ends[-TIMED - 1 :]
            since, then = known[0] if known[0][1] > now else first
            wanted = (clock - since) / (then - now) * max(now, last) if then > now else 0.0
            assert found.seconds == pytest.approx(wanted, rel=1e-12)
    assert found.seconds == 0


@pytest.mark.parametrize("workers", [0, 8])
def test_a_block_costs_no_more_where_there_are_thousands(timed: Timed, workers: int) -> None:
    n = 4000
    found = timed([3] * n, [[k] for k in range(n)], workers)
    start = time.thread_time()
    for number in range(n):
        found.worked_out(number)
    assert time.thread_time() - start < 0.5  # 7 s when all tasks were summed for each
    assert found.seconds == 0

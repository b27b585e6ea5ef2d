"""How long a run over a slide takes still, told by the windows that were run."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import perf_counter

from napari_pathsam.inference.slide_job import SlideJob
from napari_pathsam.inference.slide_tasks import runs_by_block

TIMED = 8
"""Blocks: a machine that is busier now than it was an hour ago will be busy."""


class TimeLeft:
    """Follows a run, block by block; one block may have one new window, another a hundred.

    Parameters
    ----------
    job
        What is done.
    tasks
        The blocks that are to be done, in their order; a task does not know another's windows.
    workers
        So many tasks are under way at once, elsewhere; 0: blocks are done here, one after another.
    """

    def __init__(self, job: SlideJob, tasks: Sequence[Sequence[int]], *, workers: int = 0) -> None:
        self._left = runs_by_block(job.plan, tasks, job.batch)
        self._total = sum(self._left.values())
        self._waiting = iter(tasks)
        self._workers, self._under_way = workers, dict[int, Sequence[int]]()
        for _ in range(workers):
            self._go_on(())
        self._first = (perf_counter(), float(self._total))
        self._ends = deque([self._first], maxlen=None if workers else TIMED + 1)

    def worked_out(self, number: int) -> None:
        """The windows of a block were run."""
        self._total -= self._left[number]
        self._left[number] = 0
        if number in self._under_way:
            self._go_on(self._under_way.pop(number))
        # Of the blocks that are under way elsewhere half is done, as far as anybody knows.
        half = sum(self._left[block] for block in self._under_way) / 2
        self._ends.append((perf_counter(), self._total - half))

    @property
    def seconds(self) -> float:
        """Until all blocks are worked out, at the pace of the last ones."""
        now, left = self._ends[-1]
        for since, left_then in (self._ends[0], self._first):
            if left_then > left:
                return (now - since) / (left_then - left) * max(left, self._last_task())
        return 0.0

    def _last_task(self) -> float:
        """Windows that would be left if every worker had as many as the one that has most."""
        each = (
            sum(self._left[n] for n in task) - self._left[number] / 2
            for number, task in self._under_way.items()
        )
        return self._workers * max(each, default=0.0)

    def _go_on(self, task: Sequence[int]) -> None:
        """A worker takes the task's next block that has anything left, or the next task's."""
        while (number := next((n for n in task if self._left[n]), None)) is None:
            following = next(self._waiting, None)
            if following is None:
                return
            task = following
        self._under_way[number] = task

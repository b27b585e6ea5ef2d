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
        self._task_of = {number: k for k, task in enumerate(tasks) for number in task}
        self._of_task = [sum(self._left[number] for number in task) for task in tasks]
        self._total = sum(self._of_task)
        self._waiting = iter(range(len(tasks)))
        self._workers, self._under_way = workers, set[int]()
        self._runs_under_way = 0
        self._start_tasks()
        self._first = (perf_counter(), float(self._total))
        self._ends = deque([self._first], maxlen=None if workers else TIMED + 1)

    def worked_out(self, number: int) -> None:
        """The windows of a block were run."""
        runs, task = self._left[number], self._task_of[number]
        self._left[number] = 0
        self._total -= runs
        self._of_task[task] -= runs
        if task in self._under_way:
            self._runs_under_way -= runs
            if not self._of_task[task]:
                self._under_way.remove(task)
                self._start_tasks()
        # Of the tasks that are under way elsewhere half is done, as far as anybody knows.
        self._ends.append((perf_counter(), self._total - self._runs_under_way / 2))

    @property
    def seconds(self) -> float:
        """Until all blocks are worked out, at the pace of the last ones."""
        now, left = self._ends[-1]
        for since, left_then in (self._ends[0], self._first):
            if left_then > left:
                return (now - since) / (left_then - left) * left
        return 0.0

    def _start_tasks(self) -> None:
        """Those under way are the first ones that have anything left."""
        while len(self._under_way) < self._workers:
            task = next(self._waiting, None)
            if task is None:
                return
            if self._of_task[task]:
                self._under_way.add(task)
                self._runs_under_way += self._of_task[task]

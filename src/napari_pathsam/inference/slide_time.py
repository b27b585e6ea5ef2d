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
        self._tasks, self._workers = [list(task) for task in tasks], workers
        self._first = (perf_counter(), float(sum(self._left.values())))
        self._ends = deque([self._first], maxlen=None if workers else TIMED + 1)

    def worked_out(self, number: int) -> None:
        """The windows of a block were run."""
        self._left[number] = 0
        self._ends.append((perf_counter(), self._runs_left()))

    @property
    def seconds(self) -> float:
        """Until all blocks are worked out, at the pace of the last ones."""
        now, left = self._ends[-1]
        for since, left_then in (self._ends[0], self._first):
            if left_then > left:
                return (now - since) / (left_then - left) * left
        return 0.0

    def _runs_left(self) -> float:
        """Of the tasks that are under way elsewhere half is done, as far as anybody knows."""
        each = [sum(self._left[number] for number in task) for task in self._tasks]
        under_way = [runs for runs in each if runs][: self._workers]
        return sum(each) - sum(under_way) / 2

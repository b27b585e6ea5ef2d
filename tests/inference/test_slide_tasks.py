"""Blocks that are one task lie side by side, and share the windows between them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.slide_plan import SlidePlan, plan_slide
from napari_pathsam.inference.slide_tasks import runs_of, slide_tasks
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam


@pytest.fixture
def plan(tiny_pathsam: PathSam) -> SlidePlan:
    slide = ArraySlide(np.zeros((900, 1100, 3), np.uint8), mpp=0.5)
    return plan_slide(tiny_pathsam, slide, tissue=False, chunk_px=16)


@pytest.mark.parametrize("workers", [1, 3, 1000])
def test_each_block_is_in_one_task(plan: SlidePlan, workers: int) -> None:
    todo = plan.order(Region(800, 1000, 50, 50))[:-5]
    tasks = slide_tasks(plan, todo, workers)
    assert sorted(n for task in tasks for n in task) == sorted(todo)
    assert [task[0] for task in tasks] == sorted((t[0] for t in tasks), key=todo.index)
    assert all(list(task) == sorted(task, key=todo.index) for task in tasks)
    assert tasks[0][0] == todo[0]  # what is looked at comes first


def test_few_windows_are_run_twice_unless_workers_would_wait(plan: SlidePlan) -> None:
    todo = plan.order(None)
    windows = {n: {t.region for t in plan.windows(plan.blocks[n])} for n in todo}

    def work(workers: int) -> float:
        tasks = slide_tasks(plan, todo, workers)
        return sum(runs_of(task, windows) for task in tasks) / plan.n_windows

    singly = sum(map(len, windows.values())) / plan.n_windows
    assert work(1) < 1.5 < singly
    assert work(1) <= work(8) <= singly
    assert slide_tasks(plan, todo, len(todo)) == [(n,) for n in todo]
    assert slide_tasks(plan, [], 4) == []

"""Which blocks of a slide are one task: those side by side, so that few windows are run twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.slide_plan import SlidePlan

LARGEST_SIDE = 4
"""Blocks along the side of a task, at most: no worker that comes later takes a part of it."""


def slide_tasks(plan: SlidePlan, todo: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """The blocks to do as tasks, each a rectangle of neighbours, in the order they were given.

    Larger ones share more windows, and leave workers idle where there are few of them: of all
    sides those are taken with which the last worker is done first, if all are as quick.
    """
    windows = {n: {tile.region for tile in plan.windows(plan.blocks[n])} for n in todo}
    sides = range(1, LARGEST_SIDE + 1)
    ways = (_rectangles(plan, todo, yx) for yx in product(sides, sides))
    return min(ways, key=lambda tasks: _longest([runs_of(t, windows) for t in tasks], workers))


def runs_of(task: Sequence[int], windows: dict[int, set[Region]]) -> int:
    """Windows that a task runs."""
    return len(set().union(*(windows[number] for number in task)))


def runs_by_block(
    plan: SlidePlan, tasks: Sequence[Sequence[int]], batch: int = 1
) -> dict[int, int]:
    """How often the model is run for each block: its new windows, in batches that are filled up.

    Windows that an earlier block of the same task ran are known.
    """
    runs = {}
    for task in tasks:
        seen = set[Region]()
        for number in task:
            windows = {tile.region for tile in plan.windows(plan.blocks[number])}
            runs[number] = -(-len(windows - seen) // batch)
            seen |= windows
    return runs


def _rectangles(
    plan: SlidePlan, todo: Sequence[int], blocks_yx: tuple[int, int]
) -> list[tuple[int, ...]]:
    found: dict[tuple[int, int], list[int]] = {}
    rows, columns = (n * plan.block_px for n in blocks_yx)
    for number in todo:
        at = plan.blocks[number]
        found.setdefault((at.y // rows, at.x // columns), []).append(number)
    return [tuple(numbers) for numbers in found.values()]


def _longest(runs: Sequence[int], workers: int) -> int:
    """Windows of the worker that has most, if each takes the next task when it is free."""
    loads = [0] * workers
    for n in runs:
        loads[loads.index(min(loads))] += n
    return max(loads)

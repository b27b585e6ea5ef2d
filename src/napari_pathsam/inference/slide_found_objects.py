"""The objects of a slide, of a model that finds them one by one: block by block.

Windows lie on the slide's own grid, and a block puts together what was found in those that touch it
and in those round them. So neighbours agree on what lies across their border, but for objects
longer than a window, which may be cut there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.blending import grown
from napari_pathsam.inference.class_maps import filled_up, pixels_embedding
from napari_pathsam.inference.found_objects import (
    FoundObject,
    merged,
    object_model,
    objects_in,
    painted,
)
from napari_pathsam.inference.windows import read_around_damage

if TYPE_CHECKING:
    from napari_pathsam.inference.slide_job import SlideJob


@dataclass(frozen=True)
class FoundBlock:
    """A step of the work at one block.

    Attributes
    ----------
    region
        Its level-0 pixels.
    labels
        Its object ids, when it is finished, 0 outside what is wanted; None: a window was looked at.
    class_of
        The class of each id that is in it.
    done, total
        Steps: each window, and each block.
    """

    region: Region
    labels: NDArray[np.int32] | None
    class_of: dict[int, int]
    done: int
    total: int


def found_on_slide(job: SlideJob, *, smallest_px: int = 0) -> Iterator[FoundBlock]:
    """The objects of a run's slide, from the upper left to the lower right; closing it stops.

    Every window is run once. Ids follow the blocks. What does not decode is taken for glass.

    Parameters
    ----------
    job
        Of a model that finds objects one by one.
    smallest_px
        Objects below so many level-0 pixels are left out.

    Raises
    ------
    BadWeightsError
        The model knows classes only.
    """
    object_model(job.model)
    grid, blocks = job.plan.grid, job.plan.blocks
    rows, columns = grid.cell_level0_yx
    smallest_cells = smallest_px / (rows * columns)
    windows = [_windows_round(job, block) for block in blocks]
    left = Counter(tile.region for some in windows for tile in some)
    total, done = len(left) + len(blocks), 0
    kept: dict[Region, tuple[FoundObject, ...]] = {}
    ids: dict[tuple[Region, int, float], int] = {}  # of objects that others may see, too
    n = 0
    for block, some in zip(blocks, windows, strict=True):
        wanted = block.intersection(job.plan.region)
        assert wanted is not None
        for tile in some:
            if tile.region not in kept:
                kept[tile.region] = _look(job, tile)
                done += 1
                yield FoundBlock(block, None, {}, done, total)
        seen = grid.cells_of(block)
        objects = [
            one
            for one in sorted(merged(o for t in some for o in kept[t.region]), key=_strength)
            if one.mask.sum() >= smallest_cells and one.region.intersection(seen)
        ]
        table = np.zeros(len(objects) + 1, np.int32)
        class_of = {}
        found = np.zeros(block.shape_yx, np.int32)
        inside = Region(wanted.y - block.y, wanted.x - block.x, *wanted.shape_yx)
        found[inside.slices] = painted(objects, grid, wanted)
        for number in np.unique(found[found > 0]).tolist():
            one = objects[number - 1]
            label = ids.get(_key(one), 0)
            if not label:
                n += 1
                label = n
                if one.region.intersection(seen) != one.region or _at_rim(one.region, seen):
                    ids[_key(one)] = label
            table[number], class_of[label] = label, one.class_id
        done += 1
        yield FoundBlock(block, table[found], class_of, done, total)
        left.subtract(tile.region for tile in some)
        kept = {region: one for region, one in kept.items() if left[region] > 0}


def _windows_round(job: SlideJob, block: Region) -> list[Tile]:
    """The windows that hold a part of anything that reaches into a block."""
    grid = job.plan.grid
    reach = int(np.ceil(grid.tile_cells * max(grid.cell_level0_yx)))
    area = grown(block, reach).intersection(Region.of(grid.shape_yx))
    assert area is not None
    return job.plan.touching(area)


def _look(job: SlideJob, tile: Tile) -> tuple[FoundObject, ...]:
    region, shape_yx, full_yx = job.plan.grid.pixels_of(tile.region)
    pixels, _ = read_around_damage(job.slide, region, shape_yx)
    embedding, _ = pixels_embedding(job.model, filled_up(pixels, full_yx))
    return objects_in(object_model(job.model), embedding, tile)


def _strength(one: FoundObject) -> tuple[float, int, int]:
    return (one.score, one.region.y, one.region.x)


def _key(one: FoundObject) -> tuple[Region, int, float]:
    return (one.region, one.class_id, one.score)


def _at_rim(box: Region, cells: Region) -> bool:
    """Whether a box touches the side of these cells: rounding may give its pixels to both."""
    return grown(box, 1).intersection(cells) != grown(box, 1)

"""One level of a pyramid: pixels fetched when asked, and coarser levels made of finer ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError

RGB = NDArray[np.uint8]

OVERVIEW_PX = 4096
"""A pyramid whose coarsest level has a longer side than this is given coarser ones."""

OVERVIEW_STEP = 4


@dataclass(frozen=True)
class Level:
    """One level: RGB pixels ``(H, W, 3)`` fetched when asked; as much of an array as dask needs.

    ``fetch(rows, columns)`` is called with slices inside the level, from any thread.
    """

    shape_yx: tuple[int, int]
    tile_yx: tuple[int, int]
    fetch: Callable[[slice, slice], RGB]
    dtype: ClassVar = np.dtype(np.uint8)
    ndim: ClassVar = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.shape_yx, 3)

    def __getitem__(self, index: tuple[Any, ...]) -> RGB:
        rows, row_within = _bounds(index[0], self.shape_yx[0])
        columns, column_within = _bounds(index[1], self.shape_yx[1])
        empty = rows.start == rows.stop or columns.start == columns.stop
        size = (rows.stop - rows.start, columns.stop - columns.start, 3)
        piece = np.empty(size, np.uint8) if empty else self.fetch(rows, columns)
        picked: RGB = piece[(row_within, column_within, *index[2:])]
        return picked

    def converted(self, convert: Callable[[RGB], RGB]) -> Level:
        """The same level with its pixels turned into others."""
        return replace(self, fetch=lambda rows, columns: convert(self.fetch(rows, columns)))


def _bounds(index: slice | int, length: int) -> tuple[slice, slice | int]:
    """The plain slice that covers an index, and the index within it."""
    picked = range(length)[index]
    if isinstance(picked, int):
        return slice(picked, picked + 1), 0
    if not len(picked):
        return slice(0, 0), slice(None)
    low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1])
    return slice(low, high + 1), slice(None, None, picked.step)


def coarsest_fine_enough(downsamples: Sequence[float], wanted: float) -> int:
    """The coarsest level that is still fine enough; levels are a few per cent off."""
    fine = [i for i, downsample in enumerate(downsamples) if downsample <= 1.05 * wanted]
    return fine[-1] if fine else 0


def with_overviews(levels: Sequence[Level]) -> tuple[Level, ...]:
    """The levels, and coarser ones down to :data:`OVERVIEW_PX`, averaged when they are read."""
    levels = list(levels)
    while max(levels[-1].shape_yx) > OVERVIEW_PX:
        levels.append(_coarser(levels[-1], OVERVIEW_STEP))
    return tuple(levels)


def _coarser(level: Level, step: int) -> Level:
    from PIL import Image

    height, width = level.shape_yx

    def fetch(rows: slice, columns: slice) -> RGB:
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)
        across = slice(columns.start * step, min(columns.stop * step, width))
        for top in range(rows.start, rows.stop, 256):  # in bands: the finer level may be huge
            bottom = min(top + 256, rows.stop)
            fine = level.fetch(slice(top * step, min(bottom * step, height)), across)
            out[top - rows.start : bottom - rows.start] = Image.fromarray(fine).reduce(step)
        return out

    tile_yx = (max(256, level.tile_yx[0] // step), max(256, level.tile_yx[1] // step))
    return Level((-(-height // step), -(-width // step)), tile_yx, fetch)


def fetch_around_damage(
    level: Level, rows: slice, columns: slice, fill: int
) -> tuple[RGB, list[tuple[slice, slice]], str]:
    """A level's pixels, tile by tile.

    Returns the pixels, ``fill`` where a tile cannot be read; those tiles, whole ones, in pixels of
    the level; and what was wrong with the first.
    """
    out = np.full((rows.stop - rows.start, columns.stop - columns.start, 3), fill, np.uint8)
    damaged, reason = [], ""
    for ys in _tiles(rows, level.tile_yx[0], level.shape_yx[0]):
        for xs in _tiles(columns, level.tile_yx[1], level.shape_yx[1]):
            y0, y1 = max(ys.start, rows.start), min(ys.stop, rows.stop)
            x0, x1 = max(xs.start, columns.start), min(xs.stop, columns.stop)
            into = (slice(y0 - rows.start, y1 - rows.start),
                    slice(x0 - columns.start, x1 - columns.start))  # fmt: skip
            try:
                out[into] = level.fetch(slice(y0, y1), slice(x0, x1))
            except BadFileError as error:
                damaged.append((ys, xs))
                reason = reason or " ".join(str(error.__cause__ or error).split())[:200]
    return out, damaged, reason


def _tiles(wanted: slice, tile: int, length: int) -> list[slice]:
    starts = range(wanted.start // tile * tile, wanted.stop, tile)
    return [slice(start, min(start + tile, length)) for start in starts]

"""SparseLabels: a label map as large as a slide, of which only what is labelled takes memory.

And of that little: what was not looked at for a while is packed, or on the disk where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import halved
from napari_pathsam.core.packed_chunks import Disk, PackedChunks

CHUNK_PX = 512
HOT_BYTES, HOT_COARSER_BYTES = 64 * 2**20, 8 * 2**20
"""Of a label map, and of each of its coarser levels, so much is kept unpacked."""


class SparseArray:
    """``(H, W)`` whole numbers, 0 where nothing was written; as much of an array as viewers need.

    Rectangles, single pixels and lists of pixels are read (always copies), rectangles written.
    """

    ndim = 2

    def __init__(
        self,
        shape_yx: tuple[int, int],
        dtype: DTypeLike,
        hot_bytes: int = HOT_BYTES,
        disk: Disk | None = None,
    ) -> None:
        self.shape = (int(shape_yx[0]), int(shape_yx[1]))
        self.dtype = np.dtype(dtype)
        self._chunks = PackedChunks(dtype, hot_bytes, disk)

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self._chunks.nbytes

    def __getitem__(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, slice) and isinstance(columns, slice):
            y, x = rows.indices(self.shape[0]), columns.indices(self.shape[1])
            at = (y[0], x[0], max(0, y[1] - y[0]), max(0, x[1] - x[0]))
            return self._read(*at)[:: y[2], :: x[2]]
        if not isinstance(rows, slice) and not isinstance(columns, slice):
            return self._pick(np.asarray(rows), np.asarray(columns))
        return self._read(0, 0, *self.shape)[key]

    def __setitem__(self, key: tuple[slice, slice], values: NDArray[np.integer] | int) -> None:
        y, x = (part.indices(n) for part, n in zip(key, self.shape, strict=True))
        if y[1] > y[0] and x[1] > x[0]:
            self._write(Region(y[0], x[0], y[1] - y[0], x[1] - x[0]), np.asarray(values))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        whole = self._read(0, 0, *self.shape)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def copy(self) -> SparseArray:
        """As it is now, without coarser levels."""
        copied = SparseArray(self.shape, self.dtype)
        copied._chunks = self._chunks.copied()
        return copied

    def flush(self) -> Iterator[None]:
        """Bring to the disk, where there is one, what it does not have; a chunk with every step."""
        while self._chunks.flush_one():
            yield

    @contextmanager
    def holding(self, regions: Iterable[Region]) -> Iterator[None]:
        """In the block these are read and written without the disk, which raises before it."""
        with self._chunks.holding({index for at in regions for index, *_ in _overlaps(at)}):
            yield

    def pieces(self, within: Region | None = None) -> Iterator[Region]:
        """The rectangles (of a region) outside of which all is 0."""
        for (y, x), (height, width) in self._chunks.shapes():
            piece = Region(y * CHUNK_PX, x * CHUNK_PX, height, width)
            inside = piece if within is None else piece.intersection(within)
            if inside is not None:
                yield inside

    def holds(self, index: tuple[int, int]) -> bool:
        """Whether a chunk has something in it."""
        return index in self._chunks

    def holds_four(self, index: tuple[int, int]) -> bool:
        """Whether any of the four chunks has that a coarser level's chunk is made of."""
        y, x = (2 * i for i in index)
        return any((y + dy, x + dx) in self._chunks for dy in (0, 1) for dx in (0, 1))

    def _read(self, y: int, x: int, height: int, width: int) -> NDArray:
        out = np.zeros((height, width), self.dtype)
        if height and width:
            for index, inside, within in _overlaps(Region(y, x, height, width)):
                if (chunk := self._chunks.get(index)) is not None:
                    out[within] = chunk[inside]
        return out

    def _pick(self, rows: NDArray, columns: NDArray) -> Any:
        if rows.ndim == 0 and columns.ndim == 0:
            y, x = int(rows), int(columns)
            if not (0 <= y < self.shape[0] and 0 <= x < self.shape[1]):
                raise IndexError(f"({y}, {x}) is not inside {self.shape}")
            chunk = self._chunks.get((y // CHUNK_PX, x // CHUNK_PX))
            return self.dtype.type(0) if chunk is None else chunk[y % CHUNK_PX, x % CHUNK_PX]
        rows, columns = np.broadcast_arrays(rows, columns)
        out = np.zeros(rows.shape, self.dtype)
        cy, cx = rows // CHUNK_PX, columns // CHUNK_PX
        for y, x in {*zip(cy.ravel().tolist(), cx.ravel().tolist(), strict=True)}:
            if (chunk := self._chunks.get((y, x))) is not None:
                own = (cy == y) & (cx == x)
                out[own] = chunk[rows[own] - y * CHUNK_PX, columns[own] - x * CHUNK_PX]
        return out

    def _write(self, at: Region, values: NDArray) -> None:
        values = np.broadcast_to(values, at.shape_yx)
        for index, inside, within in _overlaps(at):
            y, x = (i * CHUNK_PX for i in index)
            size = (min(CHUNK_PX, self.shape[0] - y), min(CHUNK_PX, self.shape[1] - x))
            self._chunks.write(index, inside, values[within], size)


class SparseLabels(SparseArray):
    """Labels with coarser levels, each half as fine, that follow at once what is written.

    Parameters
    ----------
    disks
        Gives for each level where its chunks are kept beyond the memory; None: they stay there.
    """

    def __init__(
        self,
        shape_yx: tuple[int, int],
        dtype: DTypeLike,
        disks: Callable[[int], Disk] | None = None,
    ) -> None:
        super().__init__(shape_yx, dtype, disk=disks and disks(0))
        shapes = [self.shape]
        while max(shapes[-1]) > CHUNK_PX and min(shapes[-1]) > 1:
            shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
        coarser = [
            SparseArray(shape, dtype, HOT_COARSER_BYTES, disks and disks(level))
            for level, shape in enumerate(shapes[1:-1], start=1)
        ]
        self._coarser: tuple[Any, ...] = (*coarser, np.zeros(shapes[-1], dtype))
        self._coarsest = disks and disks(len(shapes) - 1)
        self._coarsest_saved = True

    @property
    def levels(self) -> tuple[Any, ...]:
        """Finest first; the last one is a plain array."""
        return (self, *self._coarser)

    def flush(self) -> Iterator[None]:
        """Bring all levels to the disk, where there is one, a chunk with every step."""
        yield from super().flush()
        for level in self.levels[1:-1]:
            yield from level.flush()
        if self._coarsest is not None and not self._coarsest_saved:
            self._coarsest_saved = True  # what is written meanwhile is saved the next time
            try:
                self._coarsest.save((0, 0), self.levels[-1].copy())
            except Exception:
                self._coarsest_saved = False
                raise

    @contextmanager
    def holding(self, regions: Iterable[Region]) -> Iterator[None]:
        """In the block these are read and written without the disk, which raises before it."""
        at_level = list(regions)
        with ExitStack() as held:
            held.enter_context(super().holding(at_level))
            for level in self.levels[1:-1]:
                at_level = [coarser for at in at_level if (coarser := at.halved(level.shape))]
                held.enter_context(level.holding(at_level))
            yield

    def _write(self, at: Region, values: NDArray) -> None:
        super()._write(at, values)
        for finer, coarser in pairwise(self.levels):
            half = at.halved(coarser.shape)
            if half is None:
                return
            at, y, x = half, half.y, half.x
            for index, _, within in _overlaps(at):
                if coarser is self.levels[-1] or coarser.holds(index) or finer.holds_four(index):
                    rows, columns = (
                        slice(p.start + n, p.stop + n) for p, n in zip(within, (y, x), strict=True)
                    )
                    four = (slice(2 * part.start, 2 * part.stop) for part in (rows, columns))
                    coarser[rows, columns] = halved(finer[tuple(four)])
        self._coarsest_saved = False


def _overlaps(
    at: Region,
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
    """The chunks under a region: index, the part inside the chunk, the part within the region."""
    for cy in range(at.y // CHUNK_PX, (at.y + at.height - 1) // CHUNK_PX + 1):
        y0, y1 = max(at.y, cy * CHUNK_PX), min(at.y + at.height, (cy + 1) * CHUNK_PX)
        for cx in range(at.x // CHUNK_PX, (at.x + at.width - 1) // CHUNK_PX + 1):
            x0, x1 = max(at.x, cx * CHUNK_PX), min(at.x + at.width, (cx + 1) * CHUNK_PX)
            top, left = cy * CHUNK_PX, cx * CHUNK_PX
            inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
            within = (slice(y0 - at.y, y1 - at.y), slice(x0 - at.x, x1 - at.x))
            yield (cy, cx), inside, within

"""What a viewer looks at is read once while it is in use, and kept within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from napari_pathsam.io._levels import RGB, Level

SHOWN_BYTES = 256 * 2**20
"""Of one slide; a large screen shows 25 MB."""


class ShownChunks:
    """Pieces that were read, those used last; safe to use from several threads."""

    def __init__(self, most_bytes: int = SHOWN_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, RGB] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def get(self, key: Hashable, read: Callable[[], RGB]) -> RGB:
        """A piece, read if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        piece = read()
        piece.flags.writeable = False
        with self._lock:
            if key not in self._kept:
                self._kept[key] = piece
                self.nbytes += piece.nbytes
            while self.nbytes > self._most_bytes:
                self.nbytes -= self._kept.popitem(last=False)[1].nbytes
        return piece


def read_in_chunks(level: Level, chunk_yx: tuple[int, int], kept: ShownChunks, key: int) -> Level:
    """A level that is read in whole chunks, which are kept; ``key`` is its own among others."""

    def chunk(cy: int, cx: int) -> RGB:
        rows, columns = (
            slice(c * side, min((c + 1) * side, n))
            for c, side, n in zip((cy, cx), chunk_yx, level.shape_yx, strict=True)
        )
        return kept.get((key, cy, cx), lambda: level.fetch(rows, columns))

    def fetch(rows: slice, columns: slice) -> RGB:
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)
        height, width = chunk_yx
        for cy in range(rows.start // height, -(-rows.stop // height)):
            y0, y1 = max(rows.start, cy * height), min(rows.stop, (cy + 1) * height)
            for cx in range(columns.start // width, -(-columns.stop // width)):
                x0, x1 = max(columns.start, cx * width), min(columns.stop, (cx + 1) * width)
                inside = chunk(cy, cx)[
                    y0 - cy * height : y1 - cy * height, x0 - cx * width : x1 - cx * width
                ]
                out[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start] = (
                    inside
                )
        return out

    return replace(level, fetch=fetch)

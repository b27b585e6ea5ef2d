"""Label map ↔ polygons along the edges of pixels, exactly.

Coordinates are ``(x, y)`` with the origin at the upper left corner of the first pixel, as QuPath
and GeoJSON have them. A ring is an ``(n, 2)`` array without its first point repeated; the
interior lies at its left (outer rings have positive area in ``x, y``, holes negative).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64] | NDArray[np.int64]
Polygon = list[Ring]
"""The outer ring, then the holes."""

BAND_ROWS = 2048
EAST, SOUTH, WEST, NORTH = range(4)


def polygons_of(labels: NDArray) -> Iterator[tuple[int, list[Polygon]]]:
    """``(id, its polygons)`` of every id of a label map but 0, in order of the ids.

    Pieces that touch only at a corner are polygons of their own, so every polygon is valid in
    the sense of OGC: rings neither cross nor pass a corner twice.

    The boundary is cut into straight runs of pixel edges, each run linked to the one that goes
    on from its end, and the links followed round. At a corner where two pixels of one piece meet
    diagonally four runs meet; turning away from the own pixel there separates a hole from the
    outside (Jordan's curve theorem: the piece is connected elsewhere).
    """
    from skimage.measure import label

    labels = np.ascontiguousarray(labels)
    pieces = label(labels, connectivity=1, background=0)
    runs = _runs(pieces)
    if not len(runs.piece):
        return
    by_id: dict[int, list[Polygon]] = {}
    for polygon in polygons_by_piece(runs, pieces.shape[1] + 1).values():
        # A run that goes east is the upper edge of its first pixel.
        x, y = polygon[0][0]
        by_id.setdefault(int(labels[y, x]), []).append(polygon)
    for index in sorted(by_id):
        yield index, by_id[index]


def polygons_by_piece(runs: Runs, across: int) -> dict[int, Polygon]:
    """The polygon of every 4-connected piece; ``across`` corners lie in a row."""
    by_piece: dict[int, Polygon] = {}
    for piece, ring in _rings(runs, across):
        polygon = by_piece.setdefault(piece, [])
        polygon.insert(0 if _area(ring) > 0 else len(polygon), ring)
    return by_piece


class Runs:
    """Straight runs of boundary: start and end corner (row · (W + 1) + column), way, piece."""

    def __init__(self, start: NDArray, end: NDArray, way: NDArray, piece: NDArray) -> None:
        self.start, self.end, self.way, self.piece = start, end, way, piece


def _runs(pieces: NDArray) -> Runs:
    across = pieces.shape[1] + 1
    parts = []
    for sideways, forward, back in ((False, EAST, WEST), (True, NORTH, SOUTH)):
        lines = pieces.T if sideways else pieces
        for line, first, last, piece, before in _edges(lines):
            # Edges before a pixel (above, at the left) go east and north, those after it back.
            low = first * across + line if sideways else line * across + first
            high = last * across + line if sideways else line * across + last
            way = np.full(len(line), forward if before else back)
            start, end = (low, high) if before != sideways else (high, low)
            parts.append((start, end, way, piece))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Runs(empty, empty, empty, empty)
    return Runs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _edges(lines: NDArray) -> Iterator[tuple[NDArray, NDArray, NDArray, NDArray, bool]]:
    """Runs of edges between lines: line, first, last (half-open), piece; before it or not."""
    n_lines, length = lines.shape
    for begin in range(0, n_lines + 1, BAND_ROWS):
        end = min(begin + BAND_ROWS, n_lines + 1)
        below = np.zeros((end - begin, length), lines.dtype)
        above = np.zeros_like(below)
        below[: min(end, n_lines) - begin] = lines[begin:end]
        above[1 if begin == 0 else 0 :] = lines[max(begin - 1, 0) : end - 1]
        differs = above != below
        for side, before in ((below, True), (above, False)):
            value = np.zeros((end - begin, length + 2), lines.dtype)
            np.copyto(value[:, 1:-1], side, where=differs)
            change = value[:, 1:] != value[:, :-1]
            row, first = np.nonzero(change & (value[:, 1:] != 0))
            _, last = np.nonzero(change & (value[:, :-1] != 0))
            if len(row):
                yield row + begin, first, last, value[row, first + 1], before


def _rings(runs: Runs, across: int) -> Iterator[tuple[int, Ring]]:
    """Follow every ring once round: its piece, and its corners ``(n, 2)`` as ``x, y``."""
    following = _following(runs).tolist()
    corners = np.stack([runs.start % across, runs.start // across], axis=1)
    seen = bytearray(len(following))
    # Begin with a run that goes east: its start is the upper left corner of a pixel of the piece.
    for first in np.flatnonzero(runs.way == EAST).tolist():
        if seen[first]:
            continue
        ring = []
        at = first
        while not seen[at]:
            seen[at] = 1
            ring.append(at)
            at = following[at]
        yield int(runs.piece[first]), corners[ring]


def _following(runs: Runs) -> NDArray[np.int64]:
    """Which run goes on where each ends. Corner and way together name one run."""
    key = runs.start * 4 + runs.way
    order = np.argsort(key)
    sorted_key = key[order]

    def leaving(way: NDArray) -> tuple[NDArray, NDArray]:
        wanted = runs.end * 4 + way
        place = np.minimum(np.searchsorted(sorted_key, wanted), len(key) - 1)
        found = order[place]
        return found, (sorted_key[place] == wanted) & (runs.piece[found] == runs.piece)

    away, is_away = leaving((runs.way - 1) % 4)
    along, _ = leaving((runs.way + 1) % 4)
    return np.where(is_away, away, along)


def _area(ring: Ring) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def fill_polygon(
    rings: Sequence[Ring], shape_yx: tuple[int, int]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]] | None:
    """The pixels whose centres lie inside a polygon (even-odd over all its rings).

    Returns
    -------
    Where in an image of this shape, and the mask there; None when it lies outside.
    """
    points = np.concatenate(rings)
    low = np.clip(np.floor(points.min(axis=0)), 0, (shape_yx[1], shape_yx[0])).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, (shape_yx[1], shape_yx[0])).astype(int)
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    if x1 <= x0 or y1 <= y0:
        return None
    width = x1 - x0 + 1
    toggles = np.zeros((y1 - y0) * width, np.uint8)
    for ring in rings:
        row, column = _crossings(ring, y0, y1)
        np.bitwise_xor.at(toggles, (row - y0) * width + np.clip(column - x0, 0, x1 - x0), 1)
    inside = np.bitwise_xor.accumulate(toggles.reshape(-1, width), axis=1)[:, :-1].astype(bool)
    return (slice(y0, y1), slice(x0, x1)), inside


def _crossings(ring: Ring, y0: int, y1: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every line of pixel centres a side crosses: the row, and the first pixel beyond."""
    a = np.asarray(ring, float)
    b = np.roll(a, -1, axis=0)
    top, bottom = np.minimum(a[:, 1], b[:, 1]), np.maximum(a[:, 1], b[:, 1])
    # Row r has its centres at r + 0.5: crossed when top ≤ r + 0.5 < bottom.
    first = np.clip(np.ceil(top - 0.5), y0, y1).astype(np.int64)
    last = np.clip(np.ceil(bottom - 0.5), y0, y1).astype(np.int64)
    n = last - first
    side = np.repeat(np.arange(len(a)), n)
    row = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(n) - n, n)
    (xa, ya), (xb, yb) = a[side].T, b[side].T
    x = xa + (row + 0.5 - ya) * ((xb - xa) / (yb - ya))
    return row, np.ceil(np.clip(x, -1e9, 1e9) - 0.5).astype(np.int64)

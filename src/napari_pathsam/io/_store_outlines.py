"""The polygons of a label store, tile after tile: what is in memory is the outlines still open."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.io._outlines import EAST, NORTH, SOUTH, WEST, Polygon, Runs, polygons_by_piece

if TYPE_CHECKING:
    from napari_pathsam.io.label_store import LabelStore

TILE_PX = 2048


@dataclass(frozen=True)
class Outlined:
    """An object, or a connected area of a class: its id, its polygons, the class most of it has."""

    value: int
    polygons: list[Polygon]
    class_id: int = 0


def outlined(
    store: LabelStore, classes: LabelStore | None = None, *, objects: bool, tile_px: int = TILE_PX
) -> Iterator[Outlined]:
    """Every object of a store, or every area, with outlines along the edges of its pixels.

    Parameters
    ----------
    store, classes
        Labels; and, of objects, the class map beside them.
    objects
        Whether ids are objects: all of an id is then one, also where its pieces touch at a corner
        only. (Pieces that lie a tile apart are given as several.) Otherwise ids are classes, and
        every 4-connected piece of one is an area.
    tile_px
        Side of what is read at a time.

    Straight runs of edges are found tile by tile (:mod:`~napari_pathsam.io._outlines`). What ends
    in a tile is given at once; of what goes on, runs are kept until the row of tiles below does
    not go on with it. Pieces are put together by union-find.
    """
    sweep = _Sweep(store.shape_yx, objects=objects)
    height, width = store.shape_yx
    for top in range(0, height, tile_px):
        for left in range(0, width, tile_px):
            at = Region(top, left, min(tile_px, height - top), min(tile_px, width - left))
            if not store.holds(at):
                sweep.nothing(at)
                continue
            ext = store.read(Region(top - 1, left - 1, at.height + 2, at.width + 2))
            found = classes.read(at) if classes is not None and ext.any() else None
            yield from sweep.tile(at, ext, found)
        yield from sweep.row_done()
    yield from sweep.row_done()


@dataclass
class _Held:
    """What is known of a piece that goes on beyond its tile."""

    value: int
    runs: list[NDArray[np.int64]] = field(default_factory=list)
    votes: Counter[int] = field(default_factory=Counter)


class _Sweep:
    """Goes through the tiles row by row."""

    def __init__(self, shape_yx: tuple[int, int], *, objects: bool) -> None:
        self.across = shape_yx[1] + 1
        self.objects = objects
        self.parent: list[int] = [0]
        self.held: dict[int, _Held] = {}
        self.above = np.zeros(shape_yx[1], np.int64)  # pieces in the last row of the tiles above
        self.below = np.zeros(shape_yx[1], np.int64)
        self.right = np.zeros(0, np.int64)  # pieces in the last column of the tile at the left
        self.going_on: set[int] = set()  # pieces, or ids of objects, that the next row goes on with

    def tile(
        self, at: Region, ext: NDArray[np.integer], classes: NDArray[np.integer] | None
    ) -> Iterator[Outlined]:
        """One tile with a rim of one pixel; gives what lies inside it."""
        from skimage.measure import label

        core = ext[1:-1, 1:-1]
        if not core.any():
            self.nothing(at)
            return
        columns = slice(at.x, at.x + at.width)
        pieces = label(core, connectivity=1, background=0).astype(np.int64)
        n = int(pieces.max())
        value = np.zeros(n + 1, np.int64)
        value[pieces.ravel()] = core.ravel()
        nodes = self._nodes(ext, pieces, value)
        self._join(nodes[pieces[:, 0]], self.right, core[:, 0], ext[1:-1, 0])
        self._join(nodes[pieces[0]], self.above[columns], core[0], ext[0, 1:-1])
        self.right = nodes[pieces[:, -1]]
        self.below[columns] = nodes[pieces[-1]]
        self._note_below(ext, nodes[pieces[-1]], core[-1])
        votes = {} if classes is None else _votes(pieces, classes, n)
        runs = _runs_of(ext, pieces, at, self.across)
        open_ = nodes[runs[3]] > 0
        self._hold(runs[:, open_], nodes, value, votes)
        yield from self._given(runs[:, ~open_], value, votes)

    def nothing(self, at: Region) -> None:
        """One tile in which all is 0."""
        self.below[at.x : at.x + at.width] = 0
        self.right = np.zeros(at.height, np.int64)

    def row_done(self) -> Iterator[Outlined]:
        """A row of tiles is through: gives what does not go on below it."""
        groups: dict[int, list[int]] = defaultdict(list)
        for node, held in self.held.items():
            groups[held.value if self.objects else self._root(node)].append(node)
        alive = self.going_on if self.objects else {self._root(node) for node in self.going_on}
        for key, members in groups.items():
            if key not in alive:
                yield self._closed([self.held.pop(node) for node in members], members)
        self.going_on = set()
        self.above, self.below = self.below, np.zeros_like(self.below)
        self.right = np.zeros(0, np.int64)

    # --- parts ---

    def _nodes(
        self, ext: NDArray[np.integer], pieces: NDArray[np.int64], value: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A number of its own for every piece that may go on beyond the tile; 0 for the others."""
        core = ext[1:-1, 1:-1]
        goes_on = np.zeros(len(value), bool)
        if self.objects:
            rim = np.concatenate([ext[0], ext[-1], ext[:, 0], ext[:, -1]])
            goes_on = np.isin(value, np.unique(rim[rim != 0]))
        else:
            for line, inner, outer in (
                (pieces[0], core[0], ext[0, 1:-1]), (pieces[-1], core[-1], ext[-1, 1:-1]),
                (pieces[:, 0], core[:, 0], ext[1:-1, 0]),
                (pieces[:, -1], core[:, -1], ext[1:-1, -1]),
            ):  # fmt: skip
                goes_on[line[inner == outer]] = True
        goes_on[0] = False
        nodes = np.zeros(len(value), np.int64)
        first = len(self.parent)
        n = int(goes_on.sum())
        nodes[goes_on] = np.arange(first, first + n)
        self.parent.extend(range(first, first + n))
        return nodes

    def _join(
        self,
        mine: NDArray[np.int64],
        theirs: NDArray[np.int64],
        inner: NDArray[np.integer],
        outer: NDArray[np.integer],
    ) -> None:
        """Pieces on both sides of a border are one where their ids are."""
        if not len(theirs):
            return
        same = (inner == outer) & (inner != 0) & (theirs > 0)
        for a, b in np.unique(np.stack([mine[same], theirs[same]], axis=1), axis=0).tolist():
            self.parent[self._root(a)] = self._root(b)

    def _note_below(
        self, ext: NDArray[np.integer], nodes: NDArray[np.int64], last: NDArray[np.integer]
    ) -> None:
        if self.objects:
            beyond = np.unique(ext[-1])
            self.going_on.update(beyond[beyond != 0].tolist())
        else:
            self.going_on.update(np.unique(nodes[(last == ext[-1, 1:-1]) & (last != 0)]).tolist())

    def _hold(
        self,
        runs: NDArray[np.int64],
        nodes: NDArray[np.int64],
        value: NDArray[np.int64],
        votes: dict[int, Counter[int]],
    ) -> None:
        order = np.argsort(runs[3], kind="stable")
        runs = runs[:, order]
        ids, starts = np.unique(runs[3], return_index=True)
        parts = np.split(runs, starts[1:], axis=1) if len(ids) else []
        for piece, part in zip(ids.tolist(), parts, strict=True):
            held = self.held.setdefault(int(nodes[piece]), _Held(int(value[piece])))
            held.runs.append(part)
            held.votes.update(votes.get(piece, {}))
        for piece in np.flatnonzero(nodes).tolist():  # of one without an edge in this tile, too
            held = self.held.setdefault(int(nodes[piece]), _Held(int(value[piece])))
            if not held.runs:
                held.votes.update(votes.get(piece, {}))

    def _given(
        self, runs: NDArray[np.int64], value: NDArray[np.int64], votes: dict[int, Counter[int]]
    ) -> Iterator[Outlined]:
        """What lies inside one tile."""
        by_piece = polygons_by_piece(Runs(*runs), self.across) if runs.shape[1] else {}
        if not self.objects:
            for piece, polygon in by_piece.items():
                yield Outlined(int(value[piece]), [polygon])
            return
        by_id: dict[int, list[int]] = defaultdict(list)
        for piece in by_piece:
            by_id[int(value[piece])].append(piece)
        for index, pieces in by_id.items():
            polygons = [by_piece[piece] for piece in pieces]
            yield Outlined(index, polygons, _winner(votes.get(p, Counter()) for p in pieces))

    def _closed(self, parts: list[_Held], members: list[int]) -> Outlined:
        """What lay in several tiles."""
        columns = []
        for held, node in zip(parts, members, strict=True):
            root = self._root(node)
            for runs in held.runs:
                runs[3] = root
                columns.append(runs)
        runs = _straightened(np.concatenate(columns, axis=1), self.across)
        polygons = list(polygons_by_piece(Runs(*runs), self.across).values())
        return Outlined(parts[0].value, polygons, _winner(held.votes for held in parts))

    def _root(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node


def _votes(
    pieces: NDArray[np.int64], classes: NDArray[np.integer], n: int
) -> dict[int, Counter[int]]:
    """How many pixels of each class a piece has."""
    found: dict[int, Counter[int]] = defaultdict(Counter)
    keys, counts = np.unique(pieces * 256 + classes, return_counts=True)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        piece, class_id = divmod(key, 256)
        if piece and class_id not in (0, 255):
            found[piece][class_id] = count
    return found


def _winner(votes: Iterable[Counter[int]]) -> int:
    """The class with the most pixels; of two with as many the smaller id; 0: none."""
    total: Counter[int] = Counter()
    for one in votes:
        total.update(one)
    return min(total, key=lambda c: (-total[c], c)) if total else 0


def _runs_of(
    ext: NDArray[np.integer], pieces: NDArray[np.int64], at: Region, across: int
) -> NDArray[np.int64]:
    """Straight runs of edges of a tile's pieces: start, end, way, piece as rows ``(4, n)``.

    An edge lies between a pixel and a neighbour of another id, also one in the rim.
    """
    core = ext[1:-1, 1:-1]
    parts = []
    for sideways, before, beside in (
        (False, True, ext[:-2, 1:-1]), (False, False, ext[2:, 1:-1]),
        (True, True, ext[1:-1, :-2]), (True, False, ext[1:-1, 2:]),
    ):  # fmt: skip
        edge = np.where(core != beside, pieces, 0)
        line, first, last, piece = _row_runs(edge.T if sideways else edge)
        line += 0 if before else 1
        if sideways:
            low = (first + at.y) * across + line + at.x
            high = (last + at.y) * across + line + at.x
        else:
            low = (line + at.y) * across + first + at.x
            high = (line + at.y) * across + last + at.x
        way = (NORTH if before else SOUTH) if sideways else (EAST if before else WEST)
        start, end = (low, high) if before != sideways else (high, low)
        parts.append(np.stack([start, end, np.full(len(line), way), piece]))
    return np.concatenate(parts, axis=1)


def _row_runs(
    edge: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Runs of one value along the rows: row, first, last (half-open), value; 0 is none."""
    padded = np.zeros((edge.shape[0], edge.shape[1] + 2), np.int64)
    padded[:, 1:-1] = edge
    change = padded[:, 1:] != padded[:, :-1]
    row, first = np.nonzero(change & (padded[:, 1:] != 0))
    _, last = np.nonzero(change & (padded[:, :-1] != 0))
    return row.copy(), first, last, edge[row, first]


def _straightened(runs: NDArray[np.int64], across: int) -> NDArray[np.int64]:
    """Runs that a tile's border cut put together again."""
    start, end, way, piece = runs
    low, high = np.minimum(start, end), np.maximum(start, end)
    upright = (way == NORTH) | (way == SOUTH)
    line = np.where(upright, low % across, low // across)
    along = np.where(upright, low // across, low % across)
    order = np.lexsort((along, line, way, piece))
    low, high, way, piece, line = (a[order] for a in (low, high, way, piece, line))
    follows = (
        (low[1:] == high[:-1]) & (way[1:] == way[:-1])
        & (piece[1:] == piece[:-1]) & (line[1:] == line[:-1])
    )  # fmt: skip
    firsts = np.flatnonzero(np.r_[True, ~follows])
    lasts = np.r_[firsts[1:] - 1, len(low) - 1]
    low, high, way, piece = low[firsts], high[lasts], way[firsts], piece[firsts]
    forward = (way == EAST) | (way == SOUTH)
    return np.stack([np.where(forward, low, high), np.where(forward, high, low), way, piece])

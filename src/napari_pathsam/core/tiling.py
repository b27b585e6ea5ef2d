"""Tiles: overlapping pieces that cover a part of an image, and how they are blended.

A whole image has one grid of tiles, anchored at its corner (:class:`TileGrid`): a part of it can be
worked on anywhere, in any order, and the tiles are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region


@dataclass(frozen=True)
class Tile:
    """A piece of an image that is worked on at once.

    ``fade_px`` says over how many pixels its weight rises from each side (top, bottom, left,
    right): 0 where the image ends, so that nothing is lost there.
    """

    region: Region
    fade_px: tuple[int, int, int, int]

    def weights(self) -> NDArray[np.float32]:
        """``(h, w)``, how much each pixel counts where tiles overlap: low at the sides, never 0.

        What a network says near a tile's side it says without knowing what lies beyond.
        """
        top, bottom, left, right = self.fade_px
        rows = _rising(self.region.height, top) * _rising(self.region.height, bottom)[::-1]
        columns = _rising(self.region.width, left) * _rising(self.region.width, right)[::-1]
        return rows[:, None] * columns[None, :]


def _rising(n: int, fade: int) -> NDArray[np.float32]:
    """From almost 0 to 1 over ``fade`` pixels, flat at both ends (3t² − 2t³)."""
    t = np.clip((np.arange(n) + 0.5) / max(fade, 0.5), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a whole image: every ``tile_px - overlap_px`` pixels from its corner.

    They lie inside the image: the last one of a row or column is put back to its end. An axis on
    which the image is shorter than a tile has one tile, of the image's length.
    """

    shape_yx: tuple[int, int]
    tile_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px < self.tile_px:
            raise ValueError(
                f"overlap_px={self.overlap_px} leaves no way on for tiles of {self.tile_px} px; "
                f"it must be 0 or more and below {self.tile_px}"
            )

    @property
    def stride_px(self) -> int:
        """From the start of a tile to that of the next."""
        return self.tile_px - self.overlap_px

    def touching(self, region: Region) -> list[Tile]:
        """The tiles that hold any of a region, row by row."""
        rows = self._touching(0, region.y, region.y + region.height)
        columns = self._touching(1, region.x, region.x + region.width)
        return [self.tile_at(y, x) for y in rows for x in columns]

    def tile_at(self, y: int, x: int) -> Tile:
        """The tile that begins there, which fades wherever the image goes on."""
        height, width = (min(self.tile_px, n) for n in self.shape_yx)
        fade = self.overlap_px
        return Tile(
            Region(y, x, height, width),
            (
                fade if y > 0 else 0,
                fade if y + height < self.shape_yx[0] else 0,
                fade if x > 0 else 0,
                fade if x + width < self.shape_yx[1] else 0,
            ),
        )

    def starts(self, axis: int) -> list[int]:
        """Where tiles begin along an axis."""
        return self._touching(axis, 0, self.shape_yx[axis])

    def _touching(self, axis: int, low: int, high: int) -> list[int]:
        last = max(self.shape_yx[axis] - self.tile_px, 0)
        count = -(-last // self.stride_px) + 1
        first = max(0, (low - self.tile_px) // self.stride_px)
        indices = range(first, min(count, high // self.stride_px + 1))
        starts = {min(i * self.stride_px, last) for i in indices}
        if high > last:
            starts.add(last)
        return sorted(at for at in starts if at < high and at + self.tile_px > low)


def plan_tiles(
    shape_yx: tuple[int, int],
    *,
    tile_px: int,
    overlap_px: int,
    region: Region | None = None,
    first: Region | None = None,
) -> list[Tile]:
    """Cover a region with tiles of one size that overlap by at least ``overlap_px``.

    The whole image is covered by its :class:`TileGrid`. Over a part of it the tiles are spread
    evenly, with as few of them as will do; what they reach beyond the region is context on all
    sides of it.

    Parameters
    ----------
    shape_yx
        Rows and columns of the image, in the pixels the tiles are planned in.
    tile_px
        Side of a tile.
    overlap_px
        Least overlap of neighbours.
    region
        What must be covered; by default the whole image.
    first
        What is looked at: the tiles come in the order of their distance from it. By default row
        by row.
    """
    grid = TileGrid(shape_yx, tile_px, overlap_px)
    whole = Region.of(shape_yx)
    region = (region or whole).intersection(whole)
    if region is None:
        return []
    rows, columns = (
        grid.starts(axis) if length == n else _spread(n, start, length, tile_px, overlap_px)
        for axis, (n, start, length) in enumerate(
            zip(shape_yx, (region.y, region.x), region.shape_yx, strict=True)
        )
    )
    tiles = [grid.tile_at(y, x) for y in rows for x in columns]
    return tiles if first is None else sorted(tiles, key=lambda tile: distance(tile.region, first))


def _spread(n: int, start: int, length: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles of one axis begin that cover a part of it."""
    if n <= tile:
        return [0]
    step = tile - overlap
    count = 1 if length <= tile else -(-(length - tile) // step) + 1
    cover = min(n, tile + (count - 1) * step)
    begin = min(max(start - (cover - length) // 2, 0), n - cover)
    return [begin + int(at) for at in np.linspace(0, cover - tile, count)]


def spread_out(pieces: Sequence[Region], ranks: Sequence[Any], first: Region) -> Iterator[int]:
    """Indices of pieces in an order in which whoever stops early has seen some from everywhere.

    Lower ranks come first; the first piece is the nearest to ``first``, each next one the farthest
    from all before it (Gonzalez, Clustering to minimize the maximum intercluster distance, TCS 38,
    1985).
    """
    middles = np.array([(p.y + p.height / 2, p.x + p.width / 2) for p in pieces])
    order = sorted(set(ranks))
    waiting = np.array([order.index(rank) for rank in ranks], float)
    far = -_squared(middles, np.array([first.y + first.height / 2, first.x + first.width / 2]))
    for done in range(len(pieces)):
        next_ones = np.flatnonzero(waiting == waiting.min())
        i = int(next_ones[far[next_ones].argmax()])
        waiting[i] = np.inf
        gaps = _squared(middles, middles[i])
        far = np.minimum(far, gaps) if done else gaps
        yield i


def _squared(middles: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    gaps: NDArray[np.float64] = ((middles - one) ** 2).sum(1)
    return gaps


def distance(one: Region, first: Region) -> float:
    """Of a piece's middle from that of a region; what does not touch the region comes last."""
    middles = [(r.y + r.height / 2, r.x + r.width / 2) for r in (one, first)]
    far = float(np.hypot(middles[0][0] - middles[1][0], middles[0][1] - middles[1][1]))
    return far + (0.0 if one.intersection(first) else 1e9)

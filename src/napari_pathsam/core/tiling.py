"""Tiles: overlapping pieces that cover a part of an image, and how they are blended."""

from __future__ import annotations

from dataclasses import dataclass

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


def plan_tiles(
    shape_yx: tuple[int, int],
    *,
    tile_px: int,
    overlap_px: int,
    region: Region | None = None,
    first: Region | None = None,
) -> list[Tile]:
    """Cover a region with tiles of one size that overlap by at least ``overlap_px``.

    Tiles lie inside the image and are spread evenly; what they reach beyond the region is context
    on all sides of it. An axis on which the image is shorter than a tile has one tile, of the
    image's length.

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
    if not 0 <= overlap_px < tile_px:
        raise ValueError(
            f"overlap_px={overlap_px} leaves no way on for tiles of {tile_px} px; "
            f"it must be 0 or more and below {tile_px}"
        )
    whole = Region.of(shape_yx)
    region = (region or whole).intersection(whole)
    if region is None:
        return []
    spans = [
        _spans(n, start, length, tile_px, overlap_px)
        for n, start, length in zip(shape_yx, (region.y, region.x), region.shape_yx, strict=True)
    ]
    height, width = (min(tile_px, n) for n in shape_yx)
    fade = overlap_px
    tiles = [
        Tile(
            Region(y, x, height, width),
            (
                fade if y > 0 else 0,
                fade if y + height < shape_yx[0] else 0,
                fade if x > 0 else 0,
                fade if x + width < shape_yx[1] else 0,
            ),
        )
        for y in spans[0]
        for x in spans[1]
    ]
    return tiles if first is None else sorted(tiles, key=lambda tile: _distance(tile, first))


def _spans(n: int, start: int, length: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles of one axis begin."""
    if n <= tile:
        return [0]
    step = tile - overlap
    count = 1 if length <= tile else -(-(length - tile) // step) + 1
    cover = min(n, tile + (count - 1) * step)
    begin = min(max(start - (cover - length) // 2, 0), n - cover)
    return [begin + int(at) for at in np.linspace(0, cover - tile, count)]


def _distance(tile: Tile, first: Region) -> float:
    """Of a tile's middle from the middle of a region; what does not touch the region comes last."""
    middles = [(r.y + r.height / 2, r.x + r.width / 2) for r in (tile.region, first)]
    far = float(np.hypot(middles[0][0] - middles[1][0], middles[0][1] - middles[1][1]))
    return far + (0.0 if tile.region.intersection(first) else 1e9)

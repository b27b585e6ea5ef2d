"""Logits of overlapping tiles as one: weighted means on the cells, classes at level-0 pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.working_grid import WorkingGrid

NOTHING = 32.0
"""The logit of background where nothing was looked at."""
BAND_VALUES = 2**23
"""Logits that are held at level-0 resolution at a time."""


def grown(cells: Region, by: int) -> Region:
    """A region with so much more on each side."""
    return Region(cells.y - by, cells.x - by, cells.height + 2 * by, cells.width + 2 * by)


class Blend:
    """The weighted mean of what overlapping tiles say, on the cells they cover together."""

    def __init__(self, n_channels: int, cover: Region) -> None:
        self._cover = cover
        self._sum = torch.zeros(n_channels, *cover.shape_yx)
        self._weight = torch.zeros(*cover.shape_yx)

    def add(self, tile: Tile, logits: Tensor) -> None:
        """``(K, h, w)`` of a tile, as far as it is covered; the order of tiles does not matter."""
        inside = tile.region.intersection(self._cover)
        if inside is None:
            return
        at = Region(inside.y - tile.region.y, inside.x - tile.region.x, *inside.shape_yx).slices
        weights = torch.from_numpy(tile.weights()[at])
        rows, columns = self._index(inside)
        self._sum[:, rows, columns] += logits[:, *at] * weights
        self._weight[rows, columns] += weights

    def rest_is_background(self) -> None:
        """What no tile covers is background, and surely."""
        bare = self._weight == 0
        self._sum[0, bare] = NOTHING
        self._weight[bare] = 1

    def mean(self, cells: Region) -> Tensor:
        """``(K, h, w)`` logits of cells that tiles have covered."""
        rows, columns = self._index(cells)
        return self._sum[:, rows, columns] / self._weight[rows, columns]

    def class_map(
        self,
        grid: WorkingGrid,
        region: Region,
        ids: NDArray[np.uint8],
        threshold: float,
        likely: NDArray[np.float16] | None = None,
    ) -> NDArray[np.uint8]:
        """``(h, w)`` class ids of a level-0 region, from logits bilinear between the cells.

        What is less likely than ``threshold`` is "unsure". ``likely`` ``(h, w)`` is filled with the
        probability of the likeliest class.
        """
        cells = grown(grid.cells_of(region), 2).intersection(self._cover)
        assert cells is not None
        logits = self._known(cells)
        (sy, sx), (height, width) = grid.cell_level0_yx, region.shape_yx
        ys = (torch.arange(height, dtype=torch.float64) + region.y + 0.5) / sy - 0.5 - cells.y
        xs = (torch.arange(width, dtype=torch.float64) + region.x + 0.5) / sx - 0.5 - cells.x
        out = np.empty((height, width), np.uint8)
        rows = max(1, BAND_VALUES // (len(logits) * width))
        for top in range(0, height, rows):
            band = _bilinear(_bilinear(logits, ys[top : top + rows], 1), xs, 2)
            best, channel = band.max(0)
            found = ids[channel.numpy()]
            if threshold > 0 or likely is not None:
                sure = (1 / (band - best).exp_().sum(0)).numpy()
                if threshold > 0:
                    found[sure < threshold] = UNSURE
                if likely is not None:
                    likely[top : top + rows] = sure
            out[top : top + rows] = found
        return out

    def _known(self, cells: Region) -> Tensor:
        """Their logits; those no tile has covered yet are given their nearest neighbour's."""
        rows, columns = self._index(cells)
        weight = self._weight[rows, columns]
        logits = self._sum[:, rows, columns] / weight.clamp(min=1e-12)
        if bool((weight > 0).all()):
            return logits
        from scipy import ndimage

        nearest = ndimage.distance_transform_edt(
            (weight == 0).numpy(), return_distances=False, return_indices=True
        )
        y, x = torch.from_numpy(nearest).long()
        return logits[:, y, x]

    def _index(self, cells: Region) -> tuple[slice, slice]:
        y, x = cells.y - self._cover.y, cells.x - self._cover.x
        return slice(y, y + cells.height), slice(x, x + cells.width)


def _bilinear(values: Tensor, at: Tensor, axis: int) -> Tensor:
    """``values`` between its samples along one axis; beyond the last ones they stay."""
    at = at.clamp(0, values.shape[axis] - 1)
    low = at.floor().long()
    share = (at - low).float()
    share = share[:, None] if axis == 1 else share
    high = (low + 1).clamp(max=values.shape[axis] - 1)
    return torch.lerp(values.index_select(axis, low), values.index_select(axis, high), share)

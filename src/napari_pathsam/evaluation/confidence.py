"""Class maps together with how sure the model was of them, at every pixel of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings, finish, paint, segment_tiles
from napari_pathsam.io.slides import ArraySlide

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

LEAST = 1e-7
"""Probabilities below what a float16 can say."""
BAND_VALUES = 2**23
"""Values that are held at the image's resolution at a time."""


@dataclass(frozen=True)
class SureMap:
    """Class ids ``(H, W)``, and probabilities ``(K + 1, h, w)`` of the network's cells.

    ``cells`` says which cells, in steps of ``cell_yx`` pixels from the image's corner; background
    comes first, then the classes in the model's order.
    """

    class_map: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    cells: Region
    cell_yx: tuple[float, float]

    def probability_of(
        self, positions: NDArray[np.integer], of_channel: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The probability of what stands in ``positions`` ``(H, W)``.

        ``of_channel[k]`` is the position that channel ``k`` counts as. Logarithms are taken
        bilinear between the cells, as logits are when the class map is made.
        """
        logs = np.log(np.maximum(self.probabilities, LEAST))
        height, width = positions.shape
        starts = (self.cells.y, self.cells.x)
        ys, xs = (
            (np.arange(n) + 0.5) / step - 0.5 - start
            for n, step, start in zip(positions.shape, self.cell_yx, starts, strict=True)
        )
        out = np.empty(positions.shape, np.float32)
        rows = max(1, BAND_VALUES // (len(logs) * width))
        for top in range(0, height, rows):
            band = np.s_[top : top + rows]
            values = np.exp(_bilinear(_bilinear(logs, ys[band], 1), xs, 2))
            counted = of_channel[:, None, None] == positions[band]
            out[band] = (values * counted).sum(0) / values.sum(0)
        return out


def segment_surely(
    model: ClassModel, image: NDArray[np.uint8], mpp: float, settings: SegmentSettings
) -> SureMap:
    """Segment ``(H, W, 3)``; ``settings.keep_probabilities`` has to be on."""
    slide = ArraySlide(image, mpp=mpp)
    whole = Region.of(slide.shape_yx)
    class_map = np.zeros(whole.shape_yx, np.uint8)
    tiles = []
    for tile in segment_tiles(model, slide, mpp=mpp, settings=settings):
        paint(class_map, whole, tile)
        tiles.append(tile)
    y, x = (min(getattr(t.cells, a) for t in tiles) for a in "yx")
    bottom = max(t.cells.y + t.cells.height for t in tiles)
    right = max(t.cells.x + t.cells.width for t in tiles)
    cover = Region(y, x, bottom - y, right - x)
    assert tiles[0].probabilities is not None
    merged = np.zeros((len(tiles[0].probabilities), *cover.shape_yx), np.float32)
    for tile in tiles:  # where they overlap the later one is right
        assert tile.probabilities is not None
        inside = Region(tile.cells.y - y, tile.cells.x - x, *tile.cells.shape_yx)
        merged[:, *inside.slices] = tile.probabilities
    return SureMap(finish(class_map, settings), merged, cover, tiles[0].cell_yx)


def _bilinear(values: NDArray[np.float32], at: NDArray[np.float64], axis: int) -> NDArray:
    """``values`` between its samples along one axis; beyond the last ones they stay."""
    at = np.clip(at, 0, values.shape[axis] - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (at - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (-1,))
    return values.take(low, axis) * (1 - share) + values.take(high, axis) * share

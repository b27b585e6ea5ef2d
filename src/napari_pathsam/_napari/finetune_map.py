"""The map of “Where next?”: what was looked at, in an array that does not grow with the slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari_pathsam.inference.uncertainty import Seen

MOST_VALUES = 2**22


class UncertaintyMap:
    """Uncertainty of tiles as they come; of a slide of every second cell, every third ….

    Attributes
    ----------
    values
        ``(h, w)`` float32, NaN where nobody looked.
    region
        The level-0 pixels that they cover.
    last
        What was seen last.
    """

    def __init__(self, seen: Seen, most: int = MOST_VALUES) -> None:
        cover, (sy, sx) = seen.cover, seen.cell_yx
        self._corner = (cover.y, cover.x)
        self._step = int(np.ceil((cover.height * cover.width / most) ** 0.5))
        shape = tuple(-(-n // self._step) for n in cover.shape_yx)
        self.values: NDArray[np.float32] = np.full(shape, np.nan, np.float32)
        height, width = (n * self._step for n in shape)
        self.region = Region(
            round(cover.y * sy), round(cover.x * sx), round(height * sy), round(width * sx)
        )
        self.add(seen)

    def add(self, seen: Seen) -> None:
        """One more tile."""
        to, of = [], []
        for start, n, corner in zip(
            (seen.cells.y, seen.cells.x), seen.cells.shape_yx, self._corner, strict=True
        ):
            skipped = (self._step // 2 - (start - corner)) % self._step
            first = (start - corner + skipped) // self._step
            of.append(slice(skipped, None, self._step))
            to.append(slice(first, first + len(range(skipped, n, self._step))))
        self.values[tuple(to)] = seen.uncertainty[tuple(of)]
        self.last = seen

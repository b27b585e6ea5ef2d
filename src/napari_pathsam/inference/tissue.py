"""The tissue of a slide: looked for once on an overview, asked for wherever there is work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tissue import is_dark, is_grey, tissue_mask
from napari_pathsam.inference.windows import read_around_damage

if TYPE_CHECKING:
    from napari_pathsam.inference.working_grid import TileSource

OVERVIEW_UM = 8.0
LONGEST_PX = 4096
"""An overview has pixels of 8 µm, or larger ones where it would be longer than this."""


@dataclass(frozen=True)
class Tissue:
    """Where a slide has tissue: ``mask`` over its ``shape_yx`` level-0 pixels, coarse.

    ``measured``: coloured light came through the slide, so that the mask is an area to relate
    others to; of a dark ground, as of fluorescence, and of grey, it only says where there may be
    something.
    """

    mask: NDArray[np.bool_]
    shape_yx: tuple[int, int]
    measured: bool = True

    def touches(self, region: Region) -> bool:
        """Whether there is tissue in a region of level-0 pixels, or within a pixel of the mask."""
        spans = []
        for start, length, n, whole in zip(
            (region.y, region.x), region.shape_yx, self.mask.shape, self.shape_yx, strict=True
        ):
            low = int(start * n / whole) - 1
            spans.append(slice(max(0, low), -int(-(start + length) * n // whole) + 1))
        return bool(self.mask[tuple(spans)].any())

    def mm2(
        self, mpp: float, region: Region | None = None, within: NDArray[np.bool_] | None = None
    ) -> float | None:
        """Its area in a region of level-0 pixels, at this size of them; None: not to be known.

        Parameters
        ----------
        region
            None: all of the slide.
        within
            ``(h, w)``, which pixels of the region count; None: each of them.
        """
        if not self.measured:
            return None
        region = region or Region.of(self.shape_yx)
        rows, columns = (
            ((start + np.arange(length) + 0.5) * n / whole).astype(int)
            for start, length, n, whole in zip(
                (region.y, region.x), region.shape_yx, self.mask.shape, self.shape_yx, strict=True
            )
        )
        if within is None:
            mask = self.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            height, width = (np.bincount(n - n[0]).astype(float) for n in (rows, columns))
            return float(height @ mask @ width) * mpp**2 / 1e6
        each, first = np.unique(rows, return_index=True)
        px = sum(
            np.count_nonzero(strip & self.mask[row, columns])
            for row, strip in zip(each.tolist(), np.split(within, first[1:]), strict=True)
        )
        return float(px * mpp**2 / 1e6)


def find_tissue(slide: TileSource, mpp: float, region: Region | None = None) -> Tissue:
    """Look for tissue on a coarse level.

    Raises
    ------
    BadImageError
        There is none in the region (by default the whole slide).
    """
    whole = Region.of(slide.shape_yx)
    step = max(OVERVIEW_UM / mpp, max(slide.shape_yx) / LONGEST_PX, 1.0)
    height, width = (max(1, round(n / step)) for n in slide.shape_yx)
    overview, _ = read_around_damage(slide, whole, (height, width))
    mask = tissue_mask(overview, um_per_px=mpp * step)
    tissue = Tissue(mask, slide.shape_yx, measured=not (is_dark(overview) or is_grey(overview)))
    if not tissue.touches(region or whole):
        where = "" if region is None else f" in {region}"
        raise BadImageError(
            f"No tissue was found on {slide.name}{where}: it looks like empty glass, or like pen "
            "marks only. If there is tissue, so faint that it was missed, work on everything "
            "(tissue=False, --everywhere); else choose another slide or region."
        )
    return tissue


def tissue_of(slide: TileSource, mpp: float, region: Region | None = None) -> Tissue | None:
    """Where there is tissue; None: there is none in the region (by default the whole slide)."""
    try:
        return find_tissue(slide, mpp, region)
    except BadImageError:
        return None

"""The frame a class map is made in: the image at the model's pixel size, and the network's cells.

Three frames meet here. *Level-0 pixels* are the image's own. *Working pixels* are those of the
image at the model's pixel size. *Cells* are what the network answers in, one for four of a SAM's
pixels or one of a task-specific network's, counted from the image's corner: all tiles lie on them,
so their answers add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError, BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile, TileGrid, plan_tiles

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

STEP_PX = 32
"""Network pixels per step of the network's input sizes."""
LONGEST_PX = 2_000_000
"""Rows or columns of a slide in working pixels; more are not to be believed."""


class TileSource(Protocol):
    """What is segmented: a slide, or an image layer read like one."""

    name: str

    @property
    def shape_yx(self) -> tuple[int, int]: ...
    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class MppWarning:
    """The image's pixel size is not one the model was made for; ``str()`` is for people."""

    model: str
    mpp: float
    mpp_range: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.mpp_range
        coarse = self.mpp > high
        return (
            f"The image has {self.mpp:.3g} µm per pixel, and {self.model} is at home between "
            f"{low:g} and {high:g}: the image is {'coarser' if coarse else 'finer'} than what it "
            f"was made for"
            + (", and details it looks for may be missing. " if coarse else ". ")
            + "Check the pixel size, and look at the result with care."
        )


class RegionWarning(UserWarning):
    """More was asked for than there is."""


@dataclass(frozen=True)
class CutWarning:
    """A region reaches beyond its slide and is cut to it; ``str()`` is for people."""

    name: str
    shape_yx: tuple[int, int]
    asked: Region
    kept: Region

    def __str__(self) -> str:
        height, width = self.shape_yx
        return (
            f"{_rows_and_columns(self.asked)} were asked for, and {self.name} has {height} × "
            f"{width} pixels: only {_rows_and_columns(self.kept).lower()} are segmented, "
            f"{self.kept.height} × {self.kept.width} pixels. If that is not the place you meant, "
            "check the numbers: they are pixels of the full resolution, rows first."
        )


def _rows_and_columns(region: Region) -> str:
    y, x, height, width = region.y, region.x, region.height, region.width
    return f"Rows {y} to {y + height}, columns {x} to {x + width}"


def checked_mpp(
    model: ClassModel, mpp: float | None, *, name: str
) -> tuple[float, MppWarning | None]:
    """The image's pixel size, and a warning where the model is not at home.

    Raises
    ------
    BadImageError
        The pixel size is unknown, or not a size.
    """
    wanted, known = model.config.mpp, model.config.mpp_range
    if mpp is None:
        raise BadImageError(
            f"The pixel size of {name} is not known, and {model.name} works at {wanted:g} µm per "
            "pixel. Give it (mpp=…, --mpp, or the field in the dock); "
            f"{wanted:g} takes the pixels as they are."
        )
    if not 0.001 <= mpp <= 1000:
        raise BadImageError(f"{mpp:g} µm per pixel is no pixel size; 0.1 to 2 are usual.")
    outside = known is not None and not known[0] / 1.02 <= mpp <= known[1] * 1.02
    return mpp, MppWarning(model.name, mpp, known) if known and outside else None


def at_home(mpp: float, learned_from: Iterable[float | None]) -> tuple[float, float] | None:
    """Between which pixel sizes a model is at home that works at ``mpp``, where nobody measured it.

    From half the finest to one and a half times the coarsest it has seen: finer pixels are
    averaged, but what coarser ones lack cannot be made up. None where an image's is not known.
    """
    seen = [mpp, *learned_from]
    known = [one for one in seen if one is not None]
    if len(seen) == 1 or len(known) < len(seen):
        return None
    return (round(0.5 * min(known), 4), round(1.5 * max(known), 4))


def checked_region(
    model: ClassModel, slide: TileSource, region: Region | None
) -> tuple[Region, CutWarning | None]:
    """The part of a slide that a model is to segment; None: all of it. And a warning if it is cut.

    Raises
    ------
    BadWeightsError
        The model knows no classes.
    BadImageError
        The region lies outside the slide.
    """
    if not hasattr(model, "decode_classes"):
        raise BadWeightsError(
            f"{model.name} answers prompts and knows no classes. Choose a model with classes, such "
            "as pathsam-nano:glands; `pathsam models list` shows them."
        )
    whole = Region.of(slide.shape_yx)
    wanted = (region or whole).intersection(whole)
    if wanted is None:
        raise BadImageError(
            f"The region {region} lies outside {slide.name}, which has "
            f"{whole.height} × {whole.width} pixels."
        )
    if region is None or wanted == region:
        return wanted, None
    return wanted, CutWarning(slide.name, whole.shape_yx, region, wanted)


@dataclass(frozen=True)
class WorkingGrid:
    """How an image of ``shape_yx`` level-0 pixels lies on the network's cells.

    Attributes
    ----------
    shape_yx
        Level-0 rows and columns of the image.
    working_yx
        The same in working pixels.
    cell_px
        Working pixels per cell.
    tile_cells
        Side of a tile in cells.
    square
        Whether the network wants whole square tiles, whatever the image.
    step
        Cells per step of the network's input sizes.
    """

    shape_yx: tuple[int, int]
    working_yx: tuple[int, int]
    cell_px: float
    tile_cells: int
    square: bool
    step: int = 8

    @classmethod
    def of(cls, model: ClassModel, shape_yx: tuple[int, int], mpp: float) -> WorkingGrid:
        """The grid of a model on an image of this pixel size in µm."""
        config = model.config
        height, width = (max(1, round(n * mpp / config.mpp)) for n in shape_yx)
        steps = max(1, round(model.tile_px * config.enlarge / STEP_PX))
        step = STEP_PX // model.cell_px
        return cls(
            shape_yx=shape_yx,
            working_yx=(height, width),
            cell_px=model.cell_px / config.enlarge,
            tile_cells=steps * step,
            square=model.square,
            step=step,
        )

    @property
    def cells_yx(self) -> tuple[int, int]:
        """Cells that cover the image; the last ones may reach beyond it."""
        rows, columns = (-int(-n // self.cell_px) for n in self.working_yx)
        return (rows, columns)

    @property
    def cell_level0_yx(self) -> tuple[float, float]:
        """Level-0 pixels per cell."""
        rows, columns = (
            n / w * self.cell_px for n, w in zip(self.shape_yx, self.working_yx, strict=True)
        )
        return (rows, columns)

    def cells_of(self, region: Region) -> Region:
        """The cells that hold a level-0 region."""
        (sy, sx), (rows, columns) = self.cell_level0_yx, self.cells_yx
        y, x = int(region.y / sy), int(region.x / sx)
        bottom = min(rows, -int(-(region.y + region.height) // sy))
        right = min(columns, -int(-(region.x + region.width) // sx))
        return Region(y, x, max(1, bottom - y), max(1, right - x))

    def tiles(self, overlap: float, region: Region, first: Region | None) -> list[Tile]:
        """Tiles that cover a region of cells, nearest to ``first`` first; ``overlap`` is a part.

        They begin at whole steps: a network sees the same pixels at the same place of its strides
        whatever the tile, so a tile's place changes its answer as little as it can. At the image's
        end a tile is cut off.
        """
        planned = plan_tiles(
            self._steps_yx,
            tile_px=self._tile_steps,
            overlap_px=self._overlap_steps(overlap),
            region=self._in_steps(region),
            first=None if first is None else self._in_steps(first),
        )
        return [self._in_cells(tile) for tile in planned]

    def windows(self, overlap: float, region: Region) -> list[Tile]:
        """The tiles of the whole image's grid that touch a region of cells, in grid order.

        The grid is anchored at the image's corner, so that a tile is the same whoever asks.
        """
        grid = TileGrid(self._steps_yx, self._tile_steps, self._overlap_steps(overlap))
        return [self._in_cells(tile) for tile in grid.touching(self._in_steps(region))]

    def stride_level0(self, overlap: float) -> float:
        """Level-0 pixels from the start of a window to that of the next, along the longer step."""
        steps = self._tile_steps - self._overlap_steps(overlap)
        return steps * self.step * max(self.cell_level0_yx)

    def level0_of(self, cells: Region) -> Region:
        """The level-0 pixels whose centres lie in these cells."""
        spans = []
        for start, length, step, n in zip(
            (cells.y, cells.x), cells.shape_yx, self.cell_level0_yx, self.shape_yx, strict=True
        ):
            low = min(round(start * step), n - 1)
            spans.append((low, max(1, min(round((start + length) * step), n) - low)))
        (y, height), (x, width) = spans
        return Region(y, x, height, width)

    def encoded_cells(self, cells: Region) -> tuple[int, int]:
        """Rows and columns the network is given for a tile: whole steps, or its whole canvas."""
        if self.square:
            return (self.tile_cells, self.tile_cells)
        rows, columns = (-(-n // self.step) * self.step for n in cells.shape_yx)
        return (rows, columns)

    def pixels_of(self, cells: Region) -> tuple[Region, tuple[int, int], tuple[int, int]]:
        """What is read for a tile.

        Returns
        -------
        The level-0 region, the working pixels it is read at, and the working pixels it is filled
        up to (:meth:`encoded_cells`).
        """
        spans = []
        for start, length, whole, n in zip(
            (cells.y, cells.x), cells.shape_yx, self.working_yx, self.shape_yx, strict=True
        ):
            low = start * self.cell_px
            high = min((start + length) * self.cell_px, whole)
            first = min(round(low * n / whole), n - 1)
            last = max(first + 1, round(high * n / whole))
            spans.append((first, last - first, max(1, round(high - low))))
        (y, height, rows), (x, width, columns) = spans
        full = [round(n * self.cell_px) for n in self.encoded_cells(cells)]
        filled = (max(full[0], rows), max(full[1], columns))
        return Region(y, x, height, width), (rows, columns), filled

    @property
    def _steps_yx(self) -> tuple[int, int]:
        rows, columns = (-(-n // self.step) for n in self.cells_yx)
        return (rows, columns)

    @property
    def _tile_steps(self) -> int:
        return self.tile_cells // self.step

    def _overlap_steps(self, overlap: float) -> int:
        wanted = max(1, round(overlap * self._tile_steps)) if overlap else 0
        return min(wanted, self._tile_steps - 1)

    def _in_cells(self, tile: Tile) -> Tile:
        """A tile of steps, in cells; at the image's end it is cut off."""
        r, step = tile.region, self.step
        cells = Region(r.y * step, r.x * step, r.height * step, r.width * step)
        inside = cells.intersection(Region.of(self.cells_yx))
        assert inside is not None
        top, bottom, left, right = (n * step for n in tile.fade_px)
        return Tile(inside, (top, bottom, left, right))

    def _in_steps(self, cells: Region) -> Region:
        """The steps that hold a region of cells."""
        y, x = cells.y // self.step, cells.x // self.step
        bottom = -(-(cells.y + cells.height) // self.step)
        right = -(-(cells.x + cells.width) // self.step)
        return Region(y, x, bottom - y, right - x)


def checked_grid(model: ClassModel, slide: TileSource, mpp: float) -> WorkingGrid:
    """The model's cells on a slide of this pixel size in µm; BadImageError where it is absurd."""
    grid = WorkingGrid.of(model, slide.shape_yx, mpp)
    longest = max(grid.working_yx)
    if longest > LONGEST_PX or min(grid.cell_level0_yx) < 1 / 64:
        raise BadImageError(
            f"At {mpp:g} µm per pixel {slide.name} would be {longest * model.config.mpp / 1e3:.3g} "
            "mm long: that is no slide. Check the pixel size (--mpp); 0.1 to 2 µm are usual."
        )
    return grid

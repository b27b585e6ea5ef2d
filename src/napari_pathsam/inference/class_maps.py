"""One image, or a part of it, to classes: overlapping tiles, blended, one finished piece a tile."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.class_map import drop_specks, fill_enclosed, unsure_areas
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.blending import Blend, grown
from napari_pathsam.inference.embedding_cache import EmbeddingCache, embedding_of
from napari_pathsam.inference.views import logits_of, refuse_views
from napari_pathsam.inference.working_grid import (
    CutWarning,
    MppWarning,
    RegionWarning,
    TileSource,
    WorkingGrid,
    checked_mpp,
    checked_region,
)
from napari_pathsam.io.slides import ArraySlide

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.models.embedding import ImageEmbedding

LARGEST_PX = 16_384**2
"""Level-0 pixels of a region whose class map is held in memory."""
LARGEST_BYTES = 2 * 2**30
"""Memory for the logits that are blended."""
OVERLAP = 0.25
"""Of the tiles of an image, unless settings say otherwise."""
TIMED_TILES = 8
"""The time left follows the last so many tiles."""


@dataclass(frozen=True)
class SegmentSettings:
    """How classes are found, whatever the model.

    Attributes
    ----------
    threshold
        Where the likeliest class has a lower probability than this, the pixel is "unsure" (255).
    surest
        Areas of a class whose pixels are on average less likely than this are "unsure", too.
    smallest_px
        Areas of a class below so many level-0 pixels take the class round them.
    fill_holes_px
        Enclosed background below so many level-0 pixels takes the class round it.
    keep_probabilities
        Whether tiles carry the probabilities of all classes.
    overlap
        Least part of a tile that its neighbour sees too; by default a quarter, of a slide a half.
    views
        Test-time augmentation: answers to so many of a tile's eight flips and turns (1, 2, 4, 8)
        are averaged, each encoded for itself; None: as many as the model says, mostly one.
    """

    threshold: float = 0.0
    smallest_px: int = 0
    fill_holes_px: int = 0
    keep_probabilities: bool = False
    overlap: float | None = None
    views: int | None = None
    surest: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= min(self.threshold, self.surest) <= max(self.threshold, self.surest) <= 1):
            raise ValueError(f"{self}: threshold and surest are from 0 to 1")
        if not 0 <= (self.overlap or 0) <= 0.5:
            raise ValueError(f"{self}: overlap is from 0 to 0.5")
        if min(self.smallest_px, self.fill_holes_px) < 0:
            raise ValueError(f"{self}: pixels are not below 0")
        if self.views not in (None, 1, 2, 4, 8):
            raise ValueError(f"{self}: views are 1, 2, 4 or 8")


@dataclass(frozen=True)
class ClassTile:
    """A piece of the class map; where pieces overlap the later one is right.

    Attributes
    ----------
    region
        Where it lies, in level-0 pixels.
    class_map
        ``(h, w)`` uint8 class ids at the level-0 pixels of ``region``; 255 is "unsure".
    likely
        ``(h, w)`` float16, the probability of the likeliest class there; where ``surest`` asks.
    cells
        The cells of the network that ``probabilities`` and ``uncertainty`` cover; cell ``(i, j)``
        begins at level-0 pixel ``(i, j) × cell_yx``.
    cell_yx
        Level-0 pixels per cell.
    probabilities
        ``(K, h', w')`` float16, background first; None unless asked for.
    uncertainty
        ``(h', w')`` float16, one minus the probability of the likeliest class.
    done, total
        Tiles that are finished, and all.
    seconds_left
        Estimated from the tiles so far.
    encoded
        Whether the tile had to be encoded, or its embedding was known.
    warning
        Said of the whole image: its pixel size is not one the model was made for.
    """

    region: Region
    class_map: NDArray[np.uint8]
    likely: NDArray[np.float16] | None
    cells: Region
    cell_yx: tuple[float, float]
    probabilities: NDArray[np.float16] | None
    uncertainty: NDArray[np.float16]
    done: int
    total: int
    seconds_left: float
    encoded: bool
    warning: MppWarning | None


def segment_tiles(
    model: ClassModel,
    slide: TileSource,
    *,
    mpp: float | None,
    region: Region | None = None,
    first: Region | None = None,
    settings: SegmentSettings | None = None,
    cache: EmbeddingCache | None = None,
) -> Iterator[ClassTile]:
    """Segment an image, or a region of it, tile by tile; closing the generator cancels.

    A tile's classes come as soon as it is decoded, and once more for what its neighbours change.
    In the end neither the order nor the place of the tiles matters: logits of overlapping tiles
    are blended with weights that fall off towards a tile's sides.

    Parameters
    ----------
    model
        Knows classes.
    slide
        What is segmented; read at the model's pixel size.
    mpp
        Its microns per level-0 pixel; None is an error that says what the model wants.
    region
        Level-0 pixels to segment; by default all. What lies round it is seen, not reported.
    first
        What is looked at: tiles there come first.
    settings
        See :class:`SegmentSettings`. Small areas and holes are left to :func:`finish`.
    cache
        Embeddings of other runs.

    Raises
    ------
    BadImageError
        The pixel size is unknown, the region is too large or outside the image.
    BadWeightsError
        The model knows no classes.
    UnavailableError
        Several views are asked of a model that finds objects one by one.
    """
    plan = plan_segmenting(model, slide, mpp=mpp, region=region, first=first, settings=settings)
    return _segmented(model, slide, plan, settings or SegmentSettings(), cache)


@dataclass(frozen=True)
class SegmentPlan:
    """What will be done: the level-0 region, the grid it is done on and its tiles, in cells."""

    region: Region
    grid: WorkingGrid
    tiles: tuple[Tile, ...]
    warning: MppWarning | None
    cut: CutWarning | None = None

    @property
    def cover(self) -> Region:
        """The cells of all tiles together."""
        return cells_of_tiles(self.tiles)


def cells_of_tiles(tiles: Sequence[Tile]) -> Region:
    """The cells between which tiles lie."""
    y, x = (min(getattr(t.region, a) for t in tiles) for a in "yx")
    bottom = max(t.region.y + t.region.height for t in tiles)
    right = max(t.region.x + t.region.width for t in tiles)
    return Region(y, x, bottom - y, right - x)


def plan_segmenting(
    model: ClassModel,
    slide: TileSource,
    *,
    mpp: float | None,
    region: Region | None = None,
    first: Region | None = None,
    settings: SegmentSettings | None = None,
) -> SegmentPlan:
    """Which tiles a run will take; raises what :func:`segment_tiles` does, and reads no pixel."""
    wanted, cut = checked_region(model, slide, region)
    mpp, warning = checked_mpp(model, mpp, name=slide.name)
    settings = settings or SegmentSettings()
    refuse_views(model, settings.views)
    grid = WorkingGrid.of(model, slide.shape_yx, mpp)
    if why := why_too_large(model, grid, wanted):
        raise _too_large(slide.name, wanted, why)
    cells = grid.cells_of(wanted)
    whole = Region.of(slide.shape_yx)
    looked_at = None if first is None else grid.cells_of(first.intersection(whole) or whole)
    overlap = OVERLAP if settings.overlap is None else settings.overlap
    tiles = grid.tiles(overlap, cells, looked_at)
    return SegmentPlan(wanted, grid, tuple(tiles), warning, cut)


def why_too_large(model: ClassModel, grid: WorkingGrid, region: Region) -> str:
    """Why a level-0 region cannot be held in memory with its blended logits; empty: it can."""
    if region.height * region.width > LARGEST_PX:
        return f"at most {LARGEST_PX / 1e6:.0f} million pixels are segmented at once"
    cells = grid.cells_of(region)
    needed = 4 * (len(model.classes) + 2) * cells.height * cells.width
    if needed > LARGEST_BYTES:
        return (
            f"at {model.config.mpp:g} µm per pixel {needed / 2**30:.1f} GiB would be needed, and "
            f"at most {LARGEST_BYTES / 2**30:g} are taken"
        )
    return ""


def _too_large(name: str, region: Region, why: str) -> BadImageError:
    return BadImageError(
        f"{region.height} × {region.width} pixels of {name} are too many to hold in memory: {why}. "
        "Choose a region (--region Y0,X0,Y1,X1, or a rectangle in a shapes layer), and do one "
        "after the other; or give a coarser copy of the image, with its pixel size."
    )


def _segmented(
    model: ClassModel,
    slide: TileSource,
    plan: SegmentPlan,
    settings: SegmentSettings,
    cache: EmbeddingCache | None,
) -> Iterator[ClassTile]:
    blend = Blend(len(model.classes) + 1, plan.cover)
    ids = np.array([0, *(info.id for info in model.classes)], np.uint8)
    times: deque[float] = deque(maxlen=TIMED_TILES)
    for done, tile in enumerate(plan.tiles, start=1):
        started = perf_counter()
        pixels = tile_pixels(slide, plan.grid, tile.region)
        size = plan.grid.encoded_cells(tile.region)
        logits, encoded = logits_of(model, pixels, size, views=settings.views, cache=cache)
        blend.add(tile, logits[:, : tile.region.height, : tile.region.width].float().cpu())
        # One cell more each way: there the new tile changed what lies between the cells.
        seen = grown(tile.region, 1).intersection(plan.cover)
        assert seen is not None
        shown = plan.grid.level0_of(seen).intersection(plan.region)
        assert shown is not None  # every tile was planned for some of the region
        likely = np.empty(shown.shape_yx, np.float16) if settings.surest else None
        class_map = blend.class_map(plan.grid, shown, ids, settings.threshold, likely)
        probabilities = blend.mean(tile.region).softmax(0)
        times.append(perf_counter() - started)
        yield ClassTile(
            region=shown,
            class_map=class_map,
            likely=likely,
            cells=tile.region,
            cell_yx=plan.grid.cell_level0_yx,
            probabilities=probabilities.half().numpy() if settings.keep_probabilities else None,
            uncertainty=(1 - probabilities.amax(0)).half().numpy(),
            done=done,
            total=len(plan.tiles),
            seconds_left=float(np.mean(times)) * (len(plan.tiles) - done),
            encoded=encoded,
            warning=plan.warning,
        )


def tile_embedding(
    model: ClassModel,
    slide: TileSource,
    grid: WorkingGrid,
    cells: Region,
    *,
    cache: EmbeddingCache | None = None,
) -> tuple[ImageEmbedding, bool]:
    """The embedding of a tile of cells, and whether it had to be made.

    With all the magnifications of the base model: heads that look at more or fewer of them, and
    prompts, share it.
    """
    return pixels_embedding(model, tile_pixels(slide, grid, cells), cache=cache)


def tile_pixels(slide: TileSource, grid: WorkingGrid, cells: Region) -> NDArray[np.uint8]:
    """``(h, w, 3)``, what the network is given for a tile."""
    region, shape_yx, full_yx = grid.pixels_of(cells)
    return filled_up(np.asarray(slide.read_resampled(region, shape_yx)), full_yx)


def pixels_embedding(
    model: ClassModel, pixels: NDArray[np.uint8], *, cache: EmbeddingCache | None = None
) -> tuple[ImageEmbedding, bool]:
    """The embedding of :func:`tile_pixels`, and whether it had to be made."""
    return embedding_of(model, pixels, mpp=model.config.mpp, cache=cache)


def filled_up(pixels: NDArray[np.uint8], shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
    """``(h, w, 3)`` with its mirror image below and to the right, up to this shape."""
    pads = [(0, n - have) for n, have in zip(shape_yx, pixels.shape[:2], strict=True)]
    if not any(after for _, after in pads):
        return pixels
    return np.pad(pixels, [*pads, (0, 0)], mode="reflect")


def finish(
    class_map: NDArray[np.uint8],
    settings: SegmentSettings,
    likely: NDArray[np.float16] | None = None,
    *,
    longest_px: float | None = None,
) -> NDArray[np.uint8]:
    """The whole region after its last tile: small areas gone, holes filled, what is unsure said.

    ``likely`` is what tiles say, painted like their class maps; ``settings.surest`` needs it, and
    leaves areas of more than ``longest_px`` rows or columns alone.
    """
    tidy = class_map
    if settings.smallest_px > 1:
        tidy = drop_specks(tidy, settings.smallest_px)
    if settings.fill_holes_px > 0:
        tidy = fill_enclosed(tidy, settings.fill_holes_px)
    if settings.surest > 0:
        assert likely is not None
        tidy = unsure_areas(tidy, likely, settings.surest, longest_px)
    return tidy


class PixelSizeWarning(UserWarning):
    """The image's pixel size is not one the model was made for."""


def segment_classes(
    model: ClassModel,
    image: NDArray[np.uint8] | TileSource,
    mpp: float | None = None,
    *,
    region: Region | None = None,
    threshold: float = 0.0,
    smallest_px: int = 0,
    fill_holes_px: int = 0,
    surest: float = 0.0,
    views: int | None = None,
    cache: EmbeddingCache | None = None,
) -> NDArray[np.uint8]:
    """The class of every pixel of an image, or of a region of it.

    Parameters
    ----------
    model
        Knows classes (``load_model("pathsam-nano:glands")``).
    image
        ``(H, W, 3)`` uint8, or a slide.
    mpp
        Microns per pixel of the image; overrides a slide's own. Needed for an array.
    region
        Level-0 pixels to segment; by default all.
    threshold, smallest_px, fill_holes_px, surest, views
        See :class:`SegmentSettings`.
    cache
        Embeddings of other runs.

    Returns
    -------
    ``(H, W)`` uint8, ids of ``model.classes``; 0 is background, 255 "unsure". Warns with
    :class:`PixelSizeWarning` where the model is not at home, and with ``RegionWarning`` where the
    region reaches beyond the image.
    """
    slide = ArraySlide(image, mpp=mpp) if isinstance(image, np.ndarray) else image
    settings = SegmentSettings(threshold, smallest_px, fill_holes_px, surest=surest, views=views)
    class_map, likely = unfinished(model, slide, mpp, region=region, settings=settings, cache=cache)
    return finish(class_map, settings, likely)


def unfinished(
    model: ClassModel,
    slide: TileSource,
    mpp: float | None = None,
    *,
    region: Region | None = None,
    settings: SegmentSettings,
    cache: EmbeddingCache | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float16] | None]:
    """What :func:`segment_classes` gives to :func:`finish`, to be changed before."""
    mpp = mpp or getattr(slide, "mpp", None)
    plan = plan_segmenting(model, slide, mpp=mpp, region=region, settings=settings)
    if plan.warning is not None:
        warnings.warn(str(plan.warning), PixelSizeWarning, stacklevel=2)
    if plan.cut is not None:
        warnings.warn(str(plan.cut), RegionWarning, stacklevel=2)
    class_map, likely = canvas(plan.region, settings)
    for tile in _segmented(model, slide, plan, settings, cache):
        paint(class_map, plan.region, tile, likely)
    return class_map, likely


def canvas(
    region: Region, settings: SegmentSettings
) -> tuple[NDArray[np.uint8], NDArray[np.float16] | None]:
    """What :func:`paint` paints on: a class map, and how likely it is where that is wanted."""
    likely = np.zeros(region.shape_yx, np.float16) if settings.surest else None
    return np.zeros(region.shape_yx, np.uint8), likely


def paint(
    class_map: NDArray[np.uint8],
    region: Region,
    tile: ClassTile,
    likely: NDArray[np.float16] | None = None,
) -> None:
    """Write a tile into the class map of a level-0 region, and how likely it is, in place."""
    y, x = tile.region.y - region.y, tile.region.x - region.x
    at = Region(y, x, *tile.region.shape_yx).slices
    class_map[at] = tile.class_map
    if likely is not None and tile.likely is not None:
        likely[at] = tile.likely

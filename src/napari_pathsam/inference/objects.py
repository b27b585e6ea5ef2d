"""Class maps to objects: glands and nuclei one by one, and their outlines sharpened by prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.errors import BadImageError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import regions, relabel, split_touching
from napari_pathsam.core.prompts import Prompts, innermost_point
from napari_pathsam.core.splitting import merge_wide_necks, split_by_drop, split_by_seeds
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.class_maps import SegmentSettings, plan_segmenting, tile_embedding
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.working_grid import TileSource, WorkingGrid
from napari_pathsam.models.task_model import TaskModel

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.pathsam import PathSam

SMALLEST_CELLS = 2.0
"""Objects narrower than so many cells of the network are not sharpened."""
SAME_OBJECT = 0.6
"""A sharpened outline that overlaps its proposal less (IoU) is another object, and is refused."""
AT_ONCE = 32
"""Objects decoded in one call."""
Slices = tuple[slice, slice]


def instances(
    class_map: NDArray[np.uint8],
    *,
    split: bool = True,
    smallest_px: int = 0,
    least_seed_px: float = 2.0,
    neck: float = 0.7,
    likely: NDArray[np.floating] | None = None,
    seed: float = 0.0,
    drop: float = 0.0,
    surest: float = 0.0,
) -> NDArray[np.int32]:
    """The objects of a class map: connected areas of one class, touching ones apart.

    Each class is split by a watershed on the distance to its border
    (:func:`~napari_pathsam.core.label_map.split_touching`), then parts that hang together by more
    than a neck are put together again, so a long or ragged object stays one. Or, with ``seed``,
    each object grows from where the model is so sure of it
    (:func:`~napari_pathsam.core.splitting.split_by_seeds`), or with ``drop`` from where it is
    nearly as sure as in the surest part (:func:`~napari_pathsam.core.splitting.split_by_drop`).

    Parameters
    ----------
    class_map
        ``(H, W)`` ids; 0 and "unsure" (255) are no objects.
    split
        Whether touching objects are told apart; otherwise 8-connected areas are the objects.
    smallest_px
        Objects below so many pixels are left out.
    least_seed_px
        Least distance of two seeds.
    neck
        Two parts are two objects where their border is narrower than this part of the slimmer one.
    likely, seed
        ``(H, W)`` probability of what ``class_map`` says, and how likely a seed is; such areas of
        at least ``smallest_px / 4`` pixels are seeds. 0: by shape.
    drop
        How far the log odds of a seed are below the object's surest part; seeds have at least
        ``smallest_px · 2 / 3`` pixels. 0: by shape.
    surest
        Objects of which the model is on average less sure are left out.

    Returns
    -------
    ``(H, W)`` ids from 1; :func:`classes_of` says which class each has.
    """
    from skimage.measure import label

    clean = np.where(class_map == UNSURE, 0, class_map)
    found = np.asarray(label(clean, connectivity=2, background=0), np.int32)
    if split and likely is not None and drop > 0:
        found = _split(found, lambda mask, where: split_by_drop(
            mask, likely[where], drop, max(1, smallest_px * 2 // 3)
        ))  # fmt: skip
    elif split and likely is not None and seed > 0:
        found = _split(found, lambda mask, where: split_by_seeds(
            mask, likely[where], seed, max(1, smallest_px // 4)
        ))  # fmt: skip
    elif split:
        found = _split(
            found, lambda mask, _: merge_wide_necks(split_touching(mask, least_seed_px), neck)
        )
    if smallest_px > 1:
        small = np.bincount(found.ravel()) < smallest_px
        found = np.where(small[found], 0, found)
    if surest > 0 and likely is not None:
        n_px = np.maximum(1, np.bincount(found.ravel()))
        unsure = np.bincount(found.ravel(), likely.ravel()) / n_px < surest
        found = np.where(unsure[found], 0, found)
    return relabel(found)


def _split(
    areas: NDArray[np.int32], split: Callable[[NDArray[np.bool_], Slices], NDArray[np.int32]]
) -> NDArray[np.int32]:
    """Each area split by itself: neighbours of another class do not make it look narrower."""
    out = np.zeros_like(areas)
    n = 0
    for area, region in regions(areas).items():
        # With a rim of background, but for the image's end: what is cut there is not narrower.
        rim = Region(region.y - 1, region.x - 1, region.height + 2, region.width + 2)
        region = rim.intersection(Region.of(areas.shape[:2])) or region
        mask = areas[region.slices] == area
        parts = split(mask, region.slices)
        window = out[region.slices]
        window[mask] = parts[mask] + n
        n += int(parts.max())
    return out


def classes_of(labels: NDArray[np.integer], class_map: NDArray[np.uint8]) -> dict[int, int]:
    """The class of each object: the one most of its pixels have, background and unsure aside."""
    where = (labels != 0) & (class_map != 0) & (class_map != UNSURE)
    pairs, counts = np.unique(
        labels[where].astype(np.int64) * 256 + class_map[where], return_counts=True
    )
    found: dict[int, tuple[int, int]] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        index, value = divmod(pair, 256)
        if count > found.get(index, (0, 0))[0]:
            found[index] = (count, value)
    return {index: value for index, (_, value) in found.items()}


# --- sharpening ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SharpObject:
    """An object as the prompt decoder outlines it: ``mask`` over the level-0 pixels ``region``."""

    label: int
    region: Region
    mask: NDArray[np.bool_]
    score: float


@dataclass(frozen=True)
class SharpTile:
    """The objects of one tile; those that were refused are left out."""

    objects: tuple[SharpObject, ...]
    done: int
    total: int


def sharpen_tiles(
    model: ClassModel,
    slide: TileSource,
    labels: NDArray[np.integer],
    *,
    mpp: float | None,
    region: Region | None = None,
    settings: SegmentSettings | None = None,
    cache: EmbeddingCache | None = None,
) -> Iterator[SharpTile]:
    """Ask the prompt decoder for each object of a label map, tile by tile: box and inner point.

    The tiles are those of :func:`~napari_pathsam.inference.class_maps.segment_tiles`; with its
    cache nothing is encoded again. Objects that no tile
    holds whole, very small ones, and answers that are not the same object, are left out.

    Parameters
    ----------
    labels
        ``(H, W)`` ids at the level-0 pixels of ``region``.
    region
        Level-0 pixels; by default the whole image.
    """
    if isinstance(model, TaskModel):
        raise UnavailableError(
            f"{model.name} is trained for its classes and cannot be asked to outline an object. "
            "Objects are sharpened by models that stand on a promptable one, such as "
            "pathsam-nano:glands; leave sharpening out."
        )
    region = region or Region.of(slide.shape_yx)
    if labels.shape != region.shape_yx:
        raise BadImageError(
            f"A label map of {labels.shape} came for a region of {region.shape_yx} pixels; "
            "they must be of one size."
        )
    plan = plan_segmenting(model, slide, mpp=mpp, region=region, settings=settings)
    found = {
        label: Region(box.y + region.y, box.x + region.x, box.height, box.width)
        for label, box in regions(labels).items()
    }
    shares = _shared_out(found, plan.tiles, plan.grid)
    for done, (tile, chosen) in enumerate(shares.items(), start=1):
        embedding, _ = tile_embedding(model, slide, plan.grid, tile.region, cache=cache)
        frame = _Frame(plan.grid, tile.region, region, labels)
        objects: list[SharpObject] = []
        for start in range(0, len(chosen), AT_ONCE):
            some = [(label, found[label]) for label in chosen[start : start + AT_ONCE]]
            objects += frame.decoded(model, embedding, some)
        yield SharpTile(tuple(objects), done, len(shares))


def sharpened(labels: NDArray[np.integer], objects: list[SharpObject]) -> NDArray[np.int32]:
    """The label map with sharpened outlines; objects without one keep theirs.

    Where two outlines overlap a pixel stays with its old object if that is one of them, and else
    goes to the one with the higher score. Regions are relative to the label map's corner.
    """
    out = np.zeros(labels.shape, np.int32)
    for found in sorted(objects, key=lambda o: o.score):
        out[found.region.slices][found.mask] = found.label
    for found in objects:
        own = found.mask & (labels[found.region.slices] == found.label)
        out[found.region.slices][own] = found.label
    kept = (labels != 0) & ~np.isin(labels, [found.label for found in objects])
    out[kept] = labels[kept]
    return out


def _shared_out(
    objects: dict[int, Region], tiles: tuple[Tile, ...], grid: WorkingGrid
) -> dict[Tile, list[int]]:
    """Each object to the tile in which it lies most central; tiles without one are left out."""
    places = np.array([[t.region.y, t.region.x] for t in tiles], float)
    sizes = np.array([t.region.shape_yx for t in tiles], float)
    step = np.array(grid.cell_level0_yx)
    shares: dict[Tile, list[int]] = {}
    for label, box in objects.items():
        low, sides = np.array([box.y, box.x]) / step, np.array(box.shape_yx) / step
        # Within half a cell: at the image's end a cell reaches beyond it.
        inside = (places <= low + 0.5) & (low + sides <= places + sizes + 0.5)
        far = np.abs(places + sizes / 2 - low - sides / 2).max(axis=1)
        far[~inside.all(axis=1)] = np.inf
        if sides.min() >= SMALLEST_CELLS and np.isfinite(far.min()):
            shares.setdefault(tiles[int(far.argmin())], []).append(label)
    return {tile: shares[tile] for tile in tiles if tile in shares}


class _Frame:
    """Level-0 pixels of a label map's region ↔ the pixels of one encoded tile."""

    def __init__(
        self, grid: WorkingGrid, cells: Region, region: Region, labels: NDArray[np.integer]
    ) -> None:
        self._read, shape_yx, _ = grid.pixels_of(cells)
        self._scale = [n / m for n, m in zip(shape_yx, self._read.shape_yx, strict=True)]
        self._region, self._labels = region, labels

    def decoded(
        self, model: PathSam, embedding: ImageEmbedding, some: list[tuple[int, Region]]
    ) -> list[SharpObject]:
        """The objects of this tile whose outlines are sharper now."""
        shown = [self._window(box) for _, box in some]
        masks = [
            self._labels[where.slices] == label
            for (label, _), where in zip(some, shown, strict=True)
        ]
        prompts = [
            self._prompts(box, where, mask)
            for (_, box), where, mask in zip(some, shown, masks, strict=True)
        ]
        found = []
        answers = model.decode_many(embedding, prompts)
        for (label, _), where, mask, answer in zip(some, shown, masks, answers, strict=True):
            level0 = Region(
                where.y + self._region.y, where.x + self._region.x, where.height, where.width
            )
            edges = self._edges(level0)
            sharp = answer.logits_at(answer.best, where.shape_yx, window_yx=edges) > 0
            union = np.count_nonzero(sharp | mask)
            if union and np.count_nonzero(sharp & mask) / union >= SAME_OBJECT:
                found.append(SharpObject(label, where, sharp, answer.score))
        return found

    def _window(self, box: Region) -> Region:
        """A quarter more on each side, in pixels of the label map."""
        dy, dx = -(-box.height // 4) + 1, -(-box.width // 4) + 1
        grown = Region(
            box.y - dy - self._region.y,
            box.x - dx - self._region.x,
            box.height + 2 * dy,
            box.width + 2 * dx,
        )
        inside = grown.intersection(Region.of(self._region.shape_yx))
        assert inside is not None
        return inside

    def _edges(self, level0: Region) -> tuple[float, float, float, float]:
        """A level-0 region's edges in pixels of the tile."""
        y, x = (
            (level0.y - self._read.y) * self._scale[0],
            (level0.x - self._read.x) * self._scale[1],
        )
        return (y, x, y + level0.height * self._scale[0], x + level0.width * self._scale[1])

    def _prompts(self, box: Region, where: Region, mask: NDArray[np.bool_]) -> Prompts:
        y, x = innermost_point(mask)
        y0, x0 = where.y + self._region.y - self._read.y, where.x + self._region.x - self._read.x
        point = ((y + y0 + 0.5) * self._scale[0] - 0.5, (x + x0 + 0.5) * self._scale[1] - 0.5)
        top, left, bottom, right = self._edges(box)
        high, wide = self._read.height * self._scale[0], self._read.width * self._scale[1]
        return Prompts(
            points_yx=(point,),
            positive=(True,),
            box=(max(top, 0.0), max(left, 0.0), min(bottom, high), min(right, wide)),
        )

"""Objects that a model finds one by one: tile by tile, each owned by one tile, merged over borders.

For models that know objects (Mask R-CNN); those of class maps are told apart in ``objects``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import relabel
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.class_maps import (
    SegmentPlan,
    SegmentSettings,
    plan_segmenting,
    tile_embedding,
)
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.working_grid import TileSource, WorkingGrid
from napari_pathsam.models.task_model import TaskModel

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.models.embedding import ImageEmbedding

SAME = 0.5
"""Two answers of two tiles are one object where they share more than this of the smaller one's part
that both tiles see."""
NEAR_CELLS = 64


@dataclass(frozen=True)
class FoundObject:
    """An object of one tile: ``mask`` over the cells ``region``, of class ``class_id``.

    ``cut`` says that it touches a side of the tile that is not the image's end, so that there may
    be more of it; ``tile`` are the cells of the tiles it was seen in.
    """

    region: Region
    mask: NDArray[np.bool_]
    score: float
    class_id: int
    cut: bool
    tile: Region


@dataclass(frozen=True)
class ObjectTile:
    """The objects of one tile; ``done`` of ``total`` tiles are finished."""

    objects: tuple[FoundObject, ...]
    done: int
    total: int


@dataclass(frozen=True)
class ObjectMap:
    """Objects at level-0 pixels: ``labels`` ``(H, W)`` int32 from 1, and the class of each id."""

    labels: NDArray[np.int32]
    class_of: dict[int, int]

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """``(H, W)`` class ids, 0 where there is no object."""
        table = np.zeros(int(self.labels.max(initial=0)) + 1, np.uint8)
        for label, class_id in self.class_of.items():
            table[label] = class_id
        return table[self.labels]


def knows_objects(model: ClassModel | None) -> bool:
    """Whether a model finds objects one by one."""
    return isinstance(model, TaskModel) and model.finds_objects


def object_tiles(
    model: ClassModel, slide: TileSource, plan: SegmentPlan, *, cache: EmbeddingCache | None = None
) -> Iterator[ObjectTile]:
    """The objects of a plan's tiles, one tile after the other; closing it cancels.

    Raises
    ------
    BadWeightsError
        The model knows classes only.
    """
    model = object_model(model)
    for done, tile in enumerate(plan.tiles, start=1):
        embedding, _ = tile_embedding(model, slide, plan.grid, tile.region, cache=cache)
        yield ObjectTile(objects_in(model, embedding, tile), done, len(plan.tiles))


def object_model(model: ClassModel) -> TaskModel:
    """The model, if it finds objects one by one; else BadWeightsError."""
    if not isinstance(model, TaskModel) or not model.finds_objects:
        raise BadWeightsError(
            f"{model.name} finds classes, not objects one by one; a mask-rcnn does. "
            "Objects of a class map are told apart by `instances`."
        )
    return model


def objects_in(model: TaskModel, embedding: ImageEmbedding, tile: Tile) -> tuple[FoundObject, ...]:
    """The objects of one tile, each pixel given to one of them."""
    found = model.find_objects(embedding)
    owner = found.owned().cpu().numpy()[: tile.region.height, : tile.region.width]
    scores, channels = found.scores.tolist(), found.classes.tolist()
    objects = []
    for label in np.unique(owner[owner > 0]):
        mask = owner == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = Region(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        objects.append(
            FoundObject(
                region=_moved(box, tile.region.y, tile.region.x),
                mask=mask[box.slices],
                score=scores[label - 1],
                class_id=model.classes.classes[channels[label - 1] - 1].id,
                cut=_is_cut(box, tile),
                tile=tile.region,
            )
        )
    return tuple(objects)


def _is_cut(box: Region, tile: Tile) -> bool:
    """Whether it reaches a side at which the image goes on (there the tile's weight fades)."""
    top, bottom, left, right = tile.fade_px
    return bool(
        (top and box.y == 0)
        or (bottom and box.y + box.height == tile.region.height)
        or (left and box.x == 0)
        or (right and box.x + box.width == tile.region.width)
    )


def merged(found: Iterable[FoundObject]) -> list[FoundObject]:
    """Each object once: what two tiles both saw is one object, and pieces of one are put together.

    Whole objects come first, then the surer ones; a piece of an object that is known is left out,
    or, where that is a piece too, joined to it.
    """
    kept: dict[int, FoundObject] = {}
    near: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for number, one in enumerate(sorted(found, key=lambda o: (o.cut, -o.score))):
        around = {i for place in _places(one.region) for i in near[place] if i in kept}
        same = [i for i in sorted(around) if kept[i].tile != one.tile and _is_same(one, kept[i])]
        if same and not (one.cut and all(kept[i].cut for i in same)):
            continue
        for i in same:
            one = _joined(one, kept.pop(i))
        kept[number] = one
        for place in _places(one.region):
            near[place].append(number)
    return list(kept.values())


def _places(region: Region) -> Iterator[tuple[int, int]]:
    """The squares of :data:`NEAR_CELLS` that a region touches: only those are compared."""
    rows, columns = (
        range(start // NEAR_CELLS, (start + n - 1) // NEAR_CELLS + 1)
        for start, n in zip((region.y, region.x), region.shape_yx, strict=True)
    )
    return product(rows, columns)


def _is_same(a: FoundObject, b: FoundObject) -> bool:
    """Whether two tiles saw one object, going by what both of them see."""
    shared = a.region.intersection(b.region)
    both = a.tile.intersection(b.tile)
    if shared is None or both is None:
        return False
    overlap = np.count_nonzero(_within(a, shared) & _within(b, shared))
    parts = [(one, one.region.intersection(both)) for one in (a, b)]
    seen = [0 if part is None else np.count_nonzero(_within(one, part)) for one, part in parts]
    return bool(overlap > SAME * max(1, min(seen)))


def _within(one: FoundObject, region: Region) -> NDArray[np.bool_]:
    """The mask at a region of cells that lies inside its own."""
    return one.mask[_moved(region, -one.region.y, -one.region.x).slices]


def _joined(a: FoundObject, b: FoundObject) -> FoundObject:
    """Both together; the surer one says the class."""
    region, tile = _hull(a.region, b.region), _hull(a.tile, b.tile)
    mask = np.zeros(region.shape_yx, bool)
    for one in (a, b):
        mask[_moved(one.region, -region.y, -region.x).slices] |= one.mask
    surer = max(a, b, key=lambda o: o.score)
    return replace(surer, region=region, mask=mask, cut=True, tile=tile)


def _hull(a: Region, b: Region) -> Region:
    y, x = min(a.y, b.y), min(a.x, b.x)
    bottom, right = max(a.y + a.height, b.y + b.height), max(a.x + a.width, b.x + b.width)
    return Region(y, x, bottom - y, right - x)


def _moved(region: Region, y: int, x: int) -> Region:
    return Region(region.y + y, region.x + x, region.height, region.width)


def assembled(
    found: Iterable[FoundObject], plan: SegmentPlan, *, smallest_px: int = 0
) -> ObjectMap:
    """The objects of all tiles at the level-0 pixels of the plan's region; the surer ones on top.

    ``smallest_px``: level-0 pixels below which an object is left out.
    """
    objects = sorted(merged(found), key=lambda o: o.score)
    class_of = {label: one.class_id for label, one in enumerate(objects, start=1)}
    labels = painted(objects, plan.grid, plan.region)
    if smallest_px > 1:
        labels = np.where((np.bincount(labels.ravel()) < smallest_px)[labels], 0, labels)
    before = np.unique(labels[labels > 0]).tolist()
    return ObjectMap(relabel(labels), {i: class_of[b] for i, b in enumerate(before, start=1)})


def painted(objects: Sequence[FoundObject], grid: WorkingGrid, region: Region) -> NDArray[np.int32]:
    """Their numbers, from 1, at the level-0 pixels of a region; later ones on top."""
    cells = grid.cells_of(region)
    out = np.zeros(cells.shape_yx, np.int32)
    for number, one in enumerate(objects, start=1):
        if (shared := one.region.intersection(cells)) is not None:
            out[_moved(shared, -cells.y, -cells.x).slices][_within(one, shared)] = number
    rows, columns = (
        np.clip(((np.arange(n) + start + 0.5) / step).astype(int) - first, 0, size - 1)
        for n, start, step, first, size in zip(
            region.shape_yx, (region.y, region.x), grid.cell_level0_yx,
            (cells.y, cells.x), cells.shape_yx, strict=True,
        )
    )  # fmt: skip
    return out[np.ix_(rows, columns)]


def segment_objects(
    model: ClassModel,
    slide: TileSource,
    *,
    mpp: float | None,
    region: Region | None = None,
    settings: SegmentSettings | None = None,
    cache: EmbeddingCache | None = None,
) -> ObjectMap:
    """The objects of an image, or of a region of it; raises what planning and the model do."""
    settings = settings or SegmentSettings()
    plan = plan_segmenting(model, slide, mpp=mpp, region=region, settings=settings)
    found = [one for tile in object_tiles(model, slide, plan, cache=cache) for one in tile.objects]
    return assembled(found, plan, smallest_px=settings.smallest_px)

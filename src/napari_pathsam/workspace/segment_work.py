"""What a segmentation does in a worker: load, plan, tiles, objects, areas; it keeps no state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import DamagedTileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.fields import ImageSource
from napari_pathsam.workspace.segment_objects import objects_one_by_one
from napari_pathsam.workspace.segment_result import CellMaps, SegmentResult

if TYPE_CHECKING:
    from napari_pathsam.core.areas import AreaTable
    from napari_pathsam.inference.class_maps import SegmentPlan, SegmentSettings
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.inference.objects import SharpObject, SharpTile
    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.workspace.segment_request import SegmentRequest


class SourceTiles:
    """An :class:`ImageSource` as the engine reads it; what cannot be read is taken for glass.

    Attributes
    ----------
    damage
        Those places, as they were come upon, in level-0 pixels.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.name = source.name
        self.damage: set[Region] = set()

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self.source.shape_yx

    @property
    def identity(self) -> str:
        """Of its pixels; label pyramids are theirs and no other's."""
        return self.source.key

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> NDArray[np.uint8]:
        """The region brought to a shape."""
        if self.source.slide is None:
            return self.source.read(region, shape_yx)
        try:
            return self.source.slide.read_resampled(region, shape_yx)
        except DamagedTileError as error:
            if error.pixels is None:
                raise
            self.damage.update(error.regions)
            return error.pixels


@dataclass(frozen=True)
class Prepared:
    """A loaded model and what it will do; ``mpp`` is what the image is taken to have."""

    model: PathSam
    plans: tuple[SegmentPlan, ...]
    mpp: float
    title: str
    views: int = 1
    """How often each tile is encoded."""

    @property
    def classes(self) -> ClassTable:
        return self.model.classes

    @property
    def total(self) -> int:
        """Tiles of all parts."""
        return sum(len(plan.tiles) for plan in self.plans)

    @property
    def warning(self) -> str:
        """What is to be said of what is cut off; empty: nothing.

        The pixel size is shown beside the model, before a run.
        """
        return " ".join(str(plan.cut) for plan in self.plans if plan.cut is not None)

    @property
    def embedding_name(self) -> str:
        return self.model.embedding_name

    @property
    def encoding(self) -> tuple[Any, ...]:
        """See :func:`encoding_of`."""
        config = self.model.config
        return encoding_of(self.embedding_name, config.mpp, config.enlarge, self.mpp)


@dataclass(frozen=True)
class Answer:
    """What is known in the end: ``objects`` is region, ids ``(h, w)``, the class of each id."""

    table: AreaTable
    objects: tuple[Region, NDArray[np.int32], dict[int, int]] | None = None


@dataclass(frozen=True)
class Piece:
    """One finished piece of work; what it does not bring is None.

    ``class_map`` lies at the level-0 ``region``; ``where`` says which of its pixels count.
    ``tiles`` is 1 for a tile, of ``cells`` cells, and 0 for what comes before and after them;
    ``said`` is to be told while the run goes on.
    """

    region: Region | None = None
    class_map: NDArray[np.uint8] | None = None
    where: NDArray[np.bool_] | None = None
    tiles: int = 0
    cells: int = 0
    encoded: bool = False
    seconds_left: float | None = None
    next_text: str = "Segmenting"
    said: str = ""
    answer: Answer | None = None


def encoding_of(
    embedding_name: str, mpp: float, enlarge: float, image_mpp: float | None
) -> tuple[Any, ...]:
    """Names a way of encoding; runs that share it share embeddings.

    Which encoders, at which pixel size, and the image's own; None: it is taken to be the model's.
    """
    return (embedding_name, *(round(size, 6) for size in (mpp, enlarge, image_mpp or mpp)))


def prepared(load: Callable[[str, str], Any], request: SegmentRequest) -> Prepared:
    """Load the model and plan the tiles; BadImageError, BadWeightsError in words for a person."""
    model = load(request.model, request.device)
    from napari_pathsam.inference.class_maps import plan_segmenting
    from napari_pathsam.inference.views import encoded_views

    mpp = request.mpp or getattr(getattr(model, "config", None), "mpp", None)
    settings = settings_of(request)
    tiles = SourceTiles(request.source)
    plans = tuple(
        plan_segmenting(model, tiles, mpp=mpp, region=part.drawn or part.region,
                        first=request.first, settings=settings)
        for part in request.parts
    )  # fmt: skip
    assert mpp is not None  # planning refuses a model without one
    views = encoded_views(model, settings.views)
    return Prepared(model, plans, mpp, title_of(model.name), views)


def title_of(model_name: str) -> str:
    """``glands`` of ``pathsam-nano:glands``; other names as they are."""
    return model_name.rpartition(":")[2] or model_name


def settings_of(request: SegmentRequest) -> SegmentSettings:
    """The engine's settings."""
    from napari_pathsam.inference.class_maps import SegmentSettings

    options = request.options
    return SegmentSettings(
        threshold=options.threshold,
        surest=options.surest,
        smallest_px=options.smallest_px,
        fill_holes_px=options.fill_holes_px,
        keep_probabilities=options.probabilities,
        views=options.views,
    )


def pieces_of(
    ready: Prepared,
    request: SegmentRequest,
    result: SegmentResult,
    cache: Callable[[], EmbeddingCache | None],
) -> Iterator[Piece]:
    """All there is to do, piece by piece; closing it cancels."""
    from napari_pathsam.inference.class_maps import segment_tiles

    kept, later, tiles = cache(), ready.total, SourceTiles(request.source)
    result.maps = []
    result.likely = None
    if request.options.surest:
        result.likely = np.zeros(result.window.shape_yx, np.float16)
    for part, plan in zip(request.parts, ready.plans, strict=True):
        maps: CellMaps | None = None
        later -= len(plan.tiles)
        for tile in segment_tiles(
            ready.model, tiles, mpp=ready.mpp, region=part.region,
            first=request.first, settings=settings_of(request), cache=kept,
        ):  # fmt: skip
            if request.options.probabilities or request.options.uncertainty:
                if maps is None:
                    maps = CellMaps.over(plan.cover, tile)
                    result.maps.append(maps)
                maps.put(tile)
            if result.likely is not None and tile.likely is not None:
                result.likely[result.to_array(tile.region).slices] = tile.likely
            left = tile.seconds_left
            if later and tile.total > tile.done:
                left += later * left / (tile.total - tile.done)
            yield Piece(
                tile.region, tile.class_map, part.where(tile.region), tiles=1,
                cells=tile.cells.height * tile.cells.width, encoded=tile.encoded,
                seconds_left=left,
            )  # fmt: skip
    result.damage = frozenset(tiles.damage)
    yield Piece(next_text="Measuring")
    yield from rest_of(request, result, ready.model, kept)


def cell_maps(
    model: PathSam,
    slide: Any,
    *,
    mpp: float,
    region: Region,
    probabilities: bool = False,
    views: int | None = None,
    cache: EmbeddingCache | None = None,
) -> CellMaps:
    """Uncertainty of a region by the network's cells, and the probabilities of all classes.

    What a segmentation with these options keeps, for code that is run without a dock; ``slide``,
    ``mpp`` and ``region`` as in :func:`~napari_pathsam.inference.class_maps.segment_tiles`.
    """
    from napari_pathsam.inference.class_maps import (
        SegmentSettings,
        plan_segmenting,
        segment_tiles,
    )

    settings = SegmentSettings(keep_probabilities=probabilities, views=views)
    how: dict[str, Any] = {"mpp": mpp, "region": region, "settings": settings}
    tiles = segment_tiles(model, slide, cache=cache, **how)
    first = next(tiles)
    maps = CellMaps.over(plan_segmenting(model, slide, **how).cover, first)
    for tile in (first, *tiles):
        maps.put(tile)
    return maps


def rest_of(
    request: SegmentRequest,
    result: SegmentResult,
    model: PathSam | None = None,
    cache: EmbeddingCache | None = None,
) -> Iterator[Piece]:
    """Tidy what was segmented, find its objects, and measure; ``model`` to sharpen objects."""
    from napari_pathsam.inference.class_maps import finish
    from napari_pathsam.inference.found_objects import knows_objects

    settings, likely = settings_of(request), result.likely
    if likely is None:  # nobody asked, or it was judged before
        settings = replace(settings, surest=0.0)
    for part in request.parts:
        at = result.to_array(part.region).slices
        where = result.covered[at]
        if part.within is not None:
            where = where & part.within
        changes = settings.smallest_px > 1 or settings.fill_holes_px > 0 or settings.surest > 0
        if where.any() and changes:
            drawn = np.where(where, result.class_map.written[at], 0)
            tidy = finish(drawn, settings, None if likely is None else likely[at])
            yield Piece(part.region, tidy, where.copy(), next_text="Measuring")
    result.likely = likely = None
    objects = None
    if request.options.instances and result.covered.any() and knows_objects(model):
        box = _box_of(result.covered)
        region = Region(box.y + result.window.y, box.x + result.window.x, *box.shape_yx)
        tiles = SourceTiles(request.source)
        for said in objects_one_by_one(request, result, region, model, tiles, settings, cache):
            if isinstance(said, str):
                yield Piece(next_text=said)
            else:
                objects = (region, *said)
    elif request.options.instances and result.covered.any():
        yield Piece(next_text="Splitting into objects")
        region, labels = found_objects(request, result)
        if request.options.sharpen and model is not None:
            outlines: list[SharpObject] = []
            for tile in sharpening(request, result, model, region, labels, cache):
                outlines += tile.objects
                text = f"Sharpening outlines, {tile.done} of {tile.total} tiles"
                yield Piece(next_text=text)
            labels = sharp_labels(labels, outlines, result, region)
        objects = (region, labels, classes_in(labels, result, region))
    from napari_pathsam.inference.tissue import tissue_of

    if result.mpp is not None and result.tissue is None:
        result.tissue = tissue_of(SourceTiles(request.source), result.mpp)
    yield Piece(answer=Answer(measured(result, objects), objects))


def found_objects(
    request: SegmentRequest, result: SegmentResult
) -> tuple[Region, NDArray[np.int32]]:
    """The class map split into objects: the level-0 region that was segmented, and their ids."""
    from napari_pathsam.inference.objects import instances

    at = _box_of(result.covered)
    wanted = np.where(result.covered[at.slices], result.class_map.written[at.slices], 0)
    labels = instances(wanted.astype(np.uint8), smallest_px=request.options.smallest_px)
    return Region(at.y + result.window.y, at.x + result.window.x, *at.shape_yx), labels


def sharpening(
    request: SegmentRequest,
    result: SegmentResult,
    model: PathSam,
    at: Region,
    labels: NDArray[np.int32],
    cache: EmbeddingCache | None,
) -> Iterator[SharpTile]:
    """The prompt decoder's outlines of objects, tile by tile."""
    from napari_pathsam.inference.objects import sharpen_tiles

    mpp = result.mpp or model.config.mpp
    tiles, settings = SourceTiles(request.source), settings_of(request)
    return sharpen_tiles(model, tiles, labels, mpp=mpp, region=at, settings=settings, cache=cache)


def sharp_labels(
    labels: NDArray[np.int32], found: list[SharpObject], result: SegmentResult, at: Region
) -> NDArray[np.int32]:
    """Objects with their sharper outlines, inside what was segmented."""
    from napari_pathsam.inference.objects import sharpened

    return np.where(result.covered[result.to_array(at).slices], sharpened(labels, found), 0)


def classes_in(labels: NDArray[np.int32], result: SegmentResult, at: Region) -> dict[int, int]:
    """The class of each object."""
    from napari_pathsam.inference.objects import classes_of

    class_map = result.class_map.written[result.to_array(at).slices]
    return classes_of(labels, class_map.astype(np.uint8))


def measured(
    result: SegmentResult, objects: tuple[Region, NDArray[np.int32], dict[int, int]] | None = None
) -> AreaTable:
    """Areas and objects of what is shown, of the pixels that were segmented."""
    from napari_pathsam.core.areas import AreaTable, area_table

    covered = result.covered
    at = _box_of(covered) if covered.any() else Region(0, 0, 1, 1)
    inside = covered[at.slices]
    labels = None
    if objects is not None:
        labels = np.zeros(at.shape_yx, np.int32)
        box = result.to_array(objects[0])
        own = Region(box.y - at.y, box.x - at.x, *box.shape_yx)
        labels[own.slices] = objects[1]
    elif result.objects is not None and result.class_of:
        labels = np.where(inside, result.objects.shown[at.slices], 0)
    tissue_mm2 = None
    if result.tissue is not None and result.mpp is not None:
        region = Region(at.y + result.window.y, at.x + result.window.x, *at.shape_yx)
        tissue_mm2 = result.tissue.mm2(result.mpp, region, inside)
    table = area_table(
        np.where(inside, result.class_map.shown[at.slices], 0).astype(np.uint8),
        result.classes,
        mpp=result.mpp,
        labels=labels,
        name=result.request.source.name,
        tissue_mm2=tissue_mm2,
    )
    outside, total = int((~inside).sum()), max(1, int(inside.sum()))
    rows = [replace(r, px=r.px - outside) if r.class_id == 0 else r for r in table.rows]
    return AreaTable(tuple(replace(r, share=r.px / total) for r in rows), table.name)


def recounted(result: SegmentResult) -> AreaTable:
    """Areas and objects of a result as it is shown now."""
    return measured(result)


def _box_of(mask: NDArray[np.bool_]) -> Region:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = int(rows[0]), int(columns[0])
    return Region(y, x, int(rows[-1]) - y + 1, int(columns[-1]) - x + 1)

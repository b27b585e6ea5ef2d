"""Objects of a model that finds them one by one, over what a run has segmented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari_pathsam.inference.class_maps import SegmentSettings
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.inference.found_objects import FoundObject
    from napari_pathsam.workspace.segment_request import SegmentRequest
    from napari_pathsam.workspace.segment_result import SegmentResult

Objects = tuple[NDArray[np.int32], dict[int, int]]
"""Ids over a region, and the class of each."""


def objects_one_by_one(
    request: SegmentRequest,
    result: SegmentResult,
    at: Region,
    model: Any,
    tiles: Any,
    settings: SegmentSettings,
    cache: EmbeddingCache | None,
) -> Iterator[str | Objects]:
    """The model's own objects in the level-0 region ``at``; yields how far it is, then them.

    What lies outside the parts that were segmented is left out; an object that a part's border cuts
    ends there.
    """
    from napari_pathsam.inference.class_maps import plan_segmenting
    from napari_pathsam.inference.found_objects import assembled, object_tiles

    mpp = request.mpp or model.config.mpp
    labels = np.zeros(at.shape_yx, np.int32)
    class_of: dict[int, int] = {}
    for part in request.parts:
        plan = plan_segmenting(model, tiles, mpp=mpp, region=part.region, settings=settings)
        found: list[FoundObject] = []
        for tile in object_tiles(model, tiles, plan, cache=cache):
            found += tile.objects
            yield f"Finding objects, {tile.done} of {tile.total} tiles"
        here = assembled(found, plan, smallest_px=settings.smallest_px)
        inside = part.region.intersection(at)
        if inside is None:
            continue
        ids = here.labels[_moved(inside, part.region).slices]
        wanted = (ids > 0) & result.covered[result.to_array(inside).slices]
        if (within := part.where(inside)) is not None:
            wanted &= within
        first = max(class_of, default=0)
        np.copyto(labels[_moved(inside, at).slices], ids + first, where=wanted)
        class_of |= {first + i: c for i, c in here.class_of.items()}
    left = np.unique(labels[labels > 0]).tolist()
    yield labels, {i: class_of[i] for i in left}


def _moved(region: Region, origin: Region) -> Region:
    """A region as seen from the corner of another one."""
    return Region(region.y - origin.y, region.x - origin.x, *region.shape_yx)

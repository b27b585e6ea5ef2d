"""Images that fit into memory: classes and objects → label images, OME-Zarr, GeoJSON, areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pathsam.cli.console import ERR, OUT, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_pathsam.core.areas import AreaTable
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.inference.class_maps import SegmentPlan, SegmentSettings
    from napari_pathsam.inference.found_objects import FoundObject, ObjectMap
    from napari_pathsam.io.slides import Slide
    from napari_pathsam.models.class_model import ClassModel


@dataclass(frozen=True)
class Wish:
    """What is wanted of each image."""

    mpp: float | None
    region: Region | None
    settings: SegmentSettings
    instances: bool = False
    sharpen: bool = False
    icc: bool = False


def segment_image(model: Any, slide: Slide, paths: Sequence[Path], wish: Wish) -> AreaTable:
    """Segment one image and write it; its areas."""
    from napari_pathsam.inference.class_maps import (
        canvas,
        finish,
        paint,
        plan_segmenting,
        segment_tiles,
    )
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.inference.found_objects import knows_objects

    mpp = wish.mpp or slide.mpp
    plan = plan_segmenting(model, slide, mpp=mpp, region=wish.region, settings=wish.settings)
    _check_sizes(paths, plan.region)
    warn(slide.name, plan.warning, plan.cut)
    class_map, likely = canvas(plan.region, wish.settings)
    cache = EmbeddingCache() if wish.sharpen else None
    if knows_objects(model):
        found = _found_objects(model, slide, plan, wish)
        labels = found.labels if wish.instances else None
        return _written(found.class_map, labels, slide, plan.region, mpp, model, paths)
    with progress(slide.name, len(plan.tiles)) as bar:
        for tile in segment_tiles(
            model, slide, mpp=mpp, region=wish.region, settings=wish.settings, cache=cache
        ):
            paint(class_map, plan.region, tile, likely)
            bar.update(bar.task_ids[0], completed=tile.done)
    class_map = finish(class_map, wish.settings, likely)
    labels = _objects(model, slide, class_map, plan.region, mpp, wish, cache)
    return _written(class_map, labels, slide, plan.region, mpp, model, paths)


def warn(name: str, *said: object | None) -> None:
    """What is to be said of an image before it is segmented; None is not."""
    for one in said:
        if one is not None:
            ERR.print(f"{name}: {one}", style="yellow")


def _written(
    class_map: NDArray[np.uint8],
    labels: NDArray[np.int32] | None,
    slide: Slide,
    region: Region,
    mpp: float | None,
    model: ClassModel,
    paths: Sequence[Path],
) -> AreaTable:
    """Write the files, and say what is in them."""
    from napari_pathsam.core.areas import area_table
    from napari_pathsam.inference.tissue import tissue_of

    for path in paths:
        _write(path, class_map, labels, slide, region, mpp, model.classes)
    tissue = None if mpp is None else tissue_of(slide, mpp)
    table = area_table(
        class_map, model.classes, mpp=mpp, labels=labels, name=slide.name,
        tissue_mm2=None if tissue is None or mpp is None else tissue.mm2(mpp, region),
    )  # fmt: skip
    found = ", ".join(f"{row.name} {100 * row.share:.1f} %" for row in table.rows[1:])
    OUT.print(f"{', '.join(map(str, paths))}: {found}")
    return table


def _found_objects(model: ClassModel, slide: Slide, plan: SegmentPlan, wish: Wish) -> ObjectMap:
    """Of a model that finds objects one by one."""
    from napari_pathsam.inference.found_objects import assembled, object_tiles

    found: list[FoundObject] = []
    with progress(slide.name, len(plan.tiles)) as bar:
        for tile in object_tiles(model, slide, plan):
            found += tile.objects
            bar.update(bar.task_ids[0], completed=tile.done)
    return assembled(found, plan, smallest_px=wish.settings.smallest_px)


def _objects(
    model: Any,
    slide: Slide,
    class_map: NDArray[np.uint8],
    region: Region,
    mpp: float | None,
    wish: Wish,
    cache: Any,
) -> NDArray[np.int32] | None:
    from napari_pathsam.inference.objects import SharpObject, instances, sharpen_tiles, sharpened

    if not wish.instances:
        return None
    labels = instances(class_map, smallest_px=wish.settings.smallest_px)
    if not wish.sharpen:
        return labels
    objects: list[SharpObject] = []
    tiles = sharpen_tiles(
        model, slide, labels, mpp=mpp, region=region, settings=wish.settings, cache=cache
    )
    with progress(f"{slide.name}: outlines", 1) as bar:
        for tile in tiles:
            objects += tile.objects
            bar.update(bar.task_ids[0], completed=tile.done, total=tile.total)
    return sharpened(labels, objects)


def _check_sizes(paths: Sequence[Path], region: Region) -> None:
    """Before the work, not after it: some files do not hold so many pixels."""
    from napari_pathsam.core.errors import BadImageError
    from napari_pathsam.io.images import LARGEST_SIDE_PX

    for path in paths:
        if path.suffix.lower() in (".png", ".tif", ".tiff") and (
            max(region.shape_yx) > LARGEST_SIDE_PX
        ):
            raise BadImageError(
                f"{region.height} × {region.width} pixels are too many for a {path.suffix} file "
                f"(at most {LARGEST_SIDE_PX} a side). Write .zarr or .geojson, or a --region."
            )


def _write(
    path: Path,
    class_map: NDArray[np.uint8],
    labels: NDArray[np.int32] | None,
    slide: Slide,
    region: Region,
    mpp: float | None,
    classes: Any,
) -> None:
    import numpy as np

    from napari_pathsam.core.class_map import UNSURE
    from napari_pathsam.inference.objects import classes_of
    from napari_pathsam.io._ngff_labels import write_ngff_labels
    from napari_pathsam.io.annotations import objects_of_classes, write_geojson
    from napari_pathsam.io.images import write_labels

    path.parent.mkdir(parents=True, exist_ok=True)
    class_of = {} if labels is None else classes_of(labels, class_map)
    if path.suffix.lower() == ".zarr":
        maps = {"classes": class_map} | ({} if labels is None else {"objects": labels})
        write_ngff_labels(
            path, maps, image=slide, region=region, mpp=mpp, classes=classes, class_of=class_of
        )
    elif path.suffix.lower() == ".geojson":
        if labels is None:
            known = np.where(class_map == UNSURE, 0, class_map)
            labels, class_of = objects_of_classes(known)
        write_geojson(
            path,
            labels,
            class_of=class_of,
            classes=classes,
            offset_yx=(region.y, region.x),
            mpp=mpp,
        )
    else:
        write_labels(path, class_map, classes)
        if labels is not None:
            write_labels(path.with_stem(f"{path.stem}_objects"), labels)

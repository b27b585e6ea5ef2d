"""``pathsam segment``: classes of images → label images, OME-Zarr labels, GeoJSON, areas."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pathsam.cli.console import ERR, OUT, DeviceOption, MppOption, load, progress
from napari_pathsam.core.errors import BadFileError, PathsamError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_pathsam.core.areas import AreaTable
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.inference.class_maps import SegmentPlan, SegmentSettings
    from napari_pathsam.inference.found_objects import FoundObject, ObjectMap
    from napari_pathsam.io.slides import Slide
    from napari_pathsam.models.class_model import ClassModel

SUFFIXES = (".png", ".tif", ".tiff", ".zarr", ".geojson")


class Format(StrEnum):
    """What is written into a folder."""

    png = "png"
    tif = "tif"
    zarr = "zarr"
    geojson = "geojson"


@dataclass(frozen=True)
class Wish:
    """What is wanted of each image."""

    mpp: float | None
    region: str | None
    settings: SegmentSettings
    instances: bool
    sharpen: bool


def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE …", help="Images or slides.")],
    out: Annotated[
        Path,
        typer.Option("--out", help=".png, .tif, .zarr or .geojson; a folder for several images."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A model with classes: a name of `pathsam models list` such as "
            "pathsam-nano:glands, or a .safetensors file.",
        ),
    ] = None,
    mpp: MppOption = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="Y0,X0,Y1,X1", help="Only this part.")
    ] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="What goes into a folder; may be repeated. [png]"),
    ] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Split the classes into objects, too.")
    ] = False,
    sharpen: Annotated[
        bool,
        typer.Option("--sharpen", help="With --instances: the prompt decoder outlines each."),
    ] = False,
    threshold: Annotated[
        float,
        typer.Option("--threshold", min=0, max=1, help="Below this probability: unsure (255)."),
    ] = 0.0,
    smallest: Annotated[
        int, typer.Option("--smallest", min=0, help="Smallest area or object, in pixels.")
    ] = 0,
    fill_holes: Annotated[
        int, typer.Option("--fill-holes", min=0, help="Largest hole to fill, in pixels.")
    ] = 0,
    area: Annotated[
        Path | None, typer.Option("--area", help="Write areas and object counts to this CSV.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Give every pixel a class.

    Label images hold class ids (0 background, 255 unsure); with --instances a second one,
    NAME_objects, holds object ids. GeoJSON holds an outline for each object or area.
    """
    if model is None:
        raise typer.BadParameter(
            "say which classes are wanted: pathsam-nano:glands, pathsam-nano:nuclei, another name "
            "of `pathsam models list`, or a model file of your own.",
            param_hint="--model",
        )
    if sharpen and not instances:
        raise typer.BadParameter("it needs --instances.", param_hint="--sharpen")
    if region is not None:
        _corners(region)
    targets = _targets(images, out, formats)
    from napari_pathsam.inference.class_maps import SegmentSettings

    settings = SegmentSettings(threshold=threshold, smallest_px=smallest, fill_holes_px=fill_holes)
    wish = Wish(mpp, region, settings, instances, sharpen)
    loaded = load(model, device)
    tables, failed = [], []
    for image, paths in zip(images, targets, strict=True):
        try:
            tables.append(_segment_one(loaded, image, paths, wish))
        except PathsamError as error:
            if len(images) == 1:
                raise
            failed.append(image)
            ERR.print(f"{image}: {error}")
    if area is not None and tables:
        _write_areas(area, tables)
    if failed:
        raise BadFileError(
            f"{len(failed)} of {len(images)} images could not be segmented: "
            f"{', '.join(str(p) for p in failed)}. The others were written."
        )


def _targets(
    images: Sequence[Path], out: Path, formats: Sequence[Format] | None
) -> list[tuple[Path, ...]]:
    """What is written for each image; a wrong command line where that cannot be."""
    if out.suffix.lower() in SUFFIXES and not (out.is_dir() and out.suffix.lower() != ".zarr"):
        if len(images) > 1:
            raise typer.BadParameter(
                f"{out} is one file, and there are {len(images)} images; name a folder.",
                param_hint="--out",
            )
        if formats:
            raise typer.BadParameter(
                "it is for folders; the name of --out says it already.", param_hint="--format"
            )
        found: list[tuple[Path, ...]] = [(out,)]
    elif out.suffix and not out.is_dir():
        raise typer.BadParameter(
            f"it must end in {', '.join(SUFFIXES)}, or be a folder.", param_hint="--out"
        )
    else:
        kinds = list(dict.fromkeys(formats or [Format.png]))
        found = [tuple(out / f"{image.stem}.{kind}" for kind in kinds) for image in images]
    every = [path for paths in found for path in paths]
    if twice := sorted({str(p) for p in every if every.count(p) > 1}):
        raise typer.BadParameter(
            f"two images would be written to {', '.join(twice)}; give them names of their own.",
            param_hint="IMAGE",
        )
    inputs = {image.resolve() for image in images}
    for path in every:
        if path.resolve() in inputs and path.suffix.lower() != ".zarr":
            raise typer.BadParameter(
                f"{path} is one of the images; it would be overwritten. Choose another folder.",
                param_hint="--out",
            )
    return found


def _corners(text: str) -> Region:
    from napari_pathsam.core.geometry import Region

    with contextlib.suppress(ValueError):
        y0, x0, y1, x1 = (int(part) for part in text.split(","))
        if 0 <= y0 < y1 and 0 <= x0 < x1:
            return Region(y0, x0, y1 - y0, x1 - x0)
    raise typer.BadParameter(
        f"{text!r} is not Y0,X0,Y1,X1: four whole numbers with commas, the upper left corner "
        "before the lower right.",
        param_hint="--region",
    )


def _segment_one(model: Any, image: Path, paths: Sequence[Path], wish: Wish) -> AreaTable:
    import numpy as np

    from napari_pathsam.inference.class_maps import finish, paint, plan_segmenting, segment_tiles
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.inference.found_objects import knows_objects
    from napari_pathsam.io.slides import open_slide

    slide = open_slide(image)
    try:
        mpp = wish.mpp or slide.mpp
        asked = None if wish.region is None else _corners(wish.region)
        plan = plan_segmenting(model, slide, mpp=mpp, region=asked, settings=wish.settings)
        _check_sizes(paths, plan.region)
        if plan.warning is not None:
            ERR.print(f"{image.name}: {plan.warning}", style="yellow")
        class_map = np.zeros(plan.region.shape_yx, np.uint8)
        cache = EmbeddingCache() if wish.sharpen else None
        if knows_objects(model):
            found = _found_objects(model, slide, plan, wish)
            labels = found.labels if wish.instances else None
            return _written(found.class_map, labels, slide, plan.region, mpp, model, paths)
        with progress(image.name, len(plan.tiles)) as bar:
            for tile in segment_tiles(
                model, slide, mpp=mpp, region=asked, settings=wish.settings, cache=cache
            ):
                paint(class_map, plan.region, tile)
                bar.update(bar.task_ids[0], completed=tile.done)
        class_map = finish(class_map, wish.settings)
        labels = _objects(model, slide, class_map, plan.region, mpp, wish, cache)
        return _written(class_map, labels, slide, plan.region, mpp, model, paths)
    finally:
        slide.close()


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

    for path in paths:
        _write(path, class_map, labels, slide, region, mpp, model.classes)
    table = area_table(class_map, model.classes, mpp=mpp, labels=labels, name=slide.name)
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


def _write_areas(path: Path, tables: Sequence[AreaTable]) -> None:
    from napari_pathsam.core.areas import to_csv
    from napari_pathsam.io._files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(to_csv(tables), encoding="utf-8")
    OUT.print(f"Areas: {path}")

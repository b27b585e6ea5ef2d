"""``pathsam segment``: classes of images and slides → label images and pyramids, GeoJSON, areas."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pathsam.cli.console import (
    ERR,
    OUT,
    DeviceOption,
    IccOption,
    MppOption,
    ViewsOption,
    load,
)
from napari_pathsam.core.errors import BadFileError, readable

if TYPE_CHECKING:
    from napari_pathsam.cli.segment_images import Wish
    from napari_pathsam.cli.segment_slides import SlideWish
    from napari_pathsam.core.areas import AreaTable
    from napari_pathsam.core.geometry import Region

SUFFIXES = (".png", ".tif", ".tiff", ".zarr", ".geojson")


class Format(StrEnum):
    """What is written into a folder."""

    png = "png"
    tif = "tif"
    zarr = "zarr"
    geojson = "geojson"


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
    surest: Annotated[
        float,
        typer.Option("--surest", min=0, max=1, help="Areas less likely on average: unsure, too."),
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
    icc: IccOption = False,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Of a slide: glass, too, not only tissue.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Into .zarr: a pyramid of it, too.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Into .zarr: a pyramid for each class, too.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Into .zarr: go on where a run was stopped.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            help="Into .zarr: so many processes (Dask); with --scheduler, wait for so many first.",
        ),
    ] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="tcp://…", help="Into .zarr: on this Dask cluster."),
    ] = None,
    views: ViewsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Give every pixel a class.

    Label images hold class ids (0 background, 255 unsure); with --instances a second one,
    NAME_objects, holds object ids. GeoJSON holds an outline for each object or area. Slides of any
    size go into .zarr, a pyramid of labels, piece by piece; --resume goes on after an interruption.
    """
    if model is None:
        raise typer.BadParameter(
            "say which classes are wanted: pathsam-nano:glands, pathsam-nano:nuclei, another name "
            "of `pathsam models list`, or a model file of your own.",
            param_hint="--model",
        )
    if sharpen and not instances:
        raise typer.BadParameter("it needs --instances.", param_hint="--sharpen")
    part = None if region is None else _corners(region)
    targets = _targets(images, out, formats)
    from napari_pathsam.cli.segment_images import Wish
    from napari_pathsam.cli.segment_slides import SlideWish
    from napari_pathsam.inference.class_maps import SegmentSettings

    settings = SegmentSettings(
        threshold=threshold,
        surest=surest,
        smallest_px=smallest,
        fill_holes_px=fill_holes,
        keep_probabilities=probabilities,
        views=None if views is None else int(views),
    )
    wish = Wish(mpp, part, settings, instances, sharpen, icc)
    slides = SlideWish(not everywhere, uncertainty, resume, workers, scheduler)
    if slides.needs_zarr(settings) and any(p.suffix != ".zarr" for some in targets for p in some):
        raise typer.BadParameter(
            "--resume, --workers, --scheduler, --uncertainty and --probabilities are for .zarr.",
            param_hint="--out",
        )
    if sharpen and slides.needs_zarr(settings):
        raise typer.BadParameter(
            "it does not go with --resume, --workers, --scheduler, --uncertainty and "
            "--probabilities: those make label pyramids, whose objects are not outlined anew.",
            param_hint="--sharpen",
        )
    loaded = load(model, device)
    tables = _segment_all(loaded, images, targets, wish, slides, None if out.suffix else out)
    if area is not None and tables:
        _write_areas(area, tables)


def _segment_all(
    model: Any,
    images: Sequence[Path],
    targets: Sequence[tuple[Path, ...]],
    wish: Wish,
    slides: SlideWish,
    folder: Path | None,
) -> list[AreaTable]:
    """Image after image; those that failed once more at the end, each alone; then their names."""
    from napari_pathsam.cli.manifest import Manifest

    if len(images) == 1:
        return [_segment_one(model, images[0], targets[0], wish, slides)]
    manifest = Manifest(images, folder)
    tables = {}
    todo = list(zip(images, targets, strict=True))
    for attempt in (1, 2):
        failed = []
        for image, paths in todo:
            if attempt == 2:
                ERR.print(f"{image}: once more")
            try:
                tables[image] = _segment_one(model, image, paths, wish, slides, again=attempt == 2)
                manifest.put(image, "done", paths)
            except Exception as error:  # noqa: BLE001 - one image must not cost the others
                known = readable(error) or (str(error) if isinstance(error, OSError) else None)
                why = known or f"not foreseen: {type(error).__name__}: {error}"
                failed.append((image, paths))
                manifest.put(image, "failed", paths, why)
                ERR.print(f"{image}: {why}")
        todo = failed
    if todo:
        raise BadFileError(
            f"{len(todo)} of {len(images)} images could not be segmented: "
            f"{', '.join(str(image) for image, _ in todo)}. The others were written."
        )
    return [tables[image] for image in images]


def _segment_one(
    model: Any,
    image: Path,
    paths: Sequence[Path],
    wish: Wish,
    slides: SlideWish,
    *,
    again: bool = False,
) -> AreaTable:
    from napari_pathsam.cli.segment_images import segment_image
    from napari_pathsam.cli.segment_slides import fits_memory, segment_to_store
    from napari_pathsam.inference.found_objects import knows_objects
    from napari_pathsam.io.slides import open_slide

    with contextlib.closing(open_slide(image, icc=wish.icc)) as slide:
        only_zarr = [path.suffix.lower() for path in paths] == [".zarr"]
        asked = slides.needs_zarr(wish.settings)
        in_pieces = asked or (only_zarr and not wish.sharpen and not knows_objects(model))
        if in_pieces or not fits_memory(slide, wish.region):
            return segment_to_store(model, slide, paths, wish, slides, again=again)
        return segment_image(model, slide, paths, wish)


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


def _write_areas(path: Path, tables: Sequence[AreaTable]) -> None:
    from napari_pathsam.core.areas import to_csv
    from napari_pathsam.io._files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(to_csv(tables), encoding="utf-8")
    OUT.print(f"Areas: {path}")

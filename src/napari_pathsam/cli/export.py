"""``pathsam export``: label images, and labels of slides, as other programs want them; and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_pathsam.cli.console import OUT, MppOption, progress, refuse_typed
from napari_pathsam.cli.export_store import (
    export_store,
    import_outlines,
    is_store,
    not_read,
)
from napari_pathsam.core.errors import BadFileError

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.io.coco import LabelledImage

KINDS = ("geojson", "png")
NOT_READ = {
    "labels of a slide": {"to", "classes", "mpp", "shape"},
    "outlines": {"to", "classes", "name", "table", "simplify", "detections"},
    "label images": {"name", "table", "slide", "shape", "simplify", "detections"},
}
"""Options that are not read for what is exported, by their names in the command."""


def export(
    context: typer.Context,
    labels: Annotated[
        list[Path],
        typer.Argument(
            help="Label images, a folder of them, labels of a slide (.zarr), outlines (.geojson)."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Of label images: .json is one COCO file, a folder gets a GeoJSON or PNG each; of "
            "one image also .geojson or .png. Of a .zarr: .geojson[.gz], .ome.tif, .csv or "
            ".parquet. Of a .geojson: .zarr.",
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", help="Into a folder: geojson, or png (ids of objects).")
    ] = "geojson",
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            help="A CSV id,name,color: ids are classes, and their areas the objects. "
            "[ids are objects of one class]",
        ),
    ] = None,
    mpp: MppOption = None,
    name: Annotated[
        str | None,
        typer.Option("--labels", help="Of a .zarr: which of its labels. [objects, else classes]"),
    ] = None,
    table: Annotated[
        str, typer.Option("--table", help="Of a .zarr to .csv, .parquet: classes, or objects.")
    ] = "classes",
    slide: Annotated[
        Path | None,
        typer.Option(
            "--slide",
            help="Of a .zarr: the slide, whose mm² of tissue densities are of. Of a .geojson: the "
            "slide it lies on.",
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", metavar="H,W", help="Of a .geojson: the image's size.")
    ] = None,
    simplify: Annotated[
        float,
        typer.Option("--simplify", min=0, help="Outlines may leave the pixels' edges by so much."),
    ] = 0.0,
    detections: Annotated[
        bool, typer.Option("--detections", help="QuPath shall take objects for detections.")
    ] = False,
) -> None:
    """Labels as other programs want them; outlines as labels of a slide."""
    if table not in ("classes", "objects"):
        raise typer.BadParameter("classes or objects.", param_hint="--table")
    of_slide = len(labels) == 1 and is_store(labels[0])
    into_slide = not of_slide and len(labels) == 1 and is_store(out)
    what = "labels of a slide" if of_slide else "outlines" if into_slide else "label images"
    refuse_typed(context, NOT_READ[what], f"of {what} it is not read")
    if of_slide:
        refuse_typed(context, not_read(out, table), f"for {out.name} it is not read")
        export_store(
            labels[0], out, labels=name, table=table, slide=slide, simplify=simplify,
            detections=detections,
        )  # fmt: skip
        return
    if into_slide:
        import_outlines(labels[0], out, shape=_shape(shape), slide=slide, mpp=mpp)
        return
    if to not in KINDS:
        raise typer.BadParameter("geojson or png.", param_hint="--to")
    as_file = "" if out.is_dir() else out.suffix.lower().removeprefix(".")
    if as_file:
        refuse_typed(context, {"to"}, "the ending of --out says what is written")
    if as_file not in ("", "json", *KINDS):
        raise typer.BadParameter(
            "label images become .json (COCO), .geojson, .png, or a folder of these (make it "
            "before, if its name has a dot).",
            param_hint="--out",
        )
    from napari_pathsam.cli.evaluate_data import class_table
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.io.coco import write_coco

    known = class_table(classes) if classes is not None else ClassTable.of("object")
    files = list(_files(labels))
    if as_file in KINDS and len(files) > 1:
        raise typer.BadParameter(
            f"{len(files)} label images need a folder, or one .json (COCO).", param_hint="--out"
        )
    with progress("export", len(files)) as bar:

        def counted() -> Iterator[LabelledImage]:
            for path in files:
                yield _read(path, known if classes is not None else None)
                bar.advance(bar.task_ids[0])

        if as_file == "json":
            n = write_coco(out, counted(), known)
        elif as_file in KINDS:
            n = sum(_write(image, out, known, mpp) for image in counted())
        else:
            n = sum(
                _write(image, out / f"{Path(image.file_name).stem}.{to}", known, mpp)
                for image in counted()
            )
    OUT.print(f"{n} objects of {len(files)} images are in {out}.")


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = (int(part) for part in text.split(","))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise typer.BadParameter(f"{text!r} is not of the form H,W.", param_hint="--shape")
    return height, width


def _files(given: list[Path]) -> Iterator[Path]:
    from napari_pathsam.datasets.layout import images_by_stem

    for path in given:
        if path.is_dir():
            found = images_by_stem(path)
            if not found:
                raise BadFileError(f"{path} holds no label image.")
            yield from found.values()
        else:
            yield path


def _read(path: Path, classes: ClassTable | None) -> LabelledImage:
    from napari_pathsam.io.annotations import objects_of_classes
    from napari_pathsam.io.coco import LabelledImage
    from napari_pathsam.io.images import read_labels

    labels = read_labels(path)
    if classes is None:
        return LabelledImage(path.name, labels, {})
    instances, class_of = objects_of_classes(labels)
    return LabelledImage(path.name, instances, class_of)


def _write(image: LabelledImage, path: Path, classes: ClassTable, mpp: float | None) -> int:
    """One file; the number of its objects."""
    import numpy as np

    from napari_pathsam.io.annotations import write_geojson
    from napari_pathsam.io.images import write_labels

    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.unique(image.instances)
    ids = ids[ids > 0].tolist()
    if path.suffix.lower() == ".png":
        write_labels(path, image.instances)
    else:
        first = classes.classes[0].id
        class_of = {i: image.class_of.get(i, first) for i in ids}
        write_geojson(path, image.instances, class_of=class_of, classes=classes, mpp=mpp)
    return len(ids)

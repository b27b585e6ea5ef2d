"""``pathsam export``: label images to COCO, GeoJSON, or label images of objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_pathsam.cli.console import OUT, MppOption, progress
from napari_pathsam.core.errors import BadFileError

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.io.coco import LabelledImage


def export(
    labels: Annotated[list[Path], typer.Argument(help="Label images, or a folder of them.")],
    out: Annotated[
        Path,
        typer.Option("--out", help=".json: one COCO file; a folder: a GeoJSON or PNG each."),
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
) -> None:
    """Label images as other programs want them."""
    if to not in ("geojson", "png"):
        raise typer.BadParameter("geojson or png.", param_hint="--to")
    from napari_pathsam.cli.evaluate_data import class_table
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.io.coco import write_coco

    table = class_table(classes) if classes is not None else ClassTable.of("object")
    files = list(_files(labels))
    with progress("export", len(files)) as bar:

        def counted() -> Iterator[LabelledImage]:
            for path in files:
                yield _read(path, table if classes is not None else None)
                bar.advance(bar.task_ids[0])

        if out.suffix.lower() == ".json":
            n = write_coco(out, counted(), table)
        else:
            n = sum(_write(image, out, to, table, mpp) for image in counted())
    OUT.print(f"{n} objects of {len(files)} images are in {out}.")


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


def _write(
    image: LabelledImage, folder: Path, to: str, classes: ClassTable, mpp: float | None
) -> int:
    """One file; the number of its objects."""
    import numpy as np

    from napari_pathsam.io.annotations import write_geojson
    from napari_pathsam.io.images import write_labels

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(image.file_name).stem}.{to}"
    ids = np.unique(image.instances)
    ids = ids[ids > 0].tolist()
    if to == "png":
        write_labels(path, image.instances)
    else:
        first = classes.classes[0].id
        class_of = {i: image.class_of.get(i, first) for i in ids}
        write_geojson(path, image.instances, class_of=class_of, classes=classes, mpp=mpp)
    return len(ids)

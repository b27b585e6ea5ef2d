"""``pathsam export RUN.zarr``: labels of a slide as other programs want them; and back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_pathsam.cli.console import ERR, OUT, progress
from napari_pathsam.core.errors import BadFileError, BadImageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from napari_pathsam.core.geometry import Region
    from napari_pathsam.io.label_store import LabelStore

OBJECTS, CLASSES = "objects", "classes"
GEOJSON = (".geojson", ".geojson.gz", ".json", ".json.gz")
TIFF = (".tif", ".tiff")
TABLES = (".csv", ".parquet")


def not_read(out: Path, table: str) -> set[str]:
    """Options of labels of a slide that are not read for what is written, by their names."""
    name = out.name.lower()
    options = {"name", "table", "slide", "simplify", "detections"}
    for endings, read in (
        (GEOJSON, {"name", "simplify", "detections"}),
        (TIFF, {"name"}),
        (TABLES, {"table", "slide"} if table == CLASSES else {"table"}),
    ):
        if name.endswith(endings):
            return options - read
    return set()


def is_store(path: Path) -> bool:
    """Whether a path is an OME-Zarr container of labels, by its name."""
    return path.suffix.lower() == ".zarr"


def export_store(
    container: Path,
    out: Path,
    *,
    labels: str | None,
    table: str,
    slide: Path | None,
    simplify: float,
    detections: bool,
) -> None:
    """Write the labels of a container as the suffix of ``out`` says."""
    objects, kinds = _opened(container, OBJECTS), _opened(container, CLASSES)
    chosen = _chosen(container, labels, objects, kinds)
    name = out.name.lower()
    if name.endswith(GEOJSON):
        from napari_pathsam.io.store_geojson import write_store_geojson

        n = 0
        beside = kinds if chosen is objects else None
        with progress("outlines", None) as bar:
            for n in write_store_geojson(
                out, chosen, beside, simplify_px=simplify,
                object_type="detection" if detections else "annotation",
            ):  # fmt: skip
                _show(bar, n)
        OUT.print(f"{n} outlines are in {out}.")
    elif name.endswith(TIFF):
        from napari_pathsam.io.store_tiff import write_store_tiff

        write_store_tiff(out, chosen)
        levels = " × ".join(str(n) for n in chosen.shape_yx)
        OUT.print(f"{levels} pixels in {len(chosen.level_shapes)} levels are in {out}.")
    elif name.endswith(TABLES):
        _write_table(out, objects, kinds, table, slide)
    else:
        raise typer.BadParameter(
            f"{out.name}: .geojson, .geojson.gz, .ome.tif, .csv or .parquet is wanted.",
            param_hint="--out",
        )


def import_outlines(
    path: Path, out: Path, *, shape: tuple[int, int] | None, slide: Path | None, mpp: float | None
) -> None:
    """Paint GeoJSON into a label container of a slide's size."""
    from napari_pathsam.io.slides import open_slide
    from napari_pathsam.io.store_geojson import read_store_geojson

    about = None
    if slide is not None:
        opened = open_slide(slide)
        shape, mpp, about = opened.shape_yx, mpp or opened.mpp, {"slide": opened.identity}
        opened.close()
    with progress(f"outlines of {path.name}", None) as bar:
        for done, total in read_store_geojson(path, out, shape_yx=shape, mpp=mpp, about=about):
            _show(bar, done, total or None)
    OUT.print(f"The outlines of {path.name} are labels in {out}.")


def _write_table(
    out: Path,
    objects: LabelStore | None,
    kinds: LabelStore | None,
    table: str,
    slide: Path | None,
) -> None:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.io.store_tables import (
        Counted,
        class_columns,
        count_store,
        object_columns,
        store_areas,
        write_table,
    )

    store = kinds or objects
    assert store is not None
    if table == OBJECTS and objects is None:
        raise BadFileError(
            f"{store.path} has no objects, only classes, so there is no table of objects. Segment "
            "with objects, or take --table classes."
        )
    if table == CLASSES and kinds is None:
        raise BadFileError(f"{store.path} has no classes; take --table objects.")
    counted: Counted | None = None
    with progress("count", 100) as bar:
        for found in count_store(kinds, objects):
            if isinstance(found, Counted):
                counted = found
            else:
                _show(bar, int(100 * found))
    assert counted is not None
    classes, mpp, region = store.classes or ClassTable(), store.mpp, _segmented(store)
    tissue = None if slide is None else _tissue_mm2(slide, store, region)
    if table == OBJECTS:
        columns = object_columns(counted, classes, mpp=mpp)
    else:
        areas = store_areas(
            counted, classes, region=region, mpp=mpp, objects=objects is not None, tissue_mm2=tissue
        )
        columns = class_columns(areas)
    write_table(out, columns)
    OUT.print(f"{len(next(iter(columns.values())))} rows are in {out}.")


def _segmented(store: LabelStore) -> Region:
    """The part of the slide that a run was over; all of it where nobody says."""
    from napari_pathsam.core.geometry import Region

    region = store.about.get("region")
    return Region(*region) if region else Region.of(store.shape_yx)


def _tissue_mm2(path: Path, store: LabelStore, region: Region) -> float:
    """Tissue in a region of the slide that labels are of, in mm²."""
    from napari_pathsam.inference.tissue import find_tissue
    from napari_pathsam.io.slides import open_slide

    with closing(open_slide(path)) as slide:
        if slide.shape_yx != store.shape_yx:
            raise BadFileError(
                f"{store.path} holds labels of {store.shape_yx[0]} × {store.shape_yx[1]} pixels, "
                f"and {slide.name} has {slide.shape_yx[0]} × {slide.shape_yx[1]}: they are of "
                "another slide. Name the one that was segmented (--slide), or leave it out."
            )
        segmented = str(store.about.get("slide", ""))
        if segmented and segmented.removesuffix("-srgb") != slide.identity:
            ERR.print(
                f"{slide.name} is as large as what {store.path.name} holds labels of, but its "
                "content is other: if it is another slide, the densities are wrong."
            )
        mpp = store.mpp or slide.mpp
        if mpp is None:
            raise BadFileError(
                f"{path.name} does not say how large its pixels are, so mm² of tissue are not "
                "known. Leave --slide out."
            )
        try:
            area = find_tissue(slide, mpp, region).mm2(mpp, region)
        except BadImageError as error:
            raise BadFileError(
                f"No tissue was found on {slide.name} where it was segmented, so there are no "
                "densities. Leave --slide out."
            ) from error
        if area is None:
            raise BadFileError(
                f"{slide.name} is dark, as fluorescence is, or grey: how much of it is tissue "
                "cannot be seen, so there are no densities. Leave --slide out."
            )
        return area


def _opened(container: Path, name: str) -> LabelStore | None:
    from napari_pathsam.io.label_store import LabelStore

    if not (container / "labels" / name).is_dir():
        return None
    return LabelStore.open(container, name)


def _chosen(
    container: Path, name: str | None, objects: LabelStore | None, kinds: LabelStore | None
) -> LabelStore:
    """The labels of this name; by default the objects, else the classes."""
    from napari_pathsam.io.label_store import LabelStore

    if name is not None and name not in (OBJECTS, CLASSES):
        return LabelStore.open(container, name)
    found = {None: objects or kinds, OBJECTS: objects, CLASSES: kinds}[name]
    return found if found is not None else LabelStore.open(container, name or CLASSES)


def _show(bar: Progress, done: int, total: int | None = None) -> None:
    task = bar.task_ids[0]
    bar.update(task, completed=done, total=total or bar.tasks[0].total)

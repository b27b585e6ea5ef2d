"""Tables of a label store: areas of its classes, and every object, as CSV or Parquet."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.areas import AreaTable, counted_areas
from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import replacing
from napari_pathsam.io.label_store import LabelStore

TILE_PX = 2048
Columns = dict[str, NDArray[Any]]
"""A table: values by column."""


@dataclass(frozen=True)
class Counted:
    """What the tiles of a run add up to.

    Attributes
    ----------
    px
        Pixels of each class id, ``(256,)``; all 0 where there is no class map.
    ids, area_px, first_yx, last_yx, centre_yx
        Of each object: its id, its pixels, its bounding box (half-open) and its centre of mass.
    class_id
        The class that most of its pixels have; 0: none.
    """

    px: NDArray[np.int64]
    ids: NDArray[np.int64]
    area_px: NDArray[np.int64]
    first_yx: NDArray[np.int64]
    last_yx: NDArray[np.int64]
    centre_yx: NDArray[np.float64]
    class_id: NDArray[np.int64]


def count_store(
    kinds: LabelStore | None, objects: LabelStore | None = None
) -> Iterator[Counted | float]:
    """Go through a run's labels once; yields the part that is done, and in the end the counts.

    ``kinds`` is the class map, ``objects`` the map of ids; one of them may be missing.
    """
    store = objects or kinds
    assert store is not None
    height, width = store.shape_yx
    px = np.zeros(256, np.int64)
    rows: list[NDArray[np.float64]] = []
    votes: list[NDArray[np.int64]] = []
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            at = Region(top, left, min(TILE_PX, height - top), min(TILE_PX, width - left))
            if not any(s.holds(at) for s in (kinds, objects) if s is not None):
                px[0] += 0 if kinds is None else at.height * at.width
                continue
            class_map = None if kinds is None else kinds.read(at)
            if class_map is not None:
                px += np.bincount(class_map.ravel(), minlength=256)[:256]
            if objects is not None and (labels := objects.read(at)).any():
                rows.append(_rows(labels, at))
                if class_map is not None:
                    votes.append(_votes(labels, class_map))
        yield min(1.0, (top + TILE_PX) / height)
    yield _added(px, rows, votes)


def store_areas(
    counted: Counted,
    classes: ClassTable,
    *,
    region: Region,
    mpp: float | None,
    objects: bool,
    name: str = "",
    tissue_mm2: float | None = None,
) -> AreaTable:
    """What was counted as the areas of the region outside of which nothing was segmented.

    Parameters
    ----------
    tissue_mm2
        Area of all tissue that was segmented, which densities and shares of tissue are of; None:
        not known.
    """
    px = counted.px.copy()
    px[0] += region.height * region.width - px.sum()  # background outside is nobody's
    sizes = {info.id: counted.area_px[counted.class_id == info.id].tolist() for info in classes}
    return counted_areas(
        px, classes, mpp=mpp, sizes=sizes if objects else None, name=name, tissue_mm2=tissue_mm2
    )


def class_columns(areas: AreaTable) -> Columns:
    """A row for each class: its area, and its objects where they are known."""
    rows = [
        (
            row.class_id, row.name, row.px, row.mm2, row.share, row.share_of_tissue, row.objects,
            row.objects_per_mm2, row.mean_um2, row.median_um2,
        )
        for row in areas.rows
        if row.class_id
    ]  # fmt: skip
    columns = list(zip(*rows, strict=True)) or [()] * len(CLASS_COLUMNS)
    table = zip(CLASS_COLUMNS, columns, strict=True)
    return {name: _column(name, values) for name, values in table}


def _column(name: str, values: tuple[Any, ...]) -> NDArray[Any]:
    if name in WHOLE:
        return np.array(values)
    return np.array([math.nan if value is None else value for value in values], np.float64)


CLASS_COLUMNS = (
    "class_id", "class", "px", "mm2", "share", "share_of_tissue", "objects",
    "objects_per_mm2_of_tissue", "mean_um2", "median_um2",
)  # fmt: skip
WHOLE = ("class_id", "class", "px")
"""Known of every class; the others are fractions, or not known."""


def object_columns(counted: Counted, classes: ClassTable, *, mpp: float | None) -> Columns:
    """A row for each object: class, size, centre and box in level-0 pixels, size in µm²."""
    names = np.array([""] * 256, object)
    for info in classes:
        names[info.id] = info.name
    return {
        "object": counted.ids,
        "class_id": counted.class_id,
        "class": names[counted.class_id],
        "area_px": counted.area_px,
        "area_um2": counted.area_px * (math.nan if mpp is None else mpp * mpp),
        "centre_y_px": counted.centre_yx[:, 0],
        "centre_x_px": counted.centre_yx[:, 1],
        "y0_px": counted.first_yx[:, 0],
        "x0_px": counted.first_yx[:, 1],
        "y1_px": counted.last_yx[:, 0],
        "x1_px": counted.last_yx[:, 1],
    }


def write_table(path: str | os.PathLike[str], columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a table as ``.csv``, or ``.parquet`` with the extra ``tables``.

    Raises
    ------
    UnavailableError
        Parquet is asked for and pyarrow is missing.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise UnavailableError(
                "Parquet files are written by pyarrow, which is not here: "
                "pip install napari-pathsam[tables], or choose a name that ends in .csv."
            ) from error
        with replacing(path) as temporary:
            parquet.write_table(pa.table(dict(columns)), temporary)
        return
    lists = (_texts(values) for values in columns.values())
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*lists, strict=True))


def _texts(values: NDArray[Any]) -> Iterator[Any]:
    """Six figures of a fraction; nothing for what is not known."""
    if values.dtype.kind != "f":
        yield from values.tolist()
        return
    for value in values.tolist():
        yield "" if math.isnan(value) else f"{value:.0f}" if value.is_integer() else f"{value:.6g}"


def _rows(labels: NDArray[np.integer], at: Region) -> NDArray[np.float64]:
    """Of the objects in a tile: id, pixels, sums of y and x, first and last y and x."""
    ys, xs = np.nonzero(labels)
    ids, which = _numbered(labels[ys, xs])
    ys, xs = ys + at.y, xs + at.x
    n = len(ids)
    found = np.empty((n, 8))
    found[:, 0], found[:, 1] = ids, np.bincount(which, minlength=n)
    found[:, 2] = np.bincount(which, weights=ys, minlength=n)
    found[:, 3] = np.bincount(which, weights=xs, minlength=n)
    for column, values in ((0, ys), (1, xs)):  # of one type and without gaps: ten times as fast
        first, last = np.full(n, values.max()), np.full(n, values.min())
        np.minimum.at(first, which, values)
        np.maximum.at(last, which, values)
        found[:, 4 + column], found[:, 6 + column] = first, last
    return found


def _numbered(values: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """``np.unique`` with its inverse; of ids that are near each other without sorting them."""
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > 4 * len(values):
        return np.unique(values, return_inverse=True)
    there = np.zeros(span, bool)
    there[values - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[values - low]


def _votes(labels: NDArray[np.integer], class_map: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many pixels of an id are of a class: rows of id, class, pixels."""
    where = (labels != 0) & (class_map != 0) & (class_map != UNSURE)
    pairs = labels[where].astype(np.int64) * 256 + class_map[where]
    keys, counts = np.unique(pairs, return_counts=True)
    return np.stack([keys // 256, keys % 256, counts], axis=1)


def _added(
    px: NDArray[np.int64], rows: list[NDArray[np.float64]], votes: list[NDArray[np.int64]]
) -> Counted:
    """Objects that lie in several tiles put together."""
    table = np.concatenate(rows) if rows else np.zeros((0, 8))
    ids, which = np.unique(table[:, 0].astype(np.int64), return_inverse=True)
    n = len(ids)
    area, y, x = (np.bincount(which, weights=table[:, k], minlength=n) for k in (1, 2, 3))
    first, last = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    np.minimum.at(first, which, table[:, 4:6])
    np.maximum.at(last, which, table[:, 6:8])
    said = np.concatenate(votes) if votes else np.zeros((0, 3), np.int64)
    keys, at = np.unique(said[:, 0] * 256 + said[:, 1], return_inverse=True)
    counts = np.bincount(at, weights=said[:, 2], minlength=len(keys))
    order = np.lexsort((-(keys % 256), counts, keys // 256))  # the winner of each id comes last
    class_of = np.zeros(n, np.int64)
    class_of[np.searchsorted(ids, keys[order] // 256)] = keys[order] % 256
    return Counted(
        px, ids, area.astype(np.int64), first.astype(np.int64), last.astype(np.int64) + 1,
        np.stack([y, x], axis=1) / np.maximum(area, 1)[:, None], class_of,
    )  # fmt: skip

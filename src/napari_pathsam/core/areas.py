"""Areas: how much of each class a class map holds, in how many objects of which size."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import ClassTable

UNSURE_NAME, BACKGROUND_NAME = "unsure", "background"
COARSE = 1.05
"""Tissue is looked for on an overview: so many times its area a class may have that lies in it."""


@dataclass(frozen=True)
class ClassArea:
    """One class in one image.

    Attributes
    ----------
    class_id, name
        The class; 0 is background, 255 "unsure".
    px
        Pixels of the class.
    mm2
        The same in mm², None where the pixel size is unknown.
    share
        Part of all pixels, 0 … 1.
    objects
        How many objects there are; None where nobody looked (background, unsure).
    mean_px, median_px, total_px
        Pixels of an object, and of all objects; None without objects.
    um2_per_px
        What turns sizes into µm², None where the pixel size is unknown.
    tissue_mm2
        All tissue that was segmented, of any class, which densities are of; None: not known.
    """

    class_id: int
    name: str
    px: int
    share: float
    objects: int | None = None
    mean_px: float | None = None
    median_px: float | None = None
    total_px: int | None = None
    um2_per_px: float | None = None
    tissue_mm2: float | None = None

    @property
    def mm2(self) -> float | None:
        return None if self.um2_per_px is None else self.px * self.um2_per_px / 1e6

    @property
    def mean_um2(self) -> float | None:
        return _times(self.mean_px, self.um2_per_px)

    @property
    def median_um2(self) -> float | None:
        return _times(self.median_px, self.um2_per_px)

    @property
    def share_of_tissue(self) -> float | None:
        """Part of the tissue, 0 … 1; None of background, and of a class that is larger than it."""
        share = _over(self.mm2 if self.class_id else None, self.tissue_mm2)
        return None if share is None or share > COARSE else min(share, 1.0)

    @property
    def objects_per_mm2(self) -> float | None:
        """Objects per mm² of tissue; None of a class that is larger than the tissue seen."""
        within = self.share_of_tissue is not None
        return _over(self.objects if within else None, self.tissue_mm2)


def _times(size: float | None, factor: float | None) -> float | None:
    return None if size is None or factor is None else size * factor


def _over(amount: float | None, area: float | None) -> float | None:
    return None if amount is None or not area else amount / area


@dataclass(frozen=True)
class AreaTable:
    """The areas of the image ``name``, a row for each class."""

    rows: tuple[ClassArea, ...]
    name: str = ""

    def __getitem__(self, class_id: int) -> ClassArea:
        for row in self.rows:
            if row.class_id == class_id:
                return row
        raise KeyError(f"no row for class {class_id}; there are {[r.class_id for r in self.rows]}")

    @property
    def tissue_mm2(self) -> float | None:
        """All tissue that was segmented; None: not known."""
        return self.rows[0].tissue_mm2 if self.rows else None


def area_table(
    class_map: NDArray[np.uint8],
    classes: ClassTable,
    *,
    mpp: float | None = None,
    labels: NDArray[np.integer] | None = None,
    name: str = "",
    tissue_mm2: float | None = None,
) -> AreaTable:
    """Count the pixels of each class, and the objects and their sizes.

    Parameters
    ----------
    class_map
        ``(H, W)`` class ids; 0 is background, 255 "unsure".
    classes
        Each has a row, found or not. Background comes first; "unsure" last, if there is any.
    mpp
        Microns per pixel.
    labels
        ``(H, W)`` object ids; an object is of the class most of its pixels have. Without them the
        8-connected areas of a class are its objects.
    name
        Of the image.
    tissue_mm2
        All tissue that was segmented, which densities are of; None: not known.
    """
    counts = np.bincount(class_map.ravel(), minlength=256)
    sizes = _areas_of(class_map, classes) if labels is None else _sizes(class_map, labels)
    return counted_areas(counts, classes, mpp=mpp, sizes=sizes, name=name, tissue_mm2=tissue_mm2)


def counted_areas(
    counts: NDArray[np.integer],
    classes: ClassTable,
    *,
    mpp: float | None = None,
    sizes: Mapping[int, Sequence[int]] | None = None,
    name: str = "",
    tissue_mm2: float | None = None,
) -> AreaTable:
    """The table of pixels counted before: ``(256,)`` by class id, and objects' sizes by class.

    ``sizes`` is None where nobody looked for objects; ``tissue_mm2`` is only believed where the
    pixel size is known.
    """
    total, per_px = max(int(counts.sum()), 1), None if mpp is None else mpp * mpp
    rows = [_row(0, BACKGROUND_NAME, counts, total, per_px, None)]
    for info in classes:
        found = None if sizes is None else sizes.get(info.id, [])
        rows.append(_row(info.id, info.name, counts, total, per_px, found))
    if counts[UNSURE]:
        rows.append(_row(UNSURE, UNSURE_NAME, counts, total, per_px, None))
    tissue = None if mpp is None else tissue_mm2
    return AreaTable(tuple(replace(row, tissue_mm2=tissue) for row in rows), name)


def _row(
    class_id: int,
    name: str,
    counts: NDArray[np.integer],
    total: int,
    per_px: float | None,
    sizes: Sequence[int] | None,
) -> ClassArea:
    px, values = int(counts[class_id]), sizes or ()
    return ClassArea(
        class_id=class_id,
        name=name,
        px=px,
        share=px / total,
        objects=None if sizes is None else len(sizes),
        mean_px=statistics.fmean(values) if values else None,
        median_px=float(statistics.median(values)) if values else None,
        total_px=None if sizes is None else sum(values),
        um2_per_px=per_px,
    )


def _areas_of(class_map: NDArray[np.uint8], classes: ClassTable) -> dict[int, list[int]]:
    from skimage.measure import label

    areas = label(class_map, connectivity=2, background=0)
    sizes = np.bincount(areas.ravel())
    values = np.zeros(len(sizes), np.uint8)
    values[areas.ravel()] = class_map.ravel()
    return {info.id: sizes[1:][values[1:] == info.id].tolist() for info in classes}


def _sizes(class_map: NDArray[np.uint8], labels: NDArray[np.integer]) -> dict[int, list[int]]:
    inside = labels != 0
    ids, compact = np.unique(labels[inside], return_inverse=True)
    votes = np.bincount(compact * 256 + class_map[inside], minlength=256 * len(ids))
    votes = votes.reshape(-1, 256)
    sizes = votes.sum(axis=1)
    votes[:, [0, UNSURE]] = 0
    found: dict[int, list[int]] = {}
    for value, size, known in zip(votes.argmax(1), sizes, votes.max(1, initial=0), strict=True):
        if known:
            found.setdefault(int(value), []).append(int(size))
    return found


COLUMNS = (
    "image", "class_id", "class", "px", "mm2", "share", "objects", "mean_px", "median_px",
    "total_px", "mean_um2", "median_um2", "tissue_mm2", "share_of_tissue",
    "objects_per_mm2_of_tissue",
)  # fmt: skip


def to_csv(tables: Sequence[AreaTable]) -> str:
    """One line a class and image, with a header; what is not known is left empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for row in table.rows:
            given = [
                row.px, row.mm2, row.share, row.objects, row.mean_px, row.median_px, row.total_px,
                row.mean_um2, row.median_um2, row.tissue_mm2, row.share_of_tissue,
                row.objects_per_mm2,
            ]  # fmt: skip
            writer.writerow([table.name, row.class_id, row.name, *(_text(v) for v in given)])
    return out.getvalue()


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

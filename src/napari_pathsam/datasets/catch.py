"""CATCH 2022: skin tumours of dogs, 350 slides with outlines of 13 kinds of tissue."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import UNKNOWN_ID, DataSet, Sample
from napari_pathsam.datasets.layout import natural_key, table
from napari_pathsam.datasets.slide_patches import (
    OVERVIEW_MPP,
    Outline,
    SlideOutlines,
    SlidePatch,
    patches_of,
)
from napari_pathsam.io._files import reading

KINDS = (
    "Bone", "Cartilage", "Dermis", "Epidermis", "Subcutis", "Inflamm/Necrosis", "Melanoma",
    "Plasmacytoma", "Mast Cell Tumor", "PNST", "SCC", "Trichoblastoma", "Histiocytoma",
)  # fmt: skip
"""The database's classes, ids 1 … 13."""
TISSUES = ("dermis", "epidermis", "subcutis", "inflammation or necrosis", "tumour")
"""As the paper segments: seven tumours are one class, bone and cartilage are left out."""
AS_TISSUES = (0, UNKNOWN_ID, UNKNOWN_ID, 1, 2, 3, 4, *[5] * 7)
AS_KINDS = tuple(range(len(KINDS) + 1))
MPP_10X, MPP_5X = 1.0, 2.0
POLYGON = 3
"""Of SlideRunner's annotation types."""


@dataclass(frozen=True)
class _Slide:
    shape_yx: tuple[int, int] | None
    outlines: tuple[Outline, ...]


def tissues_on(sample: Sample) -> SlideOutlines:
    """A slide's outlines as the paper's classes, see :func:`drawn_on`."""
    return drawn_on(sample, AS_TISSUES)


def kinds_on(sample: Sample) -> SlideOutlines:
    """A slide's outlines as all 13 kinds, see :func:`drawn_on`."""
    return drawn_on(sample, AS_KINDS)


def drawn_on(sample: Sample, lookup: tuple[int, ...]) -> SlideOutlines:
    """The slide's outlines, larger ones first, so that what lies within another is painted over it.

    Glass that nobody outlined is background; everything else nobody outlined is not labelled.
    """
    assert sample.labels_path is not None
    slides = _database(sample.labels_path, sample.labels_path.stat().st_mtime_ns)
    if sample.image_path.name not in slides:
        raise BadFileError(
            f"{sample.labels_path} has no slide {sample.image_path.name}. Take the annotations of "
            "the same release as the slides."
        )
    slide = slides[sample.image_path.name]
    return SlideOutlines(slide.outlines, KINDS, lookup, blank_glass=True, shape_yx=slide.shape_yx)


def find(root: Path, drawn: Callable[[Sample], SlideOutlines] = tissues_on) -> list[Sample]:
    """Every ``…/TUMOUR_CASE_N.svs`` that ``datasets.csv`` puts into a part.

    Layout: the collection on TCIA, slides in any folders; ``CATCH.json`` (COCO) or
    ``CATCH.sqlite`` (SlideRunner), of which either will do; and ``datasets.csv``
    (``Slide;Dataset;Scanner``) from the authors' repository
    (DeepMicroscopy/CanineCutaneousTumors), which has the paper's split.
    """
    database = next(
        (p for n in ("CATCH.json", "CATCH.sqlite") for p in sorted(root.glob(f"**/{n}"))), None
    )
    if database is None:
        return []
    listed = next(iter(sorted(root.glob("**/datasets.csv"))), None)
    if listed is None:
        raise BadFileError(
            f"{root} holds {database.name} and no datasets.csv, which says what part a slide is "
            "of. It is in the repository DeepMicroscopy/CanineCutaneousTumors on GitHub; put it "
            "beside the annotations."
        )
    parts = {r["Slide"]: r["Dataset"] for r in table(listed, "Slide", "Dataset", delimiter=";")}
    return [
        Sample(
            name=path.stem,
            group=path.stem.rpartition("_")[0],
            split=parts[path.name],
            image_path=path,
            labels_path=database,
            mpp=OVERVIEW_MPP,
            label_kind="classes",
            reader=SlidePatch(drawn),
        )
        for path in sorted(root.glob("**/*.svs"), key=natural_key)
        if path.name in parts
    ]


@lru_cache(maxsize=1)
def _database(path: Path, _changed: int) -> dict[str, _Slide]:
    """Slides by file name, from either kind of file."""
    with reading(path, "CATCH's annotations"):
        found = _from_sqlite(path) if path.suffix == ".sqlite" else _from_coco(path)
    for name, slide in found.items():
        strange = sorted({kind for kind, _ in slide.outlines} - set(KINDS))
        if strange:
            raise BadFileError(
                f"{path}: outlines on {name} are of {', '.join(strange[:5])}, which is no class of "
                f"CATCH ({', '.join(KINDS)})."
            )
    return found


def _from_coco(path: Path) -> dict[str, _Slide]:
    with path.open(encoding="utf-8") as file:
        content = json.load(file)
    kinds = {int(c["id"]): str(c["name"]) for c in content["categories"]}
    rings: dict[int, list[Outline]] = {int(image["id"]): [] for image in content["images"]}
    for one in content["annotations"]:
        corners = one["segmentation"]
        for flat in corners if corners and isinstance(corners[0], list) else [corners]:
            ring = np.array(flat, np.float64).reshape(-1, 2)
            rings[int(one["image_id"])].append((kinds[int(one["category_id"])], ring))
    return {
        str(image["file_name"]): _Slide(_shape(image), _largest_first(rings[int(image["id"])]))
        for image in content["images"]
    }


def _shape(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


def _from_sqlite(path: Path) -> dict[str, _Slide]:
    """SlideRunner's tables: Slides, Classes, Annotations, Annotations_coordinates."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        kinds = dict(database.execute("SELECT uid, name FROM Classes"))
        slides = database.execute("SELECT uid, filename, width, height FROM Slides").fetchall()
        rings: dict[int, list[Outline]] = {uid: [] for uid, *_ in slides}
        corners: dict[int, list[tuple[float, float]]] = {}
        for uid, x, y in database.execute(
            "SELECT annoId, coordinateX, coordinateY FROM Annotations_coordinates "
            "ORDER BY annoId, orderIdx"
        ):
            corners.setdefault(uid, []).append((x, y))
        for uid, slide, kind in database.execute(
            "SELECT uid, slide, agreedClass FROM Annotations WHERE deleted = 0 AND type = ?",
            (POLYGON,),
        ):
            ring = np.array(corners.get(uid, ()), np.float64).reshape(-1, 2)
            rings[slide].append((kinds[kind], ring))
    return {
        name: _Slide(_shape({"height": height, "width": width}), _largest_first(rings[uid]))
        for uid, name, width, height in slides
    }


def _largest_first(outlines: Iterable[Outline]) -> tuple[Outline, ...]:
    with_area = [outline for outline in outlines if len(outline[1]) >= 3]
    return tuple(sorted(with_area, key=lambda outline: -_area(outline[1])))


def _area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2


_AT_10X = DataSet(
    name="catch",
    title="CATCH skin tumours of dogs",
    licence="CC BY 4.0",
    citation="Wilm et al., Scientific Data 9 (2022) 588",
    url="https://doi.org/10.7937/TCIA.2M93-FX66",
    mpp=MPP_10X,
    label_kind="classes",
    classes=TISSUES,
    splits=("train", "val", "test"),
    default_split="test",
    expected={"train": 245, "val": 35, "test": 70},
    layout="…/TUMOUR_CASE_N.svs, CATCH.json or CATCH.sqlite, and the authors' datasets.csv",
    notes=(
        "The split is the authors', by slide, and no case is on both sides. Slides become patches "
        "of 1024 px at 10x (1 µm), those an outline touches; with --target tissue-5x at 5x (2 µm). "
        "Seven tumours are one class, as in the paper; with --target kinds there are all 13 "
        "kinds. What nobody outlined is not labelled, except for glass, which is background."
    ),
    find=find,
    official_split=True,
    val_split="val",
    patches=partial(patches_of, mpp=MPP_10X),
)
_AT_5X = replace(_AT_10X, mpp=MPP_5X, patches=partial(patches_of, mpp=MPP_5X))
_KINDS = replace(_AT_10X, classes=KINDS, find=partial(find, drawn=kinds_on))
CATCH = replace(_AT_10X, targets={"tissue": _AT_10X, "tissue-5x": _AT_5X, "kinds": _KINDS})

"""CAMELYON16: metastases in lymph nodes, 399 slides with outlines."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import UNKNOWN_ID, DataSet, Sample
from napari_pathsam.datasets.layout import natural_key
from napari_pathsam.datasets.polygons import asap_rings
from napari_pathsam.datasets.slide_patches import (
    OVERVIEW_MPP,
    Outline,
    SlideOutlines,
    SlidePatch,
    patches_of,
)

MPP = 1.0
NAME = re.compile(r"(normal|tumor|test)_(\d{3})")
TUMOUR_GROUPS = ("_0", "_1", "tumor", "metastases", "none", "")
CUT_OUT_GROUPS = ("_2", "exclusion", "normal")
NOT_EXHAUSTIVE = frozenset(
    [f"tumor_{n:03d}" for n in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79,
                                85, 92, 95, 110)]
    + ["test_114"]
)  # fmt: skip
"""Slides with tumour that nobody outlined, as the README lists them."""


def drawn_on(sample: Sample) -> SlideOutlines:
    """A slide's metastases; areas of group ``_2`` are cut out of them.

    All else is background, but on slides that were not outlined exhaustively, where it is not
    labelled.
    """
    path = sample.labels_path
    outlines = () if path is None else _outlines(path, path.stat().st_mtime_ns)
    outside = UNKNOWN_ID if sample.name.partition("/")[0] in NOT_EXHAUSTIVE else 0
    return SlideOutlines(outlines, ("metastasis",), (0, 1), outside=outside)


@lru_cache(maxsize=8)
def _outlines(path: Path, _changed: int) -> tuple[Outline, ...]:
    tumour, cut_out = [], []
    for group, ring in asap_rings(path):
        if group.lower() in CUT_OUT_GROUPS:
            cut_out.append(("", ring))
        elif group.lower() in TUMOUR_GROUPS:
            tumour.append(("metastasis", ring))
        else:
            raise BadFileError(
                f"{path}: outlines of the group {group!r}; CAMELYON16 has _0 and _1 (tumour) and "
                "_2 (cut out of them)."
            )
    return tuple(tumour + cut_out)


def find(root: Path) -> list[Sample]:
    """Every ``normal_NNN.tif``, ``tumor_NNN.tif`` and ``test_NNN.tif`` with its ``.xml``, if any.

    Layout: the README of the data set; either ``images/`` and ``annotations/`` (AWS, GigaDB) or
    ``training/normal|tumor|lesion_annotations`` and ``testing/images|lesion_annotations``, with
    ``reference.csv`` saying which test slides have tumour.
    """
    slides = {p for p in root.glob("**/*.tif") if NAME.fullmatch(p.stem)}
    files = {p.stem: p for p in root.glob("**/*.xml") if NAME.fullmatch(p.stem)}
    reference = next(iter(sorted(root.glob("**/reference.csv"))), None) if slides else None
    with_tumour = _with_tumour(reference) if reference is not None else set()
    found = []
    for path in sorted(slides, key=natural_key):
        outlines = files.get(path.stem)
        if outlines is None and (path.stem.startswith("tumor") or path.stem in with_tumour):
            raise BadFileError(
                f"{path} shows tumour and has no outlines: {path.stem}.xml is missing. Unpack "
                "lesion_annotations.zip, or the folder annotations, into the same folder."
            )
        found.append(
            Sample(
                name=path.stem,
                group=path.stem,
                split="test" if path.stem.startswith("test") else "train",
                image_path=path,
                labels_path=outlines,
                mpp=OVERVIEW_MPP,
                label_kind="classes",
                reader=SlidePatch(drawn_on),
            )
        )
    return found


def _with_tumour(reference: Path) -> set[str]:
    """Test slides with tumour: rows ``test_001,Tumor,…``, with or without a header and ``.tif``."""
    with reference.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = [row for row in csv.reader(file) if len(row) >= 2]
    return {Path(row[0].strip()).stem for row in rows if row[1].strip().lower() == "tumor"}


def patches(slide: Sample) -> list[Sample]:
    """Squares of 1024 px at 1 µm: with tissue; of slides not outlined exhaustively, with tumour."""
    return patches_of(slide, MPP, everywhere=slide.name not in NOT_EXHAUSTIVE)


CAMELYON16 = DataSet(
    name="camelyon16",
    title="CAMELYON16 metastases in lymph nodes",
    licence="CC0 1.0",
    citation="Ehteshami Bejnordi et al., JAMA 318(22) (2017) 2199-2210",
    url="https://camelyon17.grand-challenge.org/Data/",
    mpp=MPP,
    label_kind="classes",
    classes=("metastasis",),
    splits=("train", "test"),
    default_split="test",
    expected={"train": 270, "test": 129},
    layout=(
        "images/tumor_001.tif … with annotations/tumor_001.xml, or training/normal, "
        "training/tumor, training/lesion_annotations, testing/images, testing/lesion_annotations"
    ),
    notes=(
        "The split is the challenge's (159 normal and 111 tumour slides; 129 to test on, without "
        "the duplicate test_049). Slides become patches of 1024 px at 1 µm with tissue. Slides "
        "that the README calls not exhaustively annotated give patches with outlines only, and "
        "nothing outside of the outlines is labelled in them. Test slides without an .xml are "
        "taken for normal, unless reference.csv says otherwise."
    ),
    find=find,
    official_split=True,
    patches=patches,
    names={
        "train": [
            *(f"normal_{n:03d}" for n in range(1, 161) if n != 86),
            *(f"tumor_{n:03d}" for n in range(1, 112)),
        ],
        "test": [f"test_{n:03d}" for n in range(1, 131) if n != 49],
    },
)

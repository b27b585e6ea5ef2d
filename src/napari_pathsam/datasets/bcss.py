"""BCSS 2019: tissue of breast cancer, 151 regions of TCGA slides at 0.25 µm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.datasets.base import UNKNOWN_ID, DataSet, Pixels, Sample
from napari_pathsam.datasets.layout import (
    folder_holding,
    images_by_stem,
    missing_labels,
    partner,
    tcga_patient,
)
from napari_pathsam.datasets.windows import cover, size_of, whole_labels, whole_rgb

MPP = 0.25
PATCH_PX = 1024
TEST_SITES = ("OL", "LL", "E2", "EW", "GM", "S3")
"""TCGA tissue source sites (the barcode's second field) whose slides are the test part."""
CLASSES = ("tumour", "stroma", "inflammatory", "necrosis", "other")
CODES = 22
"""``gtruth_codes.tsv`` numbers classes 0 … 21."""
GROUPS = {1: (1, 19, 20), 2: (2,), 3: (3, 10, 11), 4: (4,)}
"""Published codes by class: tumour with angioinvasion and DCIS; stroma; lymphocytic infiltrate,
plasma cells and other immune infiltrate; necrosis or debris."""
NOT_LABELLED = (0, 7)
"""Outside of the region, and "exclude". All other codes are class 5."""


def _lookup() -> np.ndarray:
    table = np.full(CODES, 5, np.uint8)
    table[list(NOT_LABELLED)] = UNKNOWN_ID
    for class_id, codes in GROUPS.items():
        table[list(codes)] = class_id
    return table


@dataclass(frozen=True)
class BcssPart:
    """Reads one part of a region (None: all of it) in five classes."""

    part: Region | None = None

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        image, codes = whole_rgb(sample.image_path), whole_labels(sample.labels_path)
        if image.shape[:2] != codes.shape:
            raise BadImageError(
                f"{sample.image_path} has {image.shape[0]} × {image.shape[1]} pixels, its labels "
                f"{sample.labels_path} have {codes.shape[0]} × {codes.shape[1]}. Download both at "
                "the same resolution."
            )
        where = (self.part or Region.of((codes.shape[0], codes.shape[1]))).slices
        codes = codes[where]
        if codes.max(initial=0) >= CODES:
            raise BadFileError(
                f"{sample.labels_path} holds the code {codes.max()}, and BCSS has codes up to "
                f"{CODES - 1} (gtruth_codes.tsv). It may be a mask of another data set."
            )
        return np.ascontiguousarray(image[where]), _lookup()[codes]


def find(root: Path) -> list[Sample]:
    """Every ``images/NAME.png`` (or ``rgbs_colorNormalized/NAME.png``) with ``masks/NAME.png``.

    Layout: what the authors' script writes (PathologyDataScience/BCSS: ``images``, ``masks``), and
    their ready-made folder ``0_Public-data-Amgad2019_0.25MPP`` (``rgbs_colorNormalized``,
    ``masks``). Names begin with the TCGA barcode of the slide.
    """
    for name in ("rgbs_colorNormalized", "images"):
        folder = folder_holding(root, name, "masks")
        images = images_by_stem(folder / name) if folder else {}
        images = {stem: path for stem, path in images.items() if stem.startswith("TCGA-")}
        if folder and images:
            break
    else:
        return []
    if not (folder / "masks").is_dir():
        raise missing_labels(folder / name, folder / "masks")
    masks = images_by_stem(folder / "masks")
    return [
        Sample(
            name=stem,
            group=tcga_patient(stem),
            split="test" if stem[5:7] in TEST_SITES else "train",
            image_path=path,
            labels_path=partner(masks, stem, path, folder / "masks"),
            mpp=MPP,
            label_kind="classes",
            reader=BcssPart(),
        )
        for stem, path in images.items()
    ]


def patches(region: Sample) -> list[Sample]:
    """A region cut into parts of at most 1024 × 1024, no pixel in two of them and none left out.

    (SAM-Path's overlap, and 105 of its 151 slides have patches in several of its folds.)
    """
    return [
        replace(region, name=f"{region.name}/y{part.y}_x{part.x}", reader=BcssPart(part))
        for part in cover(size_of(region.image_path), PATCH_PX)
    ]


BCSS = DataSet(
    name="bcss",
    title="BCSS breast cancer tissue",
    licence="CC0 1.0",
    citation="Amgad et al., Bioinformatics 35(18) (2019) 3461-3467",
    url="https://github.com/PathologyDataScience/BCSS",
    mpp=MPP,
    label_kind="classes",
    classes=CLASSES,
    splits=("train", "test"),
    default_split="test",
    expected={"all": 151},
    layout="images/TCGA-….png (or rgbs_colorNormalized/) with masks/TCGA-….png",
    notes=(
        "Five classes, as the paper groups its 21; codes 0 (outside of the region) and 7 (exclude) "
        "are not labelled and never counted. The split is the authors': slides of the TCGA sites "
        "OL, LL, E2, EW, GM and S3 are test. Regions are cut into parts of at most 1024 px that "
        "do not overlap. Group is the patient."
    ),
    find=find,
    official_split=True,
    patches=patches,
)

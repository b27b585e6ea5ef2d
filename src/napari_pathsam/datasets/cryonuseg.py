"""CryoNuSeg 2021: nuclei in frozen sections, 30 images of 512 × 512 at 40x, ten organs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import (
    folder_holding,
    missing_labels,
    paired,
)

NOMINAL_MPP = 0.25
"""The images are TCGA's at 40x; the pixel size of each was not published."""
ANNOTATORS = {
    "annotator-1": "Annotator 1 (biologist)",
    "annotator-1-again": "Annotator 1 (biologist second round of manual marks up)",
    "annotator-2": "Annotator 2 (bioinformatician)",
}
LABELS = "label masks modify"
"""Of several kinds of masks, the authors want this one used: overlaps belong to one nucleus."""
VAL_NUMBER = "03"


def find(root: Path, annotator: str = "annotator-1") -> list[Sample]:
    """Every ``tissue images/Human_ORGAN_NN.tif`` with an annotator's label mask.

    Layout: the authors' Kaggle data set, whose folders of two annotators lie twice within each
    other, and the repository that made the masks (masih4/CryoNuSeg).
    """
    folder = folder_holding(root, "tissue images", ANNOTATORS["annotator-1"], deep=1)
    if folder is None:
        return []
    marked = folder / ANNOTATORS[annotator]
    inner = folder_holding(marked, LABELS, deep=1) if marked.is_dir() else None
    images = folder / "tissue images"
    if inner is None:
        raise missing_labels(images, marked / LABELS)
    return [
        Sample(
            name=stem,
            group=stem,
            split="val" if stem.endswith(f"_{VAL_NUMBER}") else "train",
            image_path=image_path,
            labels_path=labels_path,
            mpp=None,
            label_kind="instances",
            nominal_mpp=NOMINAL_MPP,
        )
        for stem, image_path, labels_path in paired(images, inner / LABELS)
    ]


_FIRST = DataSet(
    name="cryonuseg",
    title="CryoNuSeg nuclei in frozen sections",
    licence="as its Kaggle page states; read it before use",
    citation="Mahbod et al., Computers in Biology and Medicine 132 (2021) 104349",
    url="https://www.kaggle.com/datasets/ipateam/segmentation-of-nuclei-in-cryosectioned-he-images",
    mpp=None,
    label_kind="instances",
    classes=("nucleus",),
    splits=("train", "val"),
    default_split="val",
    expected={"train": 20, "val": 10},
    layout=(
        "tissue images/Human_ORGAN_01.tif with Annotator 1 (biologist)/label masks modify/"
        "Human_ORGAN_01.tif, and folders of the other annotators"
    ),
    notes=(
        "There is no official split (the paper cross-validates): the third image of each organ is "
        "val. Every image is of another patient. Targets are annotators: two people, the first "
        "of them twice. The pixel size was not published: 40x, 0.25 µm is taken for it."
    ),
    find=find,
    val_split="val",
)
CRYONUSEG = replace(
    _FIRST,
    targets={name: replace(_FIRST, find=partial(find, annotator=name)) for name in ANNOTATORS},
)

"""NuInsSeg 2024: nuclei of 31 human and mouse organs, 665 images of 512 × 512."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import paired, subfolders

NOMINAL_MPP = 0.25
IMAGES, LABELS = "tissue images", "label masks modify"


def find(root: Path) -> list[Sample]:
    """Every ``ORGAN/tissue images/NAME.png`` with ``ORGAN/label masks modify/NAME.tif``.

    Layout: the authors' Kaggle data set (a folder for each organ, ``human bladder`` and so on) and
    the repository that made the masks (masih4/NuInsSeg). Of several kinds of masks these are the
    ones to be used: an overlap belongs to one nucleus.
    """
    organs = _organs(root) or [o for inner in subfolders(root) for o in _organs(inner)]
    found = []
    for organ in organs:
        found += [
            Sample(
                name=f"{organ.name}/{stem}",
                group=organ.name,
                split=split_of(organ.name),
                image_path=image_path,
                labels_path=labels_path,
                mpp=None,
                label_kind="instances",
                nominal_mpp=NOMINAL_MPP,
            )
            for stem, image_path, labels_path in paired(organ / IMAGES, organ / LABELS)
        ]
    return found


def _organs(folder: Path) -> list[Path]:
    kinds = ("human ", "mouse ")
    return [p for p in subfolders(folder) if p.name.startswith(kinds) and (p / IMAGES).is_dir()]


def split_of(organ: str) -> str:
    """Our split: about one organ, that is one slide, in five, by the checksum of its name."""
    return "val" if crc32(organ.encode()) % 5 == 0 else "train"


NUINSSEG = DataSet(
    name="nuinsseg",
    title="NuInsSeg nuclei of 31 organs",
    licence="as its Kaggle page states; read it before use",
    citation="Mahbod et al., Scientific Data 11 (2024) 295",
    url="https://www.kaggle.com/datasets/ipateam/nuinsseg",
    mpp=None,
    label_kind="instances",
    classes=("nucleus",),
    splits=("train", "val"),
    default_split="val",
    expected={"all": 665},
    layout=(
        "human bladder/tissue images/NAME.png with human bladder/label masks modify/NAME.tif, "
        "a folder for each of 31 organs"
    ),
    notes=(
        "There is no official test part. The authors recommend five folds of shuffled images, "
        "which puts images of each of the 31 slides on both sides; here a slide (an organ) is in "
        "one split only, about one in five in val. The pixel size is not in the files: 40x, "
        "0.25 µm is taken for it. Areas the annotators found ambiguous are not left out."
    ),
    find=find,
    val_split="val",
)

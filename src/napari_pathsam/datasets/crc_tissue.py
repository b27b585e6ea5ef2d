"""CRC-VAL-HE-7K (Kather 2018): tiles of colon and rectum that show one tissue each."""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import images_by_stem

TISSUES = {
    "ADI": "adipose",
    "LYM": "lymphocytes",
    "MUC": "mucus",
    "MUS": "muscle",
    "NORM": "normal mucosa",
    "STR": "stroma",
    "TUM": "tumour",
}
"""Class names by folder. BACK (glass) and DEB (debris) of the whole set are not read."""

CLASSES = tuple(TISSUES.values())
PUBLISHED_MPP, REDUCED_MPP = 0.5, 1.04
FOLDS = 5
REDUCED, UNSEEN = "108px_1.04mpp", "224px_0.5mpp"


def find(root: Path) -> list[Sample]:
    """Every ``108px_1.04mpp/ADI/…`` (five folds) and ``224px_0.5mpp/ADI/…`` (unseen).

    Folders of the classes right under ``root`` are the set as it was published.
    """
    if any((root / code).is_dir() for code in TISSUES):
        return _tiles(root)
    return _tiles(root / REDUCED) + _tiles(root / UNSEEN)


def fold_of(stem: str) -> int:
    """Fold 1 … 5 of a tile, by its name alone.

    The reduced copies are named by row and column of five rows a class: the row is the fold.
    """
    row = re.search(r"_r([0-4])c\d+$", stem)
    return 1 + (int(row[1]) if row else crc32(stem.encode()) % FOLDS)


def _tiles(folder: Path) -> list[Sample]:
    found = []
    for class_id, code in enumerate(TISSUES, start=1):
        if not (folder / code).is_dir():
            continue
        for stem, path in images_by_stem(folder / code).items():
            split = {REDUCED: f"fold{fold_of(stem)}", UNSEEN: "unseen"}.get(folder.name, "whole")
            found.append(
                Sample(
                    name=f"{code}/{stem}",
                    group=stem,
                    split=split,
                    image_path=path,
                    labels_path=None,
                    mpp=REDUCED_MPP if folder.name == REDUCED else PUBLISHED_MPP,
                    label_kind="classes",
                    class_id=class_id,
                )
            )
    return found


CRC_TISSUE = DataSet(
    name="crc-tissue",
    title="CRC-VAL-HE-7K tissue tiles",
    licence="CC BY 4.0",
    citation="Kather, Halama, Marx, zenodo 1214456 (2018)",
    url="https://doi.org/10.5281/zenodo.1214456",
    mpp=PUBLISHED_MPP,
    label_kind="classes",
    classes=CLASSES,
    splits=("fold", *(f"fold{n}" for n in range(1, FOLDS + 1)), "unseen", "whole"),
    default_split="unseen",
    expected={},
    layout=(
        "108px_1.04mpp/ADI/NAME.png (reduced copies) and 224px_0.5mpp/ADI/NAME.png, or "
        "ADI/NAME.tif as published; seven folders: ADI LYM MUC MUS NORM STR TUM"
    ),
    notes=(
        "Each tile shows one tissue and has no label image. No patients are known: tiles of one "
        "patient may be on both sides of a split. The reduced copies are in five folds, and fold "
        "is all of them; the 224-pixel tiles are unseen. The set as published is the split whole, "
        "and holds the tiles the packaged head was trained on. Tiles are stain-normalised."
    ),
    find=find,
    train_split="fold",
)

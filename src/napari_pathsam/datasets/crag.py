"""CRAG (v2) 2019: colon glands, one id each, 213 images of about 1512 × 1516 at 20x."""

from __future__ import annotations

from pathlib import Path

from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import folder_holding, paired

NOMINAL_MPP = 0.55
"""The README says 20x and no pixel size; the scanner (Omnyx VL120) makes 0.275 µm at 40x."""
IMAGES = {"train": 173, "test": 40}
PARTS = {"train": "train", "valid": "test", "test": "test"}
"""Split by folder. The archive calls its test part ``valid``, its README ``test``."""
LABELS = ("Annotation", "Annotations")


def find(root: Path) -> list[Sample]:
    """Every ``train/Images/NAME.png`` with its ``train/Annotation/NAME.png``; ``valid`` alike.

    Layout: the README of CRAG_v2.zip (train and test, each with Images, Annotation and Overlay).
    """
    folder = folder_holding(root, "train/Images") or folder_holding(root, "valid/Images")
    found: list[Sample] = []
    if folder is None:
        return found
    for part, split in PARTS.items():
        part_of = folder / part
        images = part_of / "Images"
        labels = next((p for n in LABELS if (p := part_of / n).is_dir()), None)
        if not images.is_dir() or (labels is None and not (part_of / "Overlay").is_dir()):
            continue
        found += [
            Sample(
                name=f"{split}/{stem}",
                group=f"{split}/{stem}",
                split=split,
                image_path=image_path,
                labels_path=labels_path,
                mpp=None,
                label_kind="instances",
                nominal_mpp=NOMINAL_MPP,
            )
            for stem, image_path, labels_path in paired(images, labels or part_of / LABELS[0])
        ]
    return found


CRAG = DataSet(
    name="crag",
    title="CRAG colorectal adenocarcinoma glands (v2)",
    licence="not stated in the archive; taken for research use only",
    citation="Graham et al., Medical Image Analysis 52 (2019) 199-211 (MILD-Net)",
    url="https://warwick.ac.uk/fac/cross_fac/tia/data/mildnet/",
    mpp=None,
    label_kind="instances",
    classes=("gland",),
    splits=("train", "test"),
    default_split="test",
    expected=IMAGES,
    layout="train/Images/NAME.png with train/Annotation/NAME.png, and the same in valid (or test)",
    notes=(
        "The split is the publishers'. The images are of 38 slides, and which is of which was not "
        "published, so each image is a group of its own. The pixel size is not in the files: 20x, "
        "0.55 µm is taken for it."
    ),
    find=find,
    official_split=True,
    names={part: [f"{part}/{part}_{i}" for i in range(1, n + 1)] for part, n in IMAGES.items()},
)

"""TNBC nuclei (Naylor 2018): breast cancer, 512 × 512 at 40x, nuclei against the rest."""

from __future__ import annotations

from pathlib import Path

from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import natural_key, paired

MPP = 0.25
VAL_PATIENTS = ("08", "09")


def find(root: Path) -> list[Sample]:
    """Every ``Slide_PP/PP_N`` with its ``GT_PP/PP_N``; PP is the patient."""
    nested = [p for p in sorted(root.iterdir()) if p.is_dir() and any(p.glob("Slide_*"))]
    folder = root if any(root.glob("Slide_*")) or not nested else nested[0]
    found = []
    for slide in sorted(folder.glob("Slide_*"), key=natural_key):
        labels = folder / slide.name.replace("Slide_", "GT_")
        for stem, image_path, labels_path in paired(slide, labels):
            patient = stem[:2]
            found.append(
                Sample(
                    name=stem,
                    group=patient,
                    split="val" if patient in VAL_PATIENTS else "train",
                    image_path=image_path,
                    labels_path=labels_path,
                    mpp=MPP,
                    label_kind="binary",
                )
            )
    return found


TNBC = DataSet(
    name="tnbc",
    title="TNBC nuclei",
    licence="CC BY 4.0",
    citation="Naylor et al., IEEE Transactions on Medical Imaging 38(2) (2019) 448-459",
    url="https://doi.org/10.5281/zenodo.1175282",
    mpp=MPP,
    label_kind="binary",
    classes=("nucleus",),
    splits=("train", "val"),
    default_split="val",
    expected={"all": 50},
    layout="Slide_01/01_1.png with GT_01/01_1.png, a folder for each patient",
    notes=(
        "There is no official split: patients 08 and 09 are val, the others train. Touching "
        "nuclei are merged in the labels."
    ),
    find=find,
    val_split="val",
    archives={
        "TNBC_NucleiSegmentation.zip": (
            "da708c3a988f4ad4b9bbb9283b387faf703f0bc0e5e689927306bd27ea13a57f"
        )
    },
)

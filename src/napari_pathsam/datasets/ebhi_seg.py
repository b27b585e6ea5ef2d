"""EBHI-Seg 2023: colon biopsies, 224 × 224, epithelium against the rest, six diagnoses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import paired

IMAGES = {
    "Normal": 76,
    "Polyp": 474,
    "Low-grade IN": 639,
    "High-grade IN": 186,
    "Serrated adenoma": 58,
    "Adenocarcinoma": 795,
}
DIAGNOSES = tuple(IMAGES)
NOMINAL_MPP = 1.4
"""Nobody published the pixel size. Networks trained on these images do best on GlaS when it is read
at 1.4 to 1.8 µm per pixel, and glands are as wide as GlaS's at about this size."""


def find(root: Path) -> list[Sample]:
    """Every ``<diagnosis>/image/NAME`` with its ``<diagnosis>/label/NAME``."""
    inside = root / "EBHI-SEG"
    folder = inside if inside.is_dir() else root
    splits = _splits(folder / "splits.csv")
    found = []
    for diagnosis in DIAGNOSES:
        images, labels = folder / diagnosis / "image", folder / diagnosis / "label"
        if not images.is_dir():
            continue
        for stem, image_path, labels_path in paired(images, labels):
            case = case_of(stem)
            found.append(
                Sample(
                    name=f"{diagnosis}/{stem}",
                    group=case,
                    split=splits.get(f"{diagnosis}/{stem}") or split_of(case),
                    image_path=image_path,
                    labels_path=labels_path,
                    mpp=None,
                    label_kind="binary",
                    nominal_mpp=NOMINAL_MPP,
                )
            )
    return found


def find_lesions(root: Path) -> list[Sample]:
    """The same images; every mask is of the class its image's folder, the diagnosis, stands for."""
    return [
        replace(s, label_kind="classes", class_id=1 + DIAGNOSES.index(s.name.partition("/")[0]))
        for s in find(root)
    ]


def case_of(stem: str) -> str:
    """The case: what stands before a file name's first dash."""
    return stem.split("-")[0]


def split_of(case: str) -> str:
    """Our split where the folder has no ``splits.csv``: one case in five, by its checksum."""
    return "val" if crc32(case.encode()) % 5 == 0 else "train"


def _splits(path: Path) -> dict[str, str]:
    """Split by ``<diagnosis>/<stem>``, from a CSV with the columns ``image`` and ``split``."""
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {f"{Path(r['image']).parts[0]}/{Path(r['image']).stem}": r["split"] for r in rows}
    except (UnicodeDecodeError, csv.Error, KeyError, IndexError, TypeError) as error:
        raise BadFileError(
            f"{path} is not a split of EBHI-Seg: a CSV with the columns image and split is "
            f"wanted ({error!r}). Mend it, or remove it to split by case instead."
        ) from error


_GLANDS = DataSet(
    name="ebhi-seg",
    title="EBHI-Seg",
    licence="CC BY 4.0",
    citation="Shi et al., Frontiers in Medicine 10:1114673 (2023)",
    url="https://doi.org/10.6084/m9.figshare.21540159",
    mpp=None,
    label_kind="binary",
    classes=("gland",),
    splits=("train", "val"),
    default_split="val",
    expected=IMAGES,
    layout="<diagnosis>/image/NAME.png with <diagnosis>/label/NAME.png, six diagnoses",
    notes=(
        "There is no official split: splits.csv (columns image and split) decides where it is "
        "there, otherwise one case in five is val. Cases are told by the name before the first "
        "dash. The pixel size is not published; 1.4 µm is taken for it. With --target lesions "
        "every mask is labelled with its image's diagnosis: Normal, Polyp, Low-grade IN, "
        "High-grade IN, Serrated adenoma or Adenocarcinoma."
    ),
    find=find,
    val_split="val",
)
_LESIONS = replace(_GLANDS, label_kind="classes", classes=DIAGNOSES, find=find_lesions)

EBHI_SEG = replace(_GLANDS, targets={"glands": _GLANDS, "lesions": _LESIONS})

"""GlaS / Warwick-QU 2015: colon glands, one id each, at 0.62 µm per pixel."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import DataSet, Sample
from napari_pathsam.datasets.layout import images_by_stem, partner

MPP = 0.62005
IMAGES = {"train": 85, "testA": 60, "testB": 20}


def find(root: Path) -> list[Sample]:
    """Every ``train_N``, ``testA_N`` and ``testB_N`` with its ``…_anno`` partner."""
    folder = _data_folder(root)
    files = images_by_stem(folder)
    patients = _patients(folder)
    return [
        Sample(
            name=stem,
            group=patients.get(stem, stem),
            split=stem.split("_")[0],
            image_path=path,
            labels_path=partner(files, f"{stem}_anno", path, folder),
            mpp=MPP,
            label_kind="instances",
        )
        for stem, path in files.items()
        if _is_image(stem)
    ]


def _is_image(stem: str) -> bool:
    return re.fullmatch(r"(train|testA|testB)_\d+", stem) is not None


def _data_folder(root: Path) -> Path:
    """The folder itself, or the one the official archive unpacks into."""
    inside = sorted(p for p in root.iterdir() if p.is_dir())
    return next(
        (folder for folder in (root, *inside) if any(_is_image(p.stem) for p in folder.iterdir())),
        root,
    )


def _patients(folder: Path) -> dict[str, str]:
    """Patient by image name, from ``Grade.csv``; empty without that file."""
    path = folder / "Grade.csv"
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, skipinitialspace=True))[1:]
        return {row[0].strip(): f"patient {row[1].strip()}" for row in rows if row}
    except (UnicodeDecodeError, csv.Error, IndexError) as error:
        raise BadFileError(
            f"{path} cannot be read as GlaS's table of patients, with a header line and then "
            f"name,patient,grade in each line ({error}). Take the file from the archive again."
        ) from error


GLAS = DataSet(
    name="glas",
    title="GlaS (Warwick-QU)",
    licence="research use only; not for weights that are given away",
    citation="Sirinukunwattana et al., Medical Image Analysis 35 (2017) 489-502",
    url="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/",
    mpp=MPP,
    label_kind="instances",
    classes=("gland",),
    splits=("train", "testA", "testB", "test"),
    default_split="testA",
    expected=IMAGES,
    layout="train_1.bmp with train_1_anno.bmp, testA_1.bmp …, Grade.csv, in one folder",
    notes=(
        "The split is the challenge's own, by image: by Grade.csv most patients of test A are in "
        "train as well. Cut a validation part out of train by patient."
    ),
    find=find,
    official_split=True,
    names={part: [f"{part}_{i}" for i in range(1, n + 1)] for part, n in IMAGES.items()},
)

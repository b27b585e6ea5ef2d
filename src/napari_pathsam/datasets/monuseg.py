"""MoNuSeg 2018: nuclei of nine organs, 51 images of 1000 × 1000 from TCGA slides at 40x."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_pathsam.datasets.base import DataSet, Pixels, Sample
from napari_pathsam.datasets.layout import (
    folder_holding,
    images_by_stem,
    missing_labels,
    partner,
    subfolders,
    tcga_patient,
)
from napari_pathsam.datasets.polygons import aperio_rings
from napari_pathsam.io._outlines import fill_polygon
from napari_pathsam.io.images import read_rgb

MPP = 0.25
XML = (".xml",)


@dataclass(frozen=True)
class OutlinedImage:
    """Reads an image and paints its outlines: one id for each, a later one over an earlier."""

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        image, _ = read_rgb(sample.image_path)
        shape_yx = (image.shape[0], image.shape[1])
        labels = np.zeros(shape_yx, np.int32)
        for index, ring in enumerate(aperio_rings(sample.labels_path), start=1):
            if (filled := fill_polygon([ring], shape_yx)) is not None:
                where, inside = filled
                labels[where][inside] = index
        return image, labels


def find(root: Path) -> list[Sample]:
    """Every ``Tissue Images/NAME.tif`` with ``Annotations/NAME.xml``; test images with theirs.

    Layout: the two archives of the challenge, "MoNuSeg 2018 Training Data.zip" (30 images of 2018
    and the 7 that were added) and "MoNuSegTestData.zip", images
    and outlines in one folder. Outlines are Aperio ImageScope's.
    """
    found = []
    training = folder_holding(root, "Tissue Images", deep=3)
    if training is not None and (training / "Annotations").exists():
        found += _pairs(training / "Tissue Images", training / "Annotations", "train")
    elif training is not None and any((training / "Tissue Images").glob("TCGA-*")):
        raise missing_labels(training / "Tissue Images", training / "Annotations")
    for folder in _named(root, "MoNuSegTestData"):
        found += _pairs(folder, folder, "test")
    return found


def _named(root: Path, name: str) -> list[Path]:
    """``root``, or what lies in it, by this name; an archive may unpack into a second one."""
    outer = [root] if root.name == name else [p for p in subfolders(root) if p.name == name]
    inner = [p for o in outer for p in subfolders(o) if p.name == name]
    return inner or outer


def _pairs(images: Path, outlines: Path, split: str) -> list[Sample]:
    files = images_by_stem(outlines, suffixes=XML)
    return [
        Sample(
            name=stem,
            group=tcga_patient(stem),
            split=split,
            image_path=path,
            labels_path=partner(files, stem, path, outlines, suffixes=XML),
            mpp=MPP,
            label_kind="instances",
            reader=OutlinedImage(),
        )
        for stem, path in images_by_stem(images, suffixes=(".tif", ".tiff", ".png")).items()
    ]


MONUSEG = DataSet(
    name="monuseg",
    title="MoNuSeg nuclei of nine organs",
    licence="CC BY-NC-SA 4.0",
    citation="Kumar et al., IEEE Transactions on Medical Imaging 39(5) (2020) 1380-1391",
    url="https://monuseg.grand-challenge.org/Data/",
    mpp=MPP,
    label_kind="instances",
    classes=("nucleus",),
    splits=("train", "test"),
    default_split="test",
    expected={"train": 37, "test": 14},
    layout=(
        "MoNuSeg 2018 Training Data/Tissue Images/TCGA-….tif with Annotations/TCGA-….xml, and "
        "MoNuSegTestData/TCGA-….tif with .xml"
    ),
    notes=(
        "The split is the challenge's; the training archive holds the 30 images of 2018 and 7 "
        "that were added. Group is the patient. An outline's nucleus is its id; where two overlap "
        "the later one has the pixels."
    ),
    find=find,
    official_split=True,
    archives={
        "MoNuSeg 2018 Training Data.zip": (
            "25d3d3185bb2970b397cafa72eb664c9b4d24294aee382e7e3df9885affce742"
        ),
        "MoNuSegTestData.zip": "13e522387ae8b1bcc0530e13ff9c7b4d91ec74959ef6f6e57747368d7ee6f88a",
    },
)

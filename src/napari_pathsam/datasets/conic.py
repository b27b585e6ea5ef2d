"""CoNIC 2022: nuclei of the colon in six kinds, 4,981 patches of 256 × 256 at 0.5 µm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np

from napari_pathsam.datasets.base import DataSet, LabelKind, Pixels, Sample
from napari_pathsam.datasets.layout import folder_holding, table
from napari_pathsam.datasets.stacks import open_stack, same_length

MPP = 0.5
KINDS = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")
"""Ids 1 … 6, as in the challenge's description."""
Target = Literal["nuclei", "kinds"]
LABEL_KIND: dict[Target, LabelKind] = {"nuclei": "instances", "kinds": "classes"}


@dataclass(frozen=True)
class ConicPatch:
    """Reads patch ``index`` of ``images.npy``, and of ``labels.npy`` the channel of a target."""

    index: int
    target: Target

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        image = np.array(open_stack(sample.image_path, 3)[self.index], np.uint8)
        labels = open_stack(sample.labels_path, 2)[self.index]
        return image, np.array(labels[..., 0 if self.target == "nuclei" else 1], np.int32)


def find(root: Path, target: Target = "nuclei") -> list[Sample]:
    """Every patch of ``images.npy`` with ``labels.npy`` (ids, kinds), named in ``patch_info.csv``.

    Layout: the challenge's training data, as its repository (TissueImageAnalytics/CoNIC) reads and
    made them: patches are called SOURCE-NNNN after the image of Lizard they were cut from.
    """
    folder = folder_holding(root, "images.npy", "labels.npy")
    if folder is None or (folder / "types.npy").exists():
        return []
    images, labels, info = (folder / n for n in ("images.npy", "labels.npy", "patch_info.csv"))
    names = [row["patch_info"] for row in table(info, "patch_info")]
    same_length(
        (images, len(open_stack(images, 3))),
        (labels, len(open_stack(labels, 2))),
        (info, len(names)),
    )
    return [
        Sample(
            name=name,
            group=source_of(name),
            split=split_of(source_of(name)),
            image_path=images,
            labels_path=labels,
            mpp=MPP,
            label_kind=LABEL_KIND[target],
            reader=ConicPatch(index, target),
            objects=ConicPatch(index, "nuclei") if target == "kinds" else None,
        )
        for index, name in enumerate(names)
    ]


def source_of(name: str) -> str:
    """The image a patch was cut from: ``consep_1`` of ``consep_1-0000``."""
    return name.rpartition("-")[0] or name


def split_of(source: str) -> str:
    """Our split: one source image in five, by its checksum."""
    return "val" if crc32(source.encode()) % 5 == 0 else "train"


_NUCLEI = DataSet(
    name="conic",
    title="CoNIC nuclei of the colon",
    licence="CC BY-NC-SA 4.0",
    citation="Graham et al., Medical Image Analysis 92 (2024) 103047",
    url="https://conic-challenge.grand-challenge.org/Data/",
    mpp=MPP,
    label_kind="instances",
    classes=("nucleus",),
    splits=("train", "val"),
    default_split="val",
    expected={"all": 4981},
    layout="images.npy, labels.npy (ids and kinds) and patch_info.csv in one folder",
    notes=(
        "The challenge's test data were never published, so there is no official split: one "
        "source image in five is val. Patches of one image stay together; several images may be "
        "of one patient, and which was not published. With --target kinds labels are the six "
        "kinds of nuclei. Some images are GlaS's and CRAG's: do not test on those after training "
        "on these."
    ),
    find=find,
    val_split="val",
)
_KINDS = replace(_NUCLEI, label_kind="classes", classes=KINDS, find=partial(find, target="kinds"))
CONIC = replace(_NUCLEI, targets={"nuclei": _NUCLEI, "kinds": _KINDS})

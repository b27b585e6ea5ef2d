"""Lizard 2021: nuclei of the colon in six kinds, 238 images of many sizes at 0.5 µm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import DataSet, Pixels, Sample
from napari_pathsam.datasets.conic import KINDS, LABEL_KIND, MPP, Target
from napari_pathsam.datasets.layout import images_by_stem, missing_labels, partner, table
from napari_pathsam.io._files import existing_file, reading
from napari_pathsam.io.images import read_rgb


@dataclass(frozen=True)
class LizardImage:
    """Reads an image, and of its ``.mat`` file the ids of nuclei or the kind of each."""

    target: Target

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        image, _ = read_rgb(sample.image_path)
        nuclei, kinds = read_mat(sample.labels_path)
        return image, nuclei if self.target == "nuclei" else kinds


def read_mat(path: Path) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """``inst_map``, and ``class`` of each ``id`` painted into it: two maps ``(H, W)``.

    Raises
    ------
    BadFileError
        It is no MATLAB file, or one of other contents.
    """
    from scipy.io import loadmat

    existing_file(path, wanted="a MATLAB file of labels")
    with reading(path, "a MATLAB file of labels"):
        found = loadmat(path)
        nuclei = np.asarray(found["inst_map"]).astype(np.int32)
        ids, classes = (np.asarray(found[key]).ravel().astype(int) for key in ("id", "class"))
    if nuclei.ndim != 2 or len(ids) != len(classes) or (ids < 1).any():
        raise BadFileError(f"{path}: inst_map, id and class of Lizard do not fit each other.")
    lookup = np.zeros(max(int(nuclei.max(initial=0)), int(ids.max(initial=0))) + 1, np.uint8)
    lookup[ids] = classes
    return nuclei, lookup[nuclei]


def find(root: Path, target: Target = "nuclei") -> list[Sample]:
    """Every ``Lizard_Images1|2/NAME.png`` with ``Lizard_Labels/Labels/NAME.mat``.

    Layout: the three archives of the publishers, unpacked into one folder or each into its own;
    ``Lizard_Labels/info.csv`` (Filename, Source, Split) says which of three folds an image is of.
    """
    info = next(iter(sorted(root.glob("**/Lizard_Labels/info.csv"))), None)
    if info is None:
        return []
    labels = info.parent / "Labels"
    if not labels.is_dir():
        raise missing_labels(info, labels)
    label_files = images_by_stem(labels, suffixes=(".mat",))
    folds = {row["Filename"]: row["Split"] for row in table(info, "Filename", "Split")}
    found = []
    for folder in sorted(root.glob("**/Lizard_Images[12]")):
        images = images_by_stem(folder) if folder.is_dir() else {}
        for stem, path in images.items():
            if stem not in folds:
                raise BadFileError(f"{path} is not listed in {info}; take both from one release.")
            found.append(
                Sample(
                    name=stem,
                    group=stem,
                    split=f"fold{folds[stem]}",
                    image_path=path,
                    labels_path=partner(label_files, stem, path, labels, suffixes=(".mat",)),
                    mpp=MPP,
                    label_kind=LABEL_KIND[target],
                    reader=LizardImage(target),
                    objects=LizardImage("nuclei") if target == "kinds" else None,
                )
            )
    return found


_NUCLEI = DataSet(
    name="lizard",
    title="Lizard nuclei of the colon",
    licence="CC BY-NC-SA 4.0",
    citation="Graham et al., ICCV Workshops (2021) 684-693",
    url="https://warwick.ac.uk/fac/cross_fac/tia/data/lizard",
    mpp=MPP,
    label_kind="instances",
    classes=("nucleus",),
    splits=("fold1", "fold2", "fold3"),
    default_split="fold3",
    expected={"all": 238},
    layout=(
        "Lizard_Images1/NAME.png, Lizard_Images2/NAME.png, Lizard_Labels/Labels/NAME.mat and "
        "Lizard_Labels/info.csv"
    ),
    notes=(
        "The three folds are the publishers'. Patients were not published. With --target kinds "
        "labels are the six kinds of nuclei. Some images are GlaS's and CRAG's: do not test on "
        "those after training on these."
    ),
    find=find,
    official_split=True,
    train_split="fold1",
    val_split="fold2",
)
_KINDS = replace(_NUCLEI, label_kind="classes", classes=KINDS, find=partial(find, target="kinds"))
LIZARD = replace(_NUCLEI, targets={"nuclei": _NUCLEI, "kinds": _KINDS})

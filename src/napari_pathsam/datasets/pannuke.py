"""PanNuke 2020: nuclei of 19 tissues in five kinds, 7,901 patches of 256 × 256 at 0.25 µm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.datasets.base import DataSet, Pixels, Sample
from napari_pathsam.datasets.conic import LABEL_KIND, Target
from napari_pathsam.datasets.stacks import open_stack, same_length
from napari_pathsam.io._files import existing_file, reading
from napari_pathsam.io.images import as_rgb

MPP = 0.25
KINDS = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
"""Channels 0 … 4 of the masks; channel 5 is background."""
FOLDS = (1, 2, 3)


@dataclass(frozen=True)
class PanNukePatch:
    """Reads patch ``index`` of ``images.npy``; its masks as ids of nuclei or as their kinds."""

    index: int
    target: Target

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        stack = open_stack(sample.image_path, 3)
        image = as_rgb(np.array(stack[self.index]), where=sample.name, full_scale=255)
        masks = np.array(open_stack(sample.labels_path, 6)[self.index][..., :5])
        return image, ids_of(masks) if self.target == "nuclei" else kinds_of(masks)


def ids_of(masks: NDArray) -> NDArray[np.int32]:
    """Five channels of ids ``(H, W, 5)`` → ids 1, 2, … of all nuclei; later channels win."""
    found = np.zeros(masks.shape[:2], np.int32)
    n = 0
    for channel in np.moveaxis(masks, 2, 0):
        ids, where = np.unique(channel, return_inverse=True)
        here = where.reshape(channel.shape) + (0 if ids[0] == 0 else 1)
        np.copyto(found, here + n, where=here > 0)
        n += int(here.max())
    return found


def kinds_of(masks: NDArray) -> NDArray[np.uint8]:
    """Five channels of ids ``(H, W, 5)`` → channel + 1; later channels win."""
    found = np.zeros(masks.shape[:2], np.uint8)
    for kind, channel in enumerate(np.moveaxis(masks, 2, 0), start=1):
        found[channel > 0] = kind
    return found


def find(root: Path, target: Target = "nuclei") -> list[Sample]:
    """Every patch of ``images/foldN/images.npy``, with its masks and its tissue.

    Layout: the publishers' fold_1.zip … fold_3.zip, each of which unpacks into ``Fold N`` with
    images/foldN/images.npy, images/foldN/types.npy and masks/foldN/masks.npy.
    """
    found = []
    for fold in FOLDS:
        for images in sorted(root.glob(f"**/images/fold{fold}/images.npy")):
            base = images.parents[2]
            masks = base / "masks" / f"fold{fold}" / "masks.npy"
            types = images.with_name("types.npy")
            tissues = _tissues(types)
            same_length(
                (images, len(open_stack(images, 3))),
                (masks, len(open_stack(masks, 6))),
                (types, len(tissues)),
            )
            found += [
                Sample(
                    name=f"fold{fold}/{index:04d} {tissue}",
                    group=f"fold{fold}/{index:04d}",
                    split=f"fold{fold}",
                    image_path=images,
                    labels_path=masks,
                    mpp=MPP,
                    label_kind=LABEL_KIND[target],
                    reader=PanNukePatch(index, target),
                    objects=PanNukePatch(index, "nuclei") if target == "kinds" else None,
                )
                for index, tissue in enumerate(tissues)
            ]
    return found


def _tissues(path: Path) -> list[str]:
    existing_file(path, wanted="a list of tissues (.npy)")
    with reading(path, "a list of tissues (.npy)"):
        return [str(tissue) for tissue in np.load(path, allow_pickle=False)]


_NUCLEI = DataSet(
    name="pannuke",
    title="PanNuke nuclei of 19 tissues",
    licence="CC BY-NC-SA 4.0",
    citation="Gamper et al., arXiv 2003.10778 (2020)",
    url="https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke",
    mpp=MPP,
    label_kind="instances",
    classes=("nucleus",),
    splits=("fold1", "fold2", "fold3"),
    default_split="fold3",
    expected={"fold1": 2656, "fold2": 2523, "fold3": 2722},
    layout=(
        "Fold 1/images/fold1/images.npy and types.npy, Fold 1/masks/fold1/masks.npy, "
        "and the same of folds 2 and 3"
    ),
    notes=(
        "The three folds are the publishers'; slides and patients were not published. With "
        "--target kinds labels are the five kinds of nuclei. Labels were made half automatically."
    ),
    find=find,
    official_split=True,
    train_split="fold1",
    val_split="fold2",
    archives={
        "fold_1.zip": "6e19ad380300e8ce9480f9ab6a14cc91fa4b6a511609b40e3d70bdf9c881ed0b",
        "fold_2.zip": "5bc540cc509f64b5f5a274d6e5a245527dbd3e6d3155d43555115c5d54709b07",
        "fold_3.zip": "c14d372981c42f611ebc80afad01702b89cad8c1b3089daa31931cf5a4b1a39d",
    },
)
_KINDS = replace(_NUCLEI, label_kind="classes", classes=KINDS, find=partial(find, target="kinds"))
PANNUKE = replace(_NUCLEI, targets={"nuclei": _NUCLEI, "kinds": _KINDS})

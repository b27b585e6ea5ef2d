"""What the objects of a label image are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.datasets.base import UNKNOWN_ID, LabelKind, Sample


def objects_of(labels: NDArray, kind: LabelKind) -> NDArray[np.int32]:
    """Instance ids as they are; of anything else the 8-connected components of each id."""
    if kind == "instances":
        return labels.astype(np.int32)
    objects = np.zeros(labels.shape, np.int32)
    for class_id in np.unique(labels[labels != 0]):
        components, _ = ndimage.label(labels == class_id, structure=np.ones((3, 3)))
        objects += np.where(components > 0, components + objects.max(), 0).astype(np.int32)
    return objects


def objects_to_find(
    sample: Sample, labels: NDArray
) -> tuple[NDArray[np.int32], NDArray[np.bool_] | None]:
    """The objects ``(H, W)`` somebody drew in a sample, and where anybody looked; None: everywhere.

    ``labels`` as they were loaded. Where they are classes: their own objects where there are such,
    else the areas that hang together.

    Raises
    ------
    UnavailableError
        The sample is a tile of one class: there is no object in it.
    """
    if sample.homogeneous:
        raise UnavailableError(
            f"{sample.image_path.name} is a tile of one class, and nobody drew objects in it: "
            "there is nothing to click at. Measure classes (--task classes), or choose a data set "
            "with outlines."
        )
    known = labels != UNKNOWN_ID if sample.label_kind == "classes" else None
    if known is None or known.all():
        known = None
    else:
        labels = np.where(known, labels, 0)
    if sample.objects is not None:
        return objects_of(sample.objects(sample)[1], "instances"), known
    return objects_of(labels, sample.label_kind), known

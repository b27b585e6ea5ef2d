"""What the objects of a label image are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.datasets.base import LabelKind


def objects_of(labels: NDArray, kind: LabelKind) -> NDArray[np.int32]:
    """Instance ids as they are; of anything else the 8-connected components of each id."""
    if kind == "instances":
        return labels.astype(np.int32)
    objects = np.zeros(labels.shape, np.int32)
    for class_id in np.unique(labels[labels != 0]):
        components, _ = ndimage.label(labels == class_id, structure=np.ones((3, 3)))
        objects += np.where(components > 0, components + objects.max(), 0).astype(np.int32)
    return objects

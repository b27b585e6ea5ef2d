"""Boundary F1: how well outlines meet, whatever the size of what they enclose.

Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013. Pixels
are counted for each image, counts are added, and dividing happens at the end.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.metrics import check_same_size


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels of both sides, and those within the tolerance of the other's."""

    n_target: int = 0
    n_pred: int = 0
    near_target: int = 0
    near_pred: int = 0

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def count_boundary(
    target: NDArray[np.integer],
    pred: NDArray[np.integer],
    *,
    tolerance_px: float,
    known: NDArray[np.bool_] | None = None,
) -> BoundaryCounts:
    """Count the boundary pixels of one image's label maps ``(H, W)``: classes, or instances.

    Parameters
    ----------
    tolerance_px
        A boundary pixel is met when the other side has one at most this far away.
    known
        False where nobody labelled; boundaries that near to it are not counted.

    Raises
    ------
    BadImageError
        The shapes differ.
    """
    check_same_size(target, pred)
    edges = boundary(target), boundary(pred)
    counted = np.ones(target.shape, bool)
    if known is not None and not known.all():
        counted = ndimage.distance_transform_edt(known) > tolerance_px + 1
    met = [edge & _within(other, tolerance_px) for edge, other in (edges, edges[::-1])]
    return BoundaryCounts(*(int(np.count_nonzero(pixels & counted)) for pixels in (*edges, *met)))


def boundary_f1(counts: BoundaryCounts) -> float:
    """Harmonic mean of the shares of predicted and of target boundary that are met.

    NaN when neither side has a boundary, 0 when one has none.
    """
    if not (counts.n_target or counts.n_pred):
        return float("nan")
    if not (counts.near_target and counts.near_pred):
        return 0.0
    recall, precision = counts.near_target / counts.n_target, counts.near_pred / counts.n_pred
    return 2 * precision * recall / (precision + recall)


def boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Labelled pixels with another id above, below, left or right; the image's end is none."""
    edge = np.zeros(labels.shape, bool)
    for one, two in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[two]
        edge[one] |= differ
        edge[two] |= differ
    return edge & (labels != 0)


def _within(edge: NDArray[np.bool_], tolerance_px: float) -> NDArray[np.bool_]:
    if not edge.any():
        return np.zeros(edge.shape, bool)
    return np.asarray(ndimage.distance_transform_edt(~edge) <= tolerance_px)

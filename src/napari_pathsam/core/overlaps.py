"""Objects of two label maps of one image, and how many pixels each pair of them shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.metrics import check_same_size


@dataclass(frozen=True)
class Side:
    """One label map with its ids counted from 1 to n, and each object's area and box.

    Attributes
    ----------
    ids
        ``(H, W)``: position + 1 of the object at a pixel, 0 background.
    labels
        ``(n,)``: the ids as they were given, ascending.
    boxes
        ``(n, 4)``: y0, x0, y1, x1, half-open.
    """

    ids: NDArray[np.intp]
    labels: NDArray[np.integer]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]

    @classmethod
    def of(cls, label_map: NDArray[np.integer]) -> Side:
        """Take ids as they are: what has one id is one object, in one piece or several."""
        labels = np.unique(label_map)
        labels = labels[labels != 0]
        ids = np.where(label_map == 0, 0, np.searchsorted(labels, label_map) + 1)
        found = ndimage.find_objects(ids)
        boxes = [(rows.start, cols.start, rows.stop, cols.stop) for rows, cols in found]
        areas = np.bincount(ids.ravel(), minlength=len(labels) + 1)[1:]
        return cls(ids, labels, areas, np.array(boxes, np.int64).reshape(-1, 4))

    @property
    def n(self) -> int:
        return len(self.areas)

    @property
    def px(self) -> int:
        return int(self.areas.sum())


@dataclass(frozen=True)
class Overlaps:
    """Pairs of objects that share pixels: ``pairs[k]`` = positions (target, pred), ``shared[k]``.

    Pairs ascend by target, then by prediction; memory follows their number, not the objects'.
    """

    target: Side
    pred: Side
    pairs: NDArray[np.intp]
    shared: NDArray[np.int64]

    @classmethod
    def of(cls, target: NDArray[np.integer], pred: NDArray[np.integer]) -> Overlaps:
        """Count the shared pixels of two instance maps ``(H, W)``, 0 background.

        Raises
        ------
        BadImageError
            The shapes differ.
        """
        check_same_size(target, pred)
        sides = Side.of(target), Side.of(pred)
        both = (sides[0].ids > 0) & (sides[1].ids > 0)
        keys = (sides[0].ids[both] - 1) * sides[1].n + sides[1].ids[both] - 1
        keys, shared = np.unique(keys, return_counts=True)
        pairs = np.stack(np.divmod(keys, max(sides[1].n, 1)), axis=1)
        return cls(*sides, pairs, shared)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair."""
        areas = self.target.areas[self.pairs[:, 0]] + self.pred.areas[self.pairs[:, 1]]
        return self.shared / (areas - self.shared)

    def dice(self) -> NDArray[np.float64]:
        """Twice the shared pixels over both areas, of each pair."""
        areas = self.target.areas[self.pairs[:, 0]] + self.pred.areas[self.pairs[:, 1]]
        return 2 * self.shared / areas

    def partners(self, *, of_pred: bool) -> NDArray[np.intp]:
        """The pair (position in ``pairs``) of largest overlap of each object of a side; -1: none.

        Of equal overlaps the partner of the smallest id, as MATLAB's ``mode`` and ``max`` do.
        """
        mine, other = self.pairs.T if not of_pred else self.pairs.T[::-1]
        best = np.full(self.pred.n if of_pred else self.target.n, -1, np.intp)
        order = np.lexsort((-other, self.shared))  # the last one written stays
        best[mine[order]] = order
        return best

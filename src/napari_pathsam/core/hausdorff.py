"""Hausdorff distances between filled objects, exact, and quick for small, large and thin ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_pathsam.core.overlaps import Side

ROOMY = 64
"""A distance transform of the window round two objects is taken while the window has at most so
many times the pixels of the smaller one; a tree of outline pixels is quicker otherwise."""


class Distances:
    """Hausdorff distances of the pairs asked for, each computed once.

    ``H(A, B) = max(max_a d(a, B), max_b d(b, A))`` over all pixels of the filled objects, not of
    their outlines; Euclidean, in pixels.
    """

    def __init__(self, target: Side, pred: Side) -> None:
        self._sides = _Outlines(target), _Outlines(pred)
        self._known: dict[tuple[int, int], float] = {}

    def of(self, target: int, pred: int) -> float:
        """Between the objects at these positions."""
        key = target, pred
        if key not in self._known:
            self._known[key] = self._compute(target, pred)
        return self._known[key]

    def _compute(self, target: int, pred: int) -> float:
        truth, found = self._sides
        a, b = truth.side.boxes[target], found.side.boxes[pred]
        y0, x0 = np.minimum(a[:2], b[:2])
        y1, x1 = np.maximum(a[2:], b[2:])
        smaller = min(truth.side.areas[target], found.side.areas[pred])
        if (y1 - y0) * (x1 - x0) > ROOMY * smaller:
            return max(
                _farthest_of_outline(truth, target, found, pred),
                _farthest_of_outline(found, pred, truth, target),
            )
        window = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
        one, two = truth.side.ids[window] == target + 1, found.side.ids[window] == pred + 1
        return max(_farthest(one, two), _farthest(two, one))


class _Outlines:
    """A side whose objects' outline pixels, and trees of them, are made when first asked for."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._trees: dict[int, cKDTree] = {}

    def tree(self, position: int) -> cKDTree:
        """Of the pixels ``(n, 2)`` that lack one of their four neighbours."""
        if position not in self._trees:
            y0, x0, y1, x1 = self.side.boxes[position]
            mask = np.pad(self.side.ids[y0:y1, x0:x1] == position + 1, 1)
            outline = mask & ~ndimage.binary_erosion(mask)
            self._trees[position] = cKDTree(np.argwhere(outline) + np.array([y0 - 1, x0 - 1]))
        return self._trees[position]


def _farthest(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """The largest distance of a pixel of ``one`` to its nearest of ``two``."""
    outside = one & ~two
    return float(ndimage.distance_transform_edt(~two)[outside].max()) if outside.any() else 0.0


def _farthest_of_outline(one: _Outlines, i: int, two: _Outlines, j: int) -> float:
    """The same, from few pixels.

    Beyond the box of ``two`` a step away from it leads farther from all of ``two``, so the farthest
    pixel of ``one`` there is one of its outline; the nearest pixel of ``two`` always is. And only
    those can be the farthest whose distance to the middle of that box comes within the box's
    diagonal of the largest there is.
    """
    y0, x0, y1, x1 = two.side.boxes[j]
    corner = np.maximum((y0, x0), one.side.boxes[i][:2])
    end = np.maximum(corner, np.minimum((y1, x1), one.side.boxes[i][2:]))
    both = (slice(corner[0], end[0]), slice(corner[1], end[1]))
    inside = (one.side.ids[both] == i + 1) & (two.side.ids[both] != j + 1)
    outline = one.tree(i).data
    middle, reach = ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), np.hypot(y1 - y0, x1 - x0)
    apart = ((outline - middle) ** 2).sum(axis=1)
    far = outline[apart >= max(0.0, np.sqrt(apart.max()) - reach) ** 2]
    candidates = np.concatenate([np.argwhere(inside) + corner, far])
    return float(two.tree(j).query(candidates)[0].max())

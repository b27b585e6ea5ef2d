"""Object metrics of the GlaS challenge: detection F1, object Dice, object Hausdorff distance.

Sirinukunwattana et al., Medical Image Analysis 35 (2017) 489-502, after the definitions on the
challenge's page, which take all images of a part together. So one image gives
:class:`ObjectCounts`; counts of several images are added, and dividing happens at the end.
:func:`mean_over_images` is the other averaging, which many papers use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.errors import BadImageError

Lone = Literal["inf", "diagonal"]
"""The distance of an object in an image whose other side is empty: without bound, or the image's
diagonal."""


@dataclass(frozen=True)
class ObjectCounts:
    """What the objects of one image, or of several together, add up to.

    Attributes
    ----------
    n_target, n_pred, n_hit
        Objects there are, objects predicted, predictions that cover more than half of theirs.
    target_px, pred_px
        Their areas.
    target_dice, pred_dice
        Sum over the objects of one side of area × Dice with the partner on the other.
    target_distance, pred_distance
        The same of area × Hausdorff distance in pixels, without the lone objects.
    n_lone
        Objects in images whose other side is empty: no distance is defined.
    lone_target, lone_pred
        Their sums of area × image diagonal.
    """

    n_target: int = 0
    n_pred: int = 0
    n_hit: int = 0
    target_px: int = 0
    pred_px: int = 0
    target_dice: float = 0.0
    pred_dice: float = 0.0
    target_distance: float = 0.0
    pred_distance: float = 0.0
    n_lone: int = 0
    lone_target: float = 0.0
    lone_pred: float = 0.0

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def count_objects(target: NDArray[np.integer], pred: NDArray[np.integer]) -> ObjectCounts:
    """Match the objects of one image.

    Parameters
    ----------
    target, pred
        Instance maps ``(H, W)`` of one shape; 0 is background, every other id is one object, in
        one piece or several. Ids are taken as they are, never labelled anew.

    Raises
    ------
    BadImageError
        The shapes differ.
    """
    if target.shape != pred.shape:
        raise BadImageError(
            f"The objects to find have the shape {target.shape}, the predicted ones {pred.shape}; "
            "they must be of one size. Check that they belong to the same image."
        )
    sides = _Side.of(target), _Side.of(pred)
    truth, found = sides
    overlap = np.zeros((truth.n, found.n), np.int64)
    both = (truth.ids > 0) & (found.ids > 0)
    np.add.at(overlap, (truth.ids[both] - 1, found.ids[both] - 1), 1)
    if not (truth.n and found.n):
        diagonal = math.hypot(*target.shape)
        return ObjectCounts(
            n_target=truth.n,
            n_pred=found.n,
            target_px=truth.px,
            pred_px=found.px,
            n_lone=truth.n + found.n,
            lone_target=truth.px * diagonal,
            lone_pred=found.px * diagonal,
        )
    # argmax takes the first of equal overlaps: the smallest id, as the challenge's code does.
    best = overlap.argmax(axis=0)
    covered = overlap[best, np.arange(found.n)] / truth.areas[best]
    distances = _Distances(truth, found)
    return ObjectCounts(
        n_target=truth.n,
        n_pred=found.n,
        n_hit=int(np.count_nonzero(covered > 0.5)),
        target_px=truth.px,
        pred_px=found.px,
        target_dice=_weighted_dice(truth, found, overlap),
        pred_dice=_weighted_dice(found, truth, overlap.T),
        target_distance=_weighted_distance(truth, found, overlap, distances.of),
        pred_distance=_weighted_distance(
            found, truth, overlap.T, lambda i, j: distances.of(j, i)
        ),
    )  # fmt: skip


def object_f1(counts: ObjectCounts) -> float:
    """Detection F1: a prediction is right when it covers more than half of the object it hits most.

    An object that no prediction covers so is missed. 1 when there is nothing on both sides.
    """
    total = counts.n_target + counts.n_pred
    return 2 * counts.n_hit / total if total else 1.0


def object_dice(counts: ObjectCounts) -> float:
    """Mean of both sides' area-weighted Dice with the partner of largest overlap; 0 without one.

    1 when there is nothing on both sides, 0 when on one.
    """
    if not (counts.n_target or counts.n_pred):
        return 1.0
    return _both(counts.target_dice, counts.target_px, counts.pred_dice, counts.pred_px)


def object_hausdorff(counts: ObjectCounts, *, lone: Lone = "inf") -> float:
    """Mean of both sides' area-weighted Hausdorff distance, in pixels; 0 without any object.

    The partner is the object of largest overlap, or the nearest one by this very distance. Where
    an image has objects on one side only, ``lone`` says what they count.
    """
    if counts.n_lone and lone == "inf":
        return math.inf
    return _both(
        counts.target_distance + counts.lone_target,
        counts.target_px,
        counts.pred_distance + counts.lone_pred,
        counts.pred_px,
    )


def mean_over_images(
    counts: Sequence[ObjectCounts], metric: Callable[[ObjectCounts], float]
) -> float:
    """The metric of each image, averaged: every image counts alike; NaN without images."""
    return float(np.mean([metric(c) for c in counts])) if counts else math.nan


def _both(target_sum: float, target_px: int, pred_sum: float, pred_px: int) -> float:
    """Half of each side's weighted mean; the mean of the one side where the other has no object."""
    means = [
        total / px for total, px in ((target_sum, target_px), (pred_sum, pred_px)) if px
    ]  # fmt: skip
    return sum(means) / len(means) if means else 0.0


@dataclass(frozen=True)
class _Side:
    """Instance map with the ids 1 … n, and each object's area and box."""

    ids: NDArray[np.intp]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]
    """``(n, 4)``: y0, x0, y1, x1, half-open."""

    @classmethod
    def of(cls, labels: NDArray[np.integer]) -> _Side:
        known = np.unique(labels)
        known = known[known != 0]
        ids = np.where(labels == 0, 0, np.searchsorted(known, labels) + 1)
        found = ndimage.find_objects(ids)
        boxes = [(rows.start, cols.start, rows.stop, cols.stop) for rows, cols in found]
        areas = np.bincount(ids.ravel(), minlength=len(known) + 1)[1:]
        return cls(ids, areas, np.array(boxes, np.int64).reshape(-1, 4))

    @property
    def n(self) -> int:
        return len(self.areas)

    @property
    def px(self) -> int:
        return int(self.areas.sum())


def _weighted_dice(side: _Side, other: _Side, overlap: NDArray[np.int64]) -> float:
    """Σ area · Dice of one side's objects; ``overlap`` is ``(side.n, other.n)``."""
    best = overlap.argmax(axis=1)
    shared = overlap[np.arange(side.n), best]
    return float((side.areas * 2 * shared / (side.areas + other.areas[best])).sum())


def _weighted_distance(
    side: _Side, other: _Side, overlap: NDArray[np.int64], distance: Callable[[int, int], float]
) -> float:
    """Σ area · Hausdorff distance of one side's objects."""
    total = 0.0
    for i, row in enumerate(overlap):
        if row.any():
            nearest = distance(i, int(row.argmax()))
        else:
            # Two objects are at least as far apart as the sides of their boxes.
            least = np.abs(other.boxes - side.boxes[i]).max(axis=1)
            nearest = math.inf
            for j in np.argsort(least, kind="stable"):
                if least[j] >= nearest:
                    break
                nearest = min(nearest, distance(i, int(j)))
        total += float(side.areas[i]) * nearest
    return total


class _Distances:
    """Hausdorff distances of the pairs asked for, each computed once."""

    def __init__(self, truth: _Side, found: _Side) -> None:
        self._sides = truth, found
        self._known: dict[tuple[int, int], float] = {}

    def of(self, target: int, pred: int) -> float:
        """Between all pixels of two filled objects, not their outlines, in pixels."""
        key = target, pred
        if key not in self._known:
            truth, found = self._sides
            a, b = truth.boxes[target], found.boxes[pred]
            y0, x0 = np.minimum(a[:2], b[:2])
            y1, x1 = np.maximum(a[2:], b[2:])
            window = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
            one, two = truth.ids[window] == target + 1, found.ids[window] == pred + 1
            self._known[key] = max(_farthest(one, two), _farthest(two, one))
        return self._known[key]


def _farthest(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """The largest distance of a pixel of ``one`` to its nearest of ``two``."""
    outside = one & ~two
    return float(ndimage.distance_transform_edt(~two)[outside].max()) if outside.any() else 0.0

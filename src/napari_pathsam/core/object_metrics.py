"""Object metrics of the GlaS challenge: detection F1, object Dice, object Hausdorff distance.

Sirinukunwattana et al., Medical Image Analysis 35 (2017) 489-502, after the definitions on the
challenge's page, which take all images of a part together. So one image gives
:class:`ObjectCounts`; counts of several images are added, and dividing happens at the end.
:func:`mean_over_images` is the other averaging, which many papers use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.hausdorff import Distances
from napari_pathsam.core.overlaps import Overlaps, Side

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
    overlaps = Overlaps.of(target, pred)
    truth, found = overlaps.target, overlaps.pred
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
    of_target, of_pred = (overlaps.partners(of_pred=side) for side in (False, True))
    hits = of_pred[of_pred >= 0]
    covered = overlaps.shared[hits] / truth.areas[overlaps.pairs[hits, 0]]
    distances = Distances(truth, found)
    target_partner, pred_partner = (
        np.where(of >= 0, overlaps.pairs[of, k], -1) if len(overlaps.pairs) else of
        for of, k in ((of_target, 1), (of_pred, 0))
    )
    return ObjectCounts(
        n_target=truth.n,
        n_pred=found.n,
        n_hit=int(np.count_nonzero(covered > 0.5)),
        target_px=truth.px,
        pred_px=found.px,
        target_dice=_weighted_dice(truth, overlaps, of_target),
        pred_dice=_weighted_dice(found, overlaps, of_pred),
        target_distance=_weighted_distance(truth, found, target_partner, distances.of),
        pred_distance=_weighted_distance(
            found, truth, pred_partner, lambda i, j: distances.of(j, i)
        ),
    )  # fmt: skip


def in_microns(counts: ObjectCounts, mpp: float) -> ObjectCounts:
    """The counts with areas in µm² and distances in µm, to be added over images of any ``mpp``."""
    areas = {k: getattr(counts, k) * mpp**2 for k in _AREAS}
    return replace(counts, **areas, **{k: getattr(counts, k) * mpp**3 for k in _DISTANCES})


_AREAS = ("target_px", "pred_px", "target_dice", "pred_dice")
_DISTANCES = ("target_distance", "pred_distance", "lone_target", "lone_pred")


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


def rank_sums(
    figures: Mapping[str, Sequence[float]], *, larger_is_better: Sequence[bool]
) -> dict[str, int]:
    """The challenge's score: ranks added over all figures, the least wins; ties share the better.

    Parameters
    ----------
    figures
        By method; the same figures in the same order for each, such as F1, object Dice and object
        Hausdorff distance of part A and of part B.
    larger_is_better
        For each figure; not so for a distance.

    Raises
    ------
    ValueError
        A figure is missing (NaN): who was not measured has no rank.
    """
    table = np.array(list(figures.values()), float).reshape(len(figures), len(larger_is_better))
    if np.isnan(table).any():
        raise ValueError("a method without all of the figures has no rank")
    table = np.where(larger_is_better, -table, table)
    ranks = 1 + (table[None] < table[:, None]).sum(axis=1)
    return dict(zip(figures, ranks.sum(axis=1).tolist(), strict=True))


def _both(target_sum: float, target_px: int, pred_sum: float, pred_px: int) -> float:
    """Half of each side's weighted mean; the mean of the one side where the other has no object."""
    means = [
        total / px for total, px in ((target_sum, target_px), (pred_sum, pred_px)) if px
    ]  # fmt: skip
    return sum(means) / len(means) if means else 0.0


def _weighted_dice(side: Side, overlaps: Overlaps, best: NDArray[np.intp]) -> float:
    """Σ area · Dice of one side's objects; 0 without a partner."""
    paired = best >= 0
    return float((side.areas[paired] * overlaps.dice()[best[paired]]).sum())


def _weighted_distance(
    side: Side, other: Side, partner: NDArray[np.intp], distance: Callable[[int, int], float]
) -> float:
    """Σ area · Hausdorff distance of one side's objects."""
    total = 0.0
    for i, j in enumerate(partner.tolist()):
        nearest = distance(i, j) if j >= 0 else _to_nearest(side, i, other, distance)
        total += float(side.areas[i]) * nearest
    return total


def _to_nearest(
    side: Side, i: int, other: Side, distance: Callable[[int, int], float]
) -> float:  # fmt: skip
    """The smallest Hausdorff distance to any object of the other side."""
    nearest = math.inf
    # Two objects are at least as far apart as the sides of their boxes.
    least = np.abs(other.boxes - side.boxes[i]).max(axis=1)
    for j in np.argsort(least, kind="stable"):
        if least[j] >= nearest:
            break
        nearest = min(nearest, distance(i, int(j)))
    return nearest

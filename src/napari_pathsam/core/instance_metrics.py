"""Metrics of objects found: panoptic quality, AJI, average precision, count error.

One image gives :class:`InstanceCounts`; counts of several images are added, and dividing happens
at the end. Which objects belong together is a matter of intersection over union (IoU).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from napari_pathsam.core.overlaps import Overlaps

THRESHOLDS = tuple(0.5 + 0.05 * k for k in range(10))
"""IoU from which an object counts as found, for average precision."""


@dataclass(frozen=True)
class InstanceCounts:
    """What the objects of one image, or of several together, add up to.

    Attributes
    ----------
    n_target, n_pred
        Objects there are, objects predicted.
    n_matched, iou_sum
        Pairs of IoU above 0.5 (there is at most one an object), and the sum of their IoU.
    aji_shared, aji_union
        Pixels of the aggregated Jaccard index.
    n_found
        Pairs that can be made with an IoU of at least each of :data:`THRESHOLDS`.
    n_images, count_error, relative_error, relative_images
        Images; Σ |predicted − there| over images; the same over what is there, and in how many
        images anything was.
    """

    n_target: int = 0
    n_pred: int = 0
    n_matched: int = 0
    iou_sum: float = 0.0
    aji_shared: int = 0
    aji_union: int = 0
    n_found: tuple[int, ...] = (0,) * len(THRESHOLDS)
    n_images: int = 0
    count_error: int = 0
    relative_error: float = 0.0
    relative_images: int = 0

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        return InstanceCounts.of_array(self.array() + other.array())

    def array(self) -> NDArray[np.float64]:
        """All numbers in one row, to be added."""
        return np.hstack(astuple(self))

    @classmethod
    def of_array(cls, row: NDArray[np.float64]) -> InstanceCounts:
        """Back from :meth:`array`."""
        n = len(THRESHOLDS)
        n_target, n_pred, n_matched, iou_sum, shared, union = row[:6].tolist()
        return cls(
            n_target, n_pred, n_matched, iou_sum, shared, union,
            tuple(row[6 : 6 + n].tolist()), *row[6 + n :].tolist(),
        )  # fmt: skip


def count_instances(target: NDArray[np.integer], pred: NDArray[np.integer]) -> InstanceCounts:
    """Match the objects of one image.

    Parameters
    ----------
    target, pred
        Instance maps ``(H, W)`` of one shape, 0 background.

    Raises
    ------
    BadImageError
        The shapes differ.
    """
    return counts_of(Overlaps.of(target, pred))


def counts_of(overlaps: Overlaps) -> InstanceCounts:
    """The counts of objects whose overlaps are known."""
    iou = overlaps.iou()
    truth, found = overlaps.target, overlaps.pred
    matched = iou > 0.5
    shared, union = _aggregated(overlaps, iou)
    error = abs(found.n - truth.n)
    return InstanceCounts(
        n_target=truth.n,
        n_pred=found.n,
        n_matched=int(np.count_nonzero(matched)),
        iou_sum=float(iou[matched].sum()),
        aji_shared=shared,
        aji_union=union,
        n_found=tuple(_most_pairs(overlaps, iou, t) for t in THRESHOLDS),
        n_images=1,
        count_error=error,
        relative_error=error / truth.n if truth.n else 0.0,
        relative_images=int(truth.n > 0),
    )


def count_instances_by_class(
    target: NDArray[np.integer],
    target_class: Mapping[int, int],
    pred: NDArray[np.integer],
    pred_class: Mapping[int, int],
    class_ids: Iterable[int],
) -> dict[int, InstanceCounts]:
    """The counts of each class by itself: objects of another class are background.

    ``target_class`` and ``pred_class`` are the class of each object id.
    """
    return {
        i: count_instances(_only(target, target_class, i), _only(pred, pred_class, i))
        for i in class_ids
    }


def segmentation_quality(counts: InstanceCounts) -> float:
    """SQ, mean IoU of the matched pairs; NaN without any.

    Kirillov et al., "Panoptic segmentation", CVPR 2019.
    """
    return counts.iou_sum / counts.n_matched if counts.n_matched else float("nan")


def recognition_quality(counts: InstanceCounts) -> float:
    """RQ, ``TP / (TP + FP / 2 + FN / 2)`` at IoU above 0.5; NaN without objects on both sides."""
    total = counts.n_target + counts.n_pred
    return 2 * counts.n_matched / total if total else float("nan")


def panoptic_quality(counts: InstanceCounts) -> float:
    """PQ = SQ · RQ; NaN without objects on both sides, 0 without a matched pair."""
    total = counts.n_target + counts.n_pred
    return 2 * counts.iou_sum / total if total else float("nan")


def mean_panoptic_quality(by_class: Iterable[InstanceCounts]) -> tuple[float, int]:
    """mPQ: the mean of PQ over classes, those in neither map left out; and how many these were.

    Gamper et al., PanNuke (2020), of one image's counts; of counts of a whole data set it is
    CoNIC's mPQ+ (Graham et al., 2021).
    """
    values = [panoptic_quality(c) for c in by_class]
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan"), len(values) - len(known)


def aggregated_jaccard(counts: InstanceCounts) -> float:
    """AJI: shared pixels over united ones, each object with its prediction of highest IoU.

    Predictions that are nobody's add to the union. Kumar et al., IEEE TMI 36 (2017), who let one
    prediction serve several objects. NaN without objects on both sides.
    """
    return counts.aji_shared / counts.aji_union if counts.aji_union else float("nan")


def average_precision(counts: InstanceCounts) -> dict[float, float]:
    """``TP / (TP + FP + FN)`` by IoU threshold, as cell segmentation has it; NaN without objects.

    Caicedo et al., Nature Methods 16 (2019): no confidences are needed. An object counts as found
    from an IoU of the threshold on, and as many pairs are made as can be.
    """
    total = counts.n_target + counts.n_pred
    return {
        round(t, 2): n / (total - n) if total else float("nan")
        for t, n in zip(THRESHOLDS, counts.n_found, strict=True)
    }


def mean_segmentation_accuracy(counts: InstanceCounts) -> float:
    """mSA: :func:`average_precision` averaged over the thresholds 0.50, 0.55 … 0.95."""
    return float(np.mean(list(average_precision(counts).values())))


def count_error(counts: InstanceCounts) -> float:
    """Mean over images of |objects predicted − objects there|; NaN without images."""
    return counts.count_error / counts.n_images if counts.n_images else float("nan")


def relative_count_error(counts: InstanceCounts) -> float:
    """The same over the objects there, of images that have any; NaN without such images."""
    n = counts.relative_images
    return counts.relative_error / n if n else float("nan")


def _aggregated(overlaps: Overlaps, iou: NDArray[np.float64]) -> tuple[int, int]:
    truth, found = overlaps.target, overlaps.pred
    best = np.full(truth.n, -1, np.intp)
    # Of equal IoU the first prediction; the last one written stays.
    order = np.lexsort((-overlaps.pairs[:, 1], iou))
    best[overlaps.pairs[order, 0]] = order
    pairs = best[best >= 0]
    used = np.zeros(found.n, bool)
    used[overlaps.pairs[pairs, 1]] = True
    shared = int(overlaps.shared[pairs].sum())
    united = truth.px + int(found.areas[overlaps.pairs[pairs, 1]].sum()) - shared
    return shared, united + int(found.areas[~used].sum())


def _most_pairs(overlaps: Overlaps, iou: NDArray[np.float64], threshold: float) -> int:
    """How many objects can be given a prediction of their own of at least this IoU."""
    # Thresholds are sums of binary fractions; a ratio that equals one is not to miss it by that.
    good = overlaps.pairs[iou >= threshold - 1e-9]
    if threshold > 0.5 + 1e-9:
        return len(good)  # no object has two
    graph = csr_array(
        (np.ones(len(good), np.int8), (good[:, 0], good[:, 1])),
        shape=(overlaps.target.n, overlaps.pred.n),
    )
    return int((maximum_bipartite_matching(graph) >= 0).sum()) if len(good) else 0


def _only(
    instances: NDArray[np.integer], class_of: Mapping[int, int], class_id: int
) -> NDArray[np.integer]:
    mine = [i for i, c in class_of.items() if c == class_id]
    return np.where(np.isin(instances, mine), instances, 0)

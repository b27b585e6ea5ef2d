"""Pixel metrics of class maps: count first, divide once.

Counts of several images are added; dividing happens at the end, so the averaging is a choice one
can see. A class that neither target nor prediction holds is NaN, never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError

Counts = NDArray[np.int64]
"""``(K, K)`` confusion counts: ``[target, prediction]`` in pixels, row and column 0 background."""

MEANINGFUL_PX = 500
"""Held-out pixels of a class below which its score is chance."""
MEANINGFUL_REGIONS = 3
"""And separate held-out regions."""


def too_few(n_px: int, n_regions: int) -> bool:
    """Whether a class was scored on so little that its score means little."""
    return n_px < MEANINGFUL_PX or n_regions < MEANINGFUL_REGIONS


def confusion(
    target: NDArray, pred: NDArray, n_ids: int, *, ignore_id: int | None = None
) -> Counts:
    """Count the pixels of every pair of target and predicted id.

    Parameters
    ----------
    target, pred
        Label maps of one shape, ids 0 … ``n_ids - 1`` (background is 0).
    ignore_id
        Target pixels of this id were never labelled and are not counted.

    Raises
    ------
    BadImageError
        The shapes differ, or an id is out of range.
    """
    check_same_size(target, pred)
    known = np.ones(target.shape, bool) if ignore_id is None else target != ignore_id
    # Boolean and 8-bit maps would wrap in the arithmetic below.
    pairs = [a[known].astype(np.int64) for a in (target, pred)]
    for what, ids in zip(("labels", "prediction"), pairs, strict=True):
        if ids.size and not (0 <= ids.min() and ids.max() < n_ids):
            raise BadImageError(
                f"The {what} hold the ids {ids.min()} to {ids.max()}; 0 to {n_ids - 1} are known. "
                "Add the missing classes to the class table, or map them onto known ones."
            )
    counted = np.bincount(pairs[0] * n_ids + pairs[1], minlength=n_ids * n_ids)
    return counted.reshape(n_ids, n_ids).astype(np.int64)


def check_same_size(target: NDArray, pred: NDArray) -> None:
    """BadImageError when labels and a prediction differ in shape."""
    if target.shape != pred.shape:
        raise BadImageError(
            f"The labels have the shape {target.shape}, the prediction {pred.shape}; they must "
            "be of one size. Check that they belong to the same image."
        )


def foreground(counts: Counts) -> Counts:
    """The counts of "any class" against background, ``(2, 2)``."""
    into = np.r_[0, np.ones(len(counts) - 1, np.intp)]
    merged = np.zeros((2, 2), np.int64)
    np.add.at(merged, (into[:, None], into[None, :]), counts)
    return merged


def micro(counts: Counts, *, background: bool = False) -> Counts:
    """Every class against all others, these counts added up over the classes, ``(2, 2)``.

    The functions below, of this, give the micro average (at position 1); with ``background``
    each of them is the accuracy, or follows from it.
    """
    tp, fp, fn = (c[0 if background else 1 :] for c in _tp_fp_fn(counts))
    tn = len(tp) * counts.sum() - (tp + fp + fn).sum()
    return np.array([[tn, fp.sum()], [fn.sum(), tp.sum()]], np.int64)


@dataclass(frozen=True)
class Mean:
    """A mean over what could be measured: ``n`` values; ``n_absent`` could not (NaN)."""

    value: float
    n: int
    n_absent: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Mean:
        """NaN where there was nothing to average."""
        given = np.array(list(values), float)
        known = given[~np.isnan(given)]
        value = float(known.mean()) if known.size else float("nan")
        return cls(value, known.size, given.size - known.size)


def macro(per_class: NDArray[np.float64], *, background: bool = False) -> Mean:
    """The mean over classes ``(K,)``; a class that is in neither map does not count."""
    return Mean.of(per_class[0 if background else 1 :])


def mean_over_images(
    counts: Sequence[Counts], metric: Callable[[Counts], NDArray[np.float64]]
) -> list[Mean]:
    """Of each class the mean of the images' figures: every image counts alike."""
    return [Mean.of(values) for values in np.array([metric(c) for c in counts]).T]


def dice_per_class(counts: Counts) -> NDArray[np.float64]:
    """``2 TP / (2 TP + FP + FN)``, ``(K,)``; NaN where a class is in neither map.

    Dice, Ecology 26 (1945). Equal to pixel F1.
    """
    tp, fp, fn = _tp_fp_fn(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou_per_class(counts: Counts) -> NDArray[np.float64]:
    """``TP / (TP + FP + FN)``, ``(K,)``; equals ``D / (2 − D)`` of the same counts' Dice."""
    tp, fp, fn = _tp_fp_fn(counts)
    return _ratio(tp, tp + fp + fn)


def precision_per_class(counts: Counts) -> NDArray[np.float64]:
    """``TP / (TP + FP)``, ``(K,)``; NaN where a class was never predicted."""
    tp, fp, _ = _tp_fp_fn(counts)
    return _ratio(tp, tp + fp)


def recall_per_class(counts: Counts) -> NDArray[np.float64]:
    """``TP / (TP + FN)``, ``(K,)``; NaN where a class is not in the target."""
    tp, _, fn = _tp_fp_fn(counts)
    return _ratio(tp, tp + fn)


def accuracy_per_class(counts: Counts) -> NDArray[np.float64]:
    """``(TP + TN) / all``, ``(K,)``; high for small classes, whoever predicts them."""
    _, fp, fn = _tp_fp_fn(counts)
    total = counts.sum()
    return _ratio(total - fp - fn, np.full(len(counts), total))


def accuracy(counts: Counts) -> float:
    """Share of the counted pixels, background included, whose id is right; NaN without pixels."""
    return float(_ratio(np.trace(counts), counts.sum()))


def _tp_fp_fn(counts: Counts) -> tuple[Counts, Counts, Counts]:
    tp = np.diagonal(counts)
    return tp, counts.sum(axis=0) - tp, counts.sum(axis=1) - tp


def _ratio(part: NDArray | int, whole: NDArray | int) -> NDArray[np.float64]:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)

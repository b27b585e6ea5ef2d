"""Figures as some papers computed them, under names that say so; never to be read as the real ones.

Each function says what it really measures. :func:`implied_precision` and :func:`implied_iou` lead
from published figures back to the real ones.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core import metrics
from napari_pathsam.core.hausdorff import Distances
from napari_pathsam.core.metrics import Counts
from napari_pathsam.core.overlaps import Overlaps, Side

# --- SAM-Path and Path-SAM2 -----------------------------------------------------------------------


def sam_path_iou(counts: Counts) -> float:
    """The "IoU" of SAM-Path (CRAG) and Path-SAM2: the recall of the foreground classes.

    Their code gives torchmetrics' ``JaccardIndex(average="micro", ignore_index=0)`` background as
    the index to ignore, which leaves out every pixel whose label is background: false positives
    there vanish. With one foreground class what is left is TP / (TP + FN). The whole image called
    foreground scores 1.
    """
    labelled = counts.copy()
    labelled[0] = 0
    return float(metrics.iou_per_class(metrics.micro(labelled))[1])


def sam_path_dice(counts: Counts) -> float:
    """The Dice beside it: pooled micro Dice of the foreground classes, false positives included."""
    return float(metrics.dice_per_class(metrics.micro(counts))[1])


def sam_path_bcss(counts: Counts) -> tuple[float, float]:
    """("Dice", "IoU") of SAM-Path on BCSS: accuracy ``a`` of labelled pixels, and a / (2 − a).

    Pixels nobody labelled are to be left out of ``counts``, and row and column 0 are a class like
    the others.
    """
    accuracy = metrics.accuracy(counts)
    return accuracy, implied_iou(accuracy)


def implied_precision(dice: float, recall: float) -> float:
    """``P = D · R / (2 R − D)`` of the same counts; NaN where no precision gives that Dice."""
    below = 2 * recall - dice
    precision = dice * recall / below if below > 0 else math.nan
    return precision if 0 <= precision <= 1 else math.nan


def implied_iou(dice: float) -> float:
    """``D / (2 − D)``: the IoU of the same counts."""
    return dice / (2 - dice)


# --- SAM-guided eU-Net3+ --------------------------------------------------------------------------


def weighted_with_background(counts: Counts) -> tuple[float, float]:
    """("Dice", "mIoU") of SAM-guided eU-Net3+ for one image.

    scikit-learn's ``average="weighted"``: classes weighted by their labelled pixels, background
    one of them. The paper averages this over images. Where a quarter is foreground of Dice 0.80,
    it is about 0.90.
    """
    support = counts.sum(axis=1)
    if not support.sum():
        return math.nan, math.nan
    figures = metrics.dice_per_class(counts), metrics.iou_per_class(counts)
    dice, iou = (float(np.nansum(f * support) / support.sum()) for f in figures)
    return dice, iou


# --- the DTU report on GlaS -----------------------------------------------------------------------

DTU_SIDE_PX = 512


@dataclass(frozen=True)
class DtuFigures:
    """What Lehmann, Agarwal and Lund (2020) call F1, object Dice and object Hausdorff distance.

    Attributes
    ----------
    f1
        Pixel F1, which is pixel Dice; 0 without foreground on both sides.
    object_dice
        Of each object the F1 of its own pixels only, so what its partner covers beside it is
        never counted; on the side of the labels it is weighted by the overlap instead of the area.
    object_hausdorff
        The distance inside the object's own bounding box; without a partner the box's diagonal,
        weighted by the box's area.
    """

    f1: float
    object_dice: float
    object_hausdorff: float


def dtu_figures(target: NDArray[np.integer], pred: NDArray[np.integer]) -> DtuFigures:
    """The figures of one image, from what is not 0 in label maps ``(H, W)``.

    Both are squeezed to 512 × 512 with what is touched counting as foreground, and objects are
    8-connected areas of that, whatever ids there were.
    """
    binary = [_squeezed(m != 0) for m in (target, pred)]
    ids = [ndimage.label(m, structure=np.ones((3, 3)))[0] for m in binary]
    overlaps = Overlaps.of(*ids)
    total = int(binary[0].sum() + binary[1].sum())
    sides = [_dtu_side(overlaps, of_pred=of_pred) for of_pred in (False, True)]
    dice, distance = (float(np.mean([side[k] for side in sides])) for k in (0, 1))
    return DtuFigures(
        2 * int((binary[0] & binary[1]).sum()) / total if total else 0.0, dice, distance
    )


def dtu_mean(figures: list[DtuFigures]) -> DtuFigures:
    """Averaged over images."""
    return DtuFigures(*np.mean([astuple(f) for f in figures], axis=0).tolist())


def _squeezed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from skimage.transform import resize

    if mask.shape == (DTU_SIDE_PX, DTU_SIDE_PX):
        return mask
    side = (DTU_SIDE_PX, DTU_SIDE_PX)
    resized = resize(mask.astype(np.float32), side, order=1, anti_aliasing=False)
    return np.asarray(resized > 0)


def _dtu_side(overlaps: Overlaps, *, of_pred: bool) -> tuple[float, float]:
    """(object Dice, object Hausdorff) of one side, weighted as that code does."""
    one, two = overlaps.target, overlaps.pred
    if of_pred:
        one, two = two, one
    best = overlaps.partners(of_pred=of_pred)
    dice = distance = weights = far_weights = 0.0
    for i, pair in enumerate(best.tolist()):
        y0, x0, y1, x1 = one.boxes[i]
        area = float(one.areas[i])
        shared = float(overlaps.shared[pair]) if pair >= 0 else 0.0
        weight = area if of_pred else shared
        coverage = shared / area
        dice += weight * 2 * coverage / (1 + coverage)
        weights += weight
        if pair >= 0:
            partner = int(overlaps.pairs[pair, 0 if of_pred else 1])
            window = (slice(y0, y1), slice(x0, x1))
            mine, theirs = one.ids[window] == i + 1, two.ids[window] == partner + 1
            apart = Distances(Side.of(mine.astype(int)), Side.of(theirs.astype(int))).of(0, 0)
        else:
            weight, apart = float((y1 - y0) * (x1 - x0)), math.hypot(y1 - y0, x1 - x0)
        distance += weight * apart
        far_weights += weight
    return dice / weights if weights else 0.0, distance / far_weights if far_weights else 0.0

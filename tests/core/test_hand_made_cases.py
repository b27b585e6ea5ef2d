"""Every metric on the same small cases, the figures worked out by hand.

All objects begin at the image's upper end, so each case touches the border. Second implementations
are in the files of the metrics.
"""

import math

import numpy as np
import pytest

from napari_pathsam.core import instance_metrics as im
from napari_pathsam.core import metrics
from napari_pathsam.core.boundary_metrics import boundary_f1, count_boundary
from napari_pathsam.core.object_metrics import (
    count_objects,
    object_dice,
    object_f1,
    object_hausdorff,
)

NAN, INF = math.nan, math.inf
FIGURES = (
    "object F1", "object Dice", "Hausdorff", "PQ", "SQ", "RQ", "AJI", "AP at 0.5", "mSA",
    "count error", "Dice", "IoU", "precision", "recall", "boundary F1",
)  # fmt: skip


def columns(*spans):
    """Objects 1, 2, … ten pixels high, from their first to before their last column."""
    labels = np.zeros((20, 40), int)
    for i, span in enumerate(spans, start=1):
        for first, last in span if isinstance(span, list) else [span]:
            labels[:10, first:last] = i
    return labels


EMPTY = columns()
WHOLE, PARTS, HALF = columns((0, 20)), columns((0, 12), (12, 20)), columns((0, 10))
TWO = columns((0, 10), (20, 30))
ACROSS = columns([(5, 10), (20, 25)])  # half of each of TWO
MANY = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((3, 3), int))
ALL = np.ones((20, 40), int)
# Dice of the larger part with the whole is 3/4, of the smaller one 4/7.
SPLIT_DICE = (3 / 4 + (120 * 3 / 4 + 80 * 4 / 7) / 200) / 2
# From the whole's end to the larger part's: 8; from its start to the smaller part's: 12.
SPLIT_DISTANCE = (8 + (120 * 8 + 80 * 12) / 200) / 2

CASES = {
    "perfect": (TWO, TWO, (1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1)),
    "empty, empty": (EMPTY, EMPTY, (1, 1, 0, *[NAN] * 6, 0, *[NAN] * 5)),
    "empty, one": (EMPTY, HALF, (0, 0, INF, 0, NAN, 0, 0, 0, 0, 1, 0, 0, 0, NAN, 0)),
    "one, empty": (HALF, EMPTY, (0, 0, INF, 0, NAN, 0, 0, 0, 0, 1, 0, 0, NAN, 0, 0)),
    # The missed one is 20 px from the other; outlines have 47 and 19 pixels.
    "missed": (
        TWO, HALF,
        (2 / 3, 3 / 4, 5, 2 / 3, 1, 2 / 3, 1 / 2, 1 / 2, 1 / 2, 1,
         2 / 3, 1 / 2, 1, 1 / 2, 2 * 19 / (47 + 19)),
    ),
    # The larger part has an IoU of 0.6: found at 0.50, 0.55 and 0.60.
    "split": (
        WHOLE, PARTS,
        (2 / 3, SPLIT_DICE, SPLIT_DISTANCE, 0.4, 0.6, 2 / 3, 120 / (200 + 80), 1 / 2, 3 / 20, 1,
         1, 1, 1, 1, 2 * 29 / (29 + 47)),
    ),
    # Of the Jaccard index one prediction may serve both.
    "merged": (
        PARTS, WHOLE,
        (2 / 3, SPLIT_DICE, SPLIT_DISTANCE, 0.4, 0.6, 2 / 3, 200 / 400, 1 / 2, 3 / 20, 1,
         1, 1, 1, 1, 2 * 29 / (29 + 47)),
    ),
    # Not more than half: no hit of the challenge's, no match of PQ's; found at 0.50.
    "exactly half": (
        WHOLE, HALF,
        (0, 2 / 3, 10, 0, NAN, 0, 1 / 2, 1, 1 / 10, 0,
         2 / 3, 1 / 2, 1, 1 / 2, 2 * 10 / (29 + 19)),
    ),
    "ties": (
        TWO, ACROSS,
        (0, 1 / 2, 15, 0, NAN, 0, 1 / 3, 0, 0, 1, 2 / 3, 1 / 2, 1, 1 / 2, 2 * 28 / (47 + 46)),
    ),
    "more than 255": (MANY, MANY + 70_000, (1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1)),
    # The image's end is no outline.
    "all of the image": (ALL, ALL, (1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, NAN)),
}  # fmt: skip


def measured(target, pred):
    objects, instances = count_objects(target, pred), im.count_instances(target, pred)
    counts = metrics.confusion(target > 0, pred > 0, 2)
    return (
        object_f1(objects), object_dice(objects), object_hausdorff(objects),
        im.panoptic_quality(instances), im.segmentation_quality(instances),
        im.recognition_quality(instances), im.aggregated_jaccard(instances),
        im.average_precision(instances)[0.5], im.mean_segmentation_accuracy(instances),
        im.count_error(instances),
        *(figure(counts)[1] for figure in (
            metrics.dice_per_class, metrics.iou_per_class, metrics.precision_per_class,
            metrics.recall_per_class,
        )),
        boundary_f1(count_boundary(target, pred, tolerance_px=0)),
    )  # fmt: skip


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_the_one_worked_out_by_hand(case, turn):
    """Whichever border they touch."""
    target, pred, wanted = CASES[case]
    found = measured(np.rot90(target, turn), np.rot90(pred, turn))
    expected = pytest.approx(dict(zip(FIGURES, wanted, strict=True)), nan_ok=True)
    assert dict(zip(FIGURES, found, strict=True)) == expected

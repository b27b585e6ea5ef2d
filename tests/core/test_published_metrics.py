"""Figures as papers computed them: with the libraries they used, and from what is known of them."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import f1_score, jaccard_score
from torchmetrics.functional.classification import multiclass_jaccard_index

from napari_pathsam.core import metrics
from napari_pathsam.core.published_metrics import (
    dtu_figures,
    dtu_mean,
    implied_iou,
    implied_precision,
    sam_path_bcss,
    sam_path_dice,
    sam_path_iou,
    weighted_with_background,
)


@pytest.fixture(params=[2, 4])
def maps(request):
    rng = np.random.default_rng(request.param)
    n = request.param
    target = rng.integers(0, n, (60, 50))
    return target, np.where(rng.random(target.shape) < 0.7, target, rng.integers(0, n, (60, 50))), n


def test_their_iou_is_that_of_torchmetrics_and_is_recall(maps):
    target, pred, n = maps
    counts = metrics.confusion(target, pred, n)
    theirs = multiclass_jaccard_index(
        torch.tensor(pred), torch.tensor(target), num_classes=n, average="micro", ignore_index=0
    )
    assert sam_path_iou(counts) == pytest.approx(float(theirs), abs=1e-6)
    if n == 2:
        assert sam_path_iou(counts) == metrics.recall_per_class(counts)[1]
        assert sam_path_dice(counts) == metrics.dice_per_class(counts)[1]


def test_the_check_of_the_notes():
    counts = np.array([[5000, 220], [160, 1040]])
    assert sam_path_dice(counts) == pytest.approx(0.8455, abs=5e-5)
    assert sam_path_iou(counts) == pytest.approx(0.8667, abs=5e-5)
    assert metrics.iou_per_class(counts)[1] == pytest.approx(0.7324, abs=5e-5)


def test_calling_everything_foreground_scores_one():
    target = np.zeros((10, 10), int)
    target[:3] = 1
    counts = metrics.confusion(target, np.ones_like(target), 2)
    assert sam_path_iou(counts) == 1
    assert metrics.iou_per_class(counts)[1] == pytest.approx(0.3)  # the prevalence


def test_published_rows_decoded():
    assert implied_precision(0.8530, 0.9202) == pytest.approx(0.795, abs=5e-4)
    assert implied_iou(0.8530) == pytest.approx(0.744, abs=5e-4)
    assert implied_precision(0.8841, 0.8831) == pytest.approx(0.885, abs=5e-4)
    assert np.isnan(implied_precision(0.9, 0.4))  # no precision up to 1 gives that


def test_precision_follows_from_dice_and_recall(maps):
    counts = metrics.micro(metrics.confusion(*maps))
    dice, recall, precision = (
        f(counts)[1]
        for f in (metrics.dice_per_class, metrics.recall_per_class, metrics.precision_per_class)
    )
    assert implied_precision(dice, recall) == pytest.approx(precision)


def test_bcss_is_accuracy(maps):
    counts = metrics.confusion(*maps)
    dice, iou = sam_path_bcss(counts)
    flat = maps[0].ravel(), maps[1].ravel()
    assert dice == pytest.approx(f1_score(*flat, average="micro"))
    assert iou == pytest.approx(jaccard_score(*flat, average="micro"))


def test_weighted_is_that_of_scikit_learn(maps):
    target, pred, n = maps
    flat = target.ravel(), pred.ravel()
    dice, iou = weighted_with_background(metrics.confusion(target, pred, n))
    assert dice == pytest.approx(f1_score(*flat, average="weighted"))
    assert iou == pytest.approx(jaccard_score(*flat, average="weighted"))


def test_a_quarter_of_foreground_inflates():
    """A foreground share of a quarter and a Dice of 0.80 look like 0.90 and 0.82."""
    dice, iou = weighted_with_background(np.array([[7000, 500], [500, 2000]]))
    assert dice == pytest.approx(0.90, abs=0.005)
    assert iou == pytest.approx(0.82, abs=0.005)
    assert np.isnan(weighted_with_background(np.zeros((2, 2), int))).all()


# --- DTU ------------------------------------------------------------------------------------------


def discs(radius, shift=(0, 0), leave_out=()):
    labels = np.zeros((512, 512), int)
    rows, cols = np.ogrid[:512, :512]
    for i in range(25):
        y, x = 52 + 100 * (i // 5) + shift[0], 52 + 100 * (i % 5) + shift[1]
        if i not in leave_out:
            labels[(rows - y) ** 2 + (cols - x) ** 2 <= radius**2] = i + 1
    return labels


def slow_dtu(target, pred):
    """From the description: one loop an object, sets of pixels, all distances."""
    sides = [ndimage.label(m != 0, structure=np.ones((3, 3)))[0] for m in (target, pred)]
    total = [0.0, 0.0], [0.0, 0.0]
    weights = [0.0, 0.0], [0.0, 0.0]
    for k, (one, two) in enumerate((sides, sides[::-1])):
        for i in range(1, one.max() + 1):
            mine = one == i
            under = np.bincount(two[mine], minlength=two.max() + 1)[1:]
            shared = under.max(initial=0)
            weight = mine.sum() if k else shared
            precision, recall = 1.0, shared / mine.sum()
            total[k][0] += weight * (2 * precision * recall / (precision + recall))
            weights[k][0] += weight
            rows, cols = np.nonzero(mine)
            box = np.s_[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
            if shared:
                theirs = (two == under.argmax() + 1)[box]
                far = ndimage.distance_transform_edt(~theirs)[mine[box]].max()
                back = ndimage.distance_transform_edt(~mine[box])[theirs].max()
                total[k][1] += weight * max(far, back)
                weights[k][1] += weight
            else:
                height, width = mine[box].shape
                total[k][1] += height * width * np.hypot(height, width)
                weights[k][1] += height * width
    return [np.mean([total[k][m] / weights[k][m] for k in (0, 1)]) for m in (0, 1)]


def test_dtu_agrees_with_the_slow_one():
    target, pred = discs(20), discs(24, (3, 5), leave_out=(7,))
    got = dtu_figures(target, pred)
    both, total = ((target > 0) & (pred > 0)).sum(), (target > 0).sum() + (pred > 0).sum()
    assert got.f1 == pytest.approx(2 * both / total)
    assert [got.object_dice, got.object_hausdorff] == pytest.approx(slow_dtu(target, pred))


def test_dtu_does_not_see_what_is_beside_an_object():
    target = discs(20)
    assert dtu_figures(target, discs(20)).object_dice == 1
    grown = dtu_figures(target, discs(30))
    assert grown.object_dice > 0.8  # the labels' side is perfect, although twice the area is found
    assert grown.object_hausdorff < 10


def test_dtu_joins_what_touches_and_squeezes():
    halves = np.zeros((512, 512), int)
    halves[100:200, 100:150], halves[100:200, 150:200] = 1, 2
    whole = (halves > 0).astype(int)
    assert dtu_figures(halves, whole).object_dice == 1
    small = np.zeros((128, 128), int)
    small[40:60, 40:60] = 1
    assert dtu_figures(small, small).f1 == 1
    assert dtu_figures(small * 0, small * 0).f1 == 0
    mean = dtu_mean([dtu_figures(small, small), dtu_figures(small, small * 0)])
    assert mean.f1 == 0.5

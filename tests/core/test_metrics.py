"""Pixel metrics against a second implementation and hand-made cases."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional import classification

from napari_pathsam.core import metrics
from napari_pathsam.core.errors import BadImageError


@pytest.fixture
def maps():
    rng = np.random.default_rng(3)
    target = rng.integers(0, 4, (60, 50)).astype(np.uint8)
    pred = np.where(rng.random(target.shape) < 0.7, target, rng.integers(0, 4, target.shape))
    return target, pred


def test_agrees_with_scikit_learn(maps):
    target, pred = maps
    counts = metrics.confusion(target, pred, 4)
    flat = target.ravel(), pred.ravel()
    np.testing.assert_array_equal(counts, sk.confusion_matrix(*flat))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(*flat)
    np.testing.assert_allclose(metrics.dice_per_class(counts), f1)
    np.testing.assert_allclose(metrics.precision_per_class(counts), precision)
    np.testing.assert_allclose(metrics.recall_per_class(counts), recall)
    jaccard = sk.jaccard_score(*flat, average=None)
    np.testing.assert_allclose(metrics.iou_per_class(counts), jaccard)
    assert metrics.accuracy(counts) == pytest.approx(sk.accuracy_score(*flat))


def test_iou_and_dice_are_one_figure(maps):
    counts = metrics.confusion(*maps, 4)
    dice = metrics.dice_per_class(counts)
    np.testing.assert_allclose(metrics.iou_per_class(counts), dice / (2 - dice))


def test_counts_of_images_add_up_to_the_counts_of_all(maps):
    target, pred = maps
    halves = metrics.confusion(target[:20], pred[:20], 4) + metrics.confusion(
        target[20:], pred[20:], 4
    )
    np.testing.assert_array_equal(halves, metrics.confusion(target, pred, 4))


def test_agrees_with_torchmetrics(maps):
    target, pred = (torch.tensor(np.asarray(m, int)) for m in maps)
    counts = metrics.confusion(*maps, 4)
    for theirs, ours in (
        (classification.multiclass_jaccard_index, metrics.iou_per_class),
        (classification.multiclass_f1_score, metrics.dice_per_class),
        (classification.multiclass_recall, metrics.recall_per_class),
        (classification.multiclass_precision, metrics.precision_per_class),
    ):
        np.testing.assert_allclose(ours(counts), theirs(pred, target, 4, average="none"), rtol=1e-6)
        macro = metrics.macro(ours(counts), background=True)
        assert macro.value == pytest.approx(float(theirs(pred, target, 4, average="macro")))
        micro = ours(metrics.micro(counts, background=True))[1]
        assert micro == pytest.approx(float(theirs(pred, target, 4, average="micro")))
    without = metrics.confusion(*maps, 4, ignore_id=2)
    theirs = classification.multiclass_f1_score(pred, target, 4, average="none", ignore_index=2)
    np.testing.assert_allclose(metrics.dice_per_class(without), theirs, rtol=1e-6)


def test_micro_of_the_foreground_is_that_of_scikit_learn(maps):
    target, pred = (m.ravel() for m in maps)
    counts = metrics.micro(metrics.confusion(*maps, 4))
    for theirs, ours in (
        (sk.f1_score, metrics.dice_per_class),
        (sk.jaccard_score, metrics.iou_per_class),
        (sk.precision_score, metrics.precision_per_class),
        (sk.recall_score, metrics.recall_per_class),
    ):
        want = theirs(target, pred, average="micro", labels=[1, 2, 3])
        assert ours(counts)[1] == pytest.approx(want)


def test_accuracy_of_each_class(maps):
    counts = metrics.confusion(*maps, 4)
    want = [sk.accuracy_score(*(m.ravel() == k for m in maps)) for k in range(4)]
    np.testing.assert_allclose(metrics.accuracy_per_class(counts), want)


def test_averaging_leaves_out_what_is_absent_and_counts_it():
    here = metrics.confusion(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1]), 3)
    gone = metrics.confusion(np.array([0, 0]), np.array([0, 0]), 3)
    assert metrics.macro(metrics.iou_per_class(here)) == metrics.Mean(2 / 3, 1, 1)
    background, one, two = metrics.mean_over_images([here, gone], metrics.iou_per_class)
    assert (background.n, background.value) == (2, pytest.approx(0.75))
    assert one == metrics.Mean(pytest.approx(2 / 3), 1, 1)
    assert (two.n, two.n_absent) == (0, 2)
    assert np.isnan(two.value)


def test_pooling_weighs_pixels_and_the_mean_over_images_weighs_images():
    large = metrics.confusion(np.ones(90, int), np.ones(90, int), 2)
    small = metrics.confusion(np.ones(10, int), np.zeros(10, int), 2)
    assert metrics.recall_per_class(large + small)[1] == 0.9
    assert metrics.mean_over_images([large, small], metrics.recall_per_class)[1].value == 0.5


def test_absent_classes_are_nan_and_wrong_ones_are_not():
    target = np.array([[0, 0, 1, 1]])
    pred = np.array([[0, 2, 1, 1]])
    counts = metrics.confusion(target, pred, 4)
    np.testing.assert_array_equal(metrics.dice_per_class(counts), [2 / 3, 1, 0, np.nan])
    np.testing.assert_array_equal(metrics.recall_per_class(counts), [0.5, 1, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.precision_per_class(counts), [1, 1, 0, np.nan])


def test_ignored_pixels_are_nowhere_in_the_counts():
    target = np.array([1, 255, 0, 255], np.uint8)
    pred = np.array([1, 1, 1, 0], np.uint8)
    counts = metrics.confusion(target, pred, 2, ignore_id=255)
    assert counts.tolist() == [[0, 1], [0, 1]]
    nothing = metrics.confusion(target[1:2], pred[1:2], 2, ignore_id=255)
    assert nothing.sum() == 0
    assert np.isnan(metrics.accuracy(nothing))


def test_foreground_forgets_which_class(maps):
    target, pred = maps
    np.testing.assert_array_equal(
        metrics.foreground(metrics.confusion(target, pred, 4)),
        metrics.confusion(target > 0, pred > 0, 2),
    )


def test_refuses_what_cannot_be_counted():
    with pytest.raises(BadImageError, match="one size"):
        metrics.confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
    with pytest.raises(BadImageError, match="ids 0 to 7"):
        metrics.confusion(np.array([0, 7]), np.array([0, 1]), 2)


def test_few_pixels_or_few_regions_are_too_few():
    px, regions = metrics.MEANINGFUL_PX, metrics.MEANINGFUL_REGIONS
    assert not metrics.too_few(px, regions)
    assert metrics.too_few(px - 1, regions)
    assert metrics.too_few(10 * px, regions - 1)

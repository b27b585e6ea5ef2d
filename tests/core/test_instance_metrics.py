"""PQ, AJI, average precision, count error: torchmetrics, slow literal versions, cases by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torchmetrics.functional.detection import panoptic_quality as torch_pq

from napari_pathsam.core.instance_metrics import (
    THRESHOLDS,
    InstanceCounts,
    aggregated_jaccard,
    average_precision,
    count_error,
    count_instances,
    count_instances_by_class,
    mean_panoptic_quality,
    mean_segmentation_accuracy,
    panoptic_quality,
    recognition_quality,
    relative_count_error,
    segmentation_quality,
)


def squares(*boxes, shape=(40, 60)):
    labels = np.zeros(shape, int)
    for i, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = i
    return labels


def blobs(rng, shape=(40, 50)):
    smooth = ndimage.gaussian_filter(rng.random(shape), rng.uniform(0.8, 2.5))
    return ndimage.label(smooth > np.quantile(smooth, 0.6))[0]


NOTHING = squares()
TWO = squares((5, 5, 15, 15), (20, 30, 30, 50))


@pytest.fixture(params=range(8))
def pair(request):
    rng = np.random.default_rng(request.param)
    target = blobs(rng)
    moved = np.roll(target, rng.integers(-3, 4, 2), (0, 1))
    return target, np.where(rng.random() < 0.7, moved, blobs(rng))


# --- second implementations -----------------------------------------------------------------------


def sets_of(labels):
    return [set(zip(*np.nonzero(labels == i), strict=True)) for i in np.unique(labels) if i]


def slow_iou(target, pred):
    return np.array([[len(t & p) / len(t | p) for p in sets_of(pred)] for t in sets_of(target)])


def slow_aji(target, pred):
    """Kumar et al. 2017, algorithm 1."""
    targets, preds = sets_of(target), sets_of(pred)
    shared = united = 0
    used = set()
    for t in targets:
        best = max(range(len(preds)), key=lambda j, t=t: len(t & preds[j]) / len(t | preds[j]))
        if t & preds[best]:
            shared, united = shared + len(t & preds[best]), united + len(t | preds[best])
            used.add(best)
        else:
            united += len(t)
    return shared / (united + sum(len(p) for j, p in enumerate(preds) if j not in used))


def test_panoptic_quality_is_that_of_torchmetrics(pair):
    maps = [torch.tensor(np.stack([m > 0, m], -1)[None].astype(int)) for m in pair]
    pq, sq, rq = torch_pq(maps[1], maps[0], things={1}, stuffs={0}, return_sq_and_rq=True,
                          return_per_class=True)[0].tolist()  # fmt: skip
    counts = count_instances(*pair)
    assert panoptic_quality(counts) == pytest.approx(pq, abs=1e-5)
    assert recognition_quality(counts) == pytest.approx(rq, abs=1e-5)
    if counts.n_matched:
        assert segmentation_quality(counts) == pytest.approx(sq, abs=1e-5)


def test_aji_and_average_precision_agree_with_the_slow_ones(pair):
    counts = count_instances(*pair)
    assert aggregated_jaccard(counts) == pytest.approx(slow_aji(*pair))
    iou = slow_iou(*pair)
    for threshold, precision in average_precision(counts).items():
        good = iou >= threshold - 1e-9
        found = good[linear_sum_assignment(-good.astype(float))].sum()
        assert precision == pytest.approx(found / (sum(iou.shape) - found))


# --- by hand --------------------------------------------------------------------------------------


def test_perfect_and_empty():
    counts = count_instances(TWO, np.where(TWO > 0, 900 - TWO, 0))
    assert panoptic_quality(counts) == segmentation_quality(counts) == 1
    assert aggregated_jaccard(counts) == mean_segmentation_accuracy(counts) == 1
    assert count_error(counts) == relative_count_error(counts) == 0
    empty = count_instances(NOTHING, NOTHING)
    for figure in (panoptic_quality, recognition_quality, aggregated_jaccard,
                   mean_segmentation_accuracy, segmentation_quality):  # fmt: skip
        assert np.isnan(figure(empty))
    assert count_error(empty) == 0
    assert np.isnan(relative_count_error(empty))
    assert np.isnan(count_error(InstanceCounts()))


@pytest.mark.parametrize("pair", [(TWO, NOTHING), (NOTHING, TWO)])
def test_one_side_empty(pair):
    counts = count_instances(*pair)
    assert panoptic_quality(counts) == recognition_quality(counts) == 0
    assert aggregated_jaccard(counts) == mean_segmentation_accuracy(counts) == 0
    assert np.isnan(segmentation_quality(counts))
    assert count_error(counts) == 2


def test_missed_split_and_joined():
    missed = count_instances(TWO, squares((5, 5, 15, 15)))
    assert panoptic_quality(missed) == pytest.approx(2 / 3)
    assert aggregated_jaccard(missed) == pytest.approx(100 / 300)
    assert average_precision(missed)[0.95] == 0.5
    whole, split = squares((0, 0, 10, 30)), squares((0, 0, 10, 18), (0, 18, 10, 30))
    counts = count_instances(whole, split)
    assert panoptic_quality(counts) == pytest.approx(0.6 / 1.5)
    assert aggregated_jaccard(counts) == pytest.approx(180 / (300 + 120))
    assert [n for n in counts.n_found if n] == [1, 1, 1]  # IoU 0.6: 0.50, 0.55 and 0.60
    joined = count_instances(split, whole)
    assert panoptic_quality(joined) == panoptic_quality(counts)
    # Both targets take the one prediction: it may serve several.
    assert aggregated_jaccard(joined) == pytest.approx((180 + 120) / (300 + 300))


def test_exactly_half_is_no_match_for_pq_and_one_for_average_precision():
    whole, halves = squares((0, 0, 10, 20)), squares((0, 0, 10, 10), (0, 10, 10, 20))
    for pair in ((whole, halves), (halves, whole)):
        counts = count_instances(*pair)
        assert counts.n_matched == 0
        assert counts.n_found[0] == 1  # not both halves: an object has one partner
        assert counts.n_found[1] == 0


def test_ties_go_to_the_smaller_id_and_ids_to_nobody_else():
    whole, halves = squares((0, 0, 10, 20)), squares((0, 0, 10, 10), (0, 10, 10, 20))
    assert aggregated_jaccard(count_instances(whole, halves)) == pytest.approx(100 / 300)
    border = squares((0, 0, 4, 60), (36, 0, 40, 60), (10, 0, 30, 3), (10, 57, 30, 60))
    assert panoptic_quality(count_instances(border, border)) == 1


def test_more_than_255_objects():
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((3, 3), int))
    counts = count_instances(labels, labels + 70_000 * (labels > 0))
    assert (counts.n_target, counts.n_matched, counts.iou_sum) == (400, 400, 400)
    assert counts.n_found == (400,) * len(THRESHOLDS)


def test_counts_add_up():
    one, two = count_instances(TWO, TWO), count_instances(TWO, NOTHING)
    both = one + two
    assert panoptic_quality(both) == pytest.approx(2 * 2 / 6)
    assert (both.n_images, count_error(both), relative_count_error(both)) == (2, 1, 0.5)
    assert InstanceCounts.of_array(both.array()) == both


def test_classes_by_themselves():
    target = squares((0, 0, 10, 10), (20, 20, 30, 30))
    counts = count_instances_by_class(target, {1: 1, 2: 2}, target, {1: 1, 2: 1}, (1, 2, 3))
    assert panoptic_quality(counts[1]) == pytest.approx(1 / 1.5)
    assert panoptic_quality(counts[2]) == 0
    value, absent = mean_panoptic_quality(counts.values())
    assert (value, absent) == (pytest.approx(1 / 3), 1)

"""Boundary F1: by hand, and against distances of all pairs."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from napari_pathsam.core.boundary_metrics import (
    BoundaryCounts,
    boundary,
    boundary_f1,
    count_boundary,
)
from napari_pathsam.core.errors import BadImageError


def square(y, x, side=10, shape=(30, 40)):
    labels = np.zeros(shape, np.uint8)
    labels[y : y + side, x : x + side] = 1
    return labels


def test_a_shift_within_the_tolerance_costs_nothing():
    assert boundary_f1(count_boundary(square(5, 5), square(5, 7), tolerance_px=2)) == 1
    f1 = boundary_f1(count_boundary(square(5, 5), square(5, 8), tolerance_px=2))
    assert 0 < f1 < 1


def test_agrees_with_the_distances_of_all_pairs(rng):
    target, pred = (rng.random((2, 30, 40)) < 0.03).astype(int)
    for tolerance in (0, 1, 1.5, 3):
        counts = count_boundary(target, pred, tolerance_px=tolerance)
        apart = cdist(np.argwhere(boundary(target)), np.argwhere(boundary(pred)))
        near = (apart.min(axis=1) <= tolerance).sum(), (apart.min(axis=0) <= tolerance).sum()
        assert counts == BoundaryCounts(*apart.shape, *near)
        recall, precision = near[0] / apart.shape[0], near[1] / apart.shape[1]
        want = 2 * precision * recall / (precision + recall) if all(near) else 0
        assert boundary_f1(counts) == pytest.approx(want)


def test_touching_objects_have_a_boundary_and_the_images_end_is_none():
    halves = np.ones((10, 10), int)
    assert not boundary(halves).any()
    halves[:, 5:] = 2
    assert np.flatnonzero(boundary(halves).all(axis=0)).tolist() == [4, 5]
    split = count_boundary(halves, np.ones_like(halves), tolerance_px=2)
    assert boundary_f1(split) == 0


def test_nothing_to_outline():
    empty = np.zeros((5, 5), int)
    assert math.isnan(boundary_f1(count_boundary(empty, empty, tolerance_px=2)))
    assert boundary_f1(count_boundary(empty, square(1, 1, 3, (5, 5)), tolerance_px=2)) == 0


def test_what_nobody_labelled_is_not_counted():
    target, pred = square(5, 5), square(5, 5)
    known = np.ones(target.shape, bool)
    known[:, 25:] = False
    pred[10:20, 25:35] = 1  # where nobody looked
    counts = count_boundary(target, np.where(known, pred, 0), tolerance_px=2, known=known)
    assert counts == count_boundary(target, target, tolerance_px=2)
    whole = np.ones_like(target)  # cut by the unlabelled part: that is no boundary
    cut = count_boundary(whole, np.where(known, whole, 0), tolerance_px=2, known=known)
    assert cut == BoundaryCounts()


def test_counts_add_up_and_sizes_must_agree():
    one = count_boundary(square(5, 5), square(6, 6), tolerance_px=1)
    assert one + one == BoundaryCounts(*(2 * n for n in (36, 36, one.near_target, one.near_pred)))
    with pytest.raises(BadImageError, match="one size"):
        count_boundary(square(5, 5), square(5, 5)[:9], tolerance_px=1)

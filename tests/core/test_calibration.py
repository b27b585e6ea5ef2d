"""Calibration against torchmetrics, and curves that are known."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from napari_pathsam.core.calibration import (
    count_confidence,
    expected_calibration_error,
    reliability_curve,
)


def test_agrees_with_torchmetrics(rng):
    logits = torch.tensor(rng.normal(size=(5000, 4)) * 2)
    target = torch.tensor(rng.integers(0, 4, 5000))
    probability, answer = logits.softmax(1).max(1)
    counts = count_confidence(probability.numpy(), (answer == target).numpy())
    want = multiclass_calibration_error(logits.softmax(1), target, num_classes=4, n_bins=15)
    assert expected_calibration_error(counts) == pytest.approx(float(want), abs=1e-6)


def test_calibrated_by_construction(rng):
    confidence = rng.uniform(0.3, 1, 200_000)
    counts = count_confidence(confidence, rng.random(len(confidence)) < confidence)
    assert expected_calibration_error(counts) < 0.01
    curve = reliability_curve(counts)
    known = ~np.isnan(curve.right)
    np.testing.assert_array_equal(known, np.arange(15) >= 4)  # nothing below 0.3
    np.testing.assert_allclose(curve.right[known], curve.confidence[known], atol=0.03)
    assert curve.share.sum() == pytest.approx(1)


def test_always_sure_and_half_right():
    counts = count_confidence(np.ones(10), np.arange(10) < 5)
    assert expected_calibration_error(counts) == 0.5
    counts += count_confidence(np.zeros(10), np.zeros(10, bool))  # zero has a bin too
    assert expected_calibration_error(counts) == 0.25
    assert counts[0].tolist() == [10, *[0] * 13, 10]


def test_nothing():
    nothing = count_confidence(np.zeros(0), np.zeros(0, bool))
    assert np.isnan(expected_calibration_error(nothing))
    assert reliability_curve(nothing).share.sum() == 0

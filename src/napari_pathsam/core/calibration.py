"""Calibration: whether what a model is 80 % sure of is right in 80 % of the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_BINS = 15


@dataclass(frozen=True)
class ReliabilityCurve:
    """By bin of confidence: its mean, the share that is right, and the share of all pixels.

    The first two are NaN in bins that hold nothing.
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.float64]
    share: NDArray[np.float64]


def count_confidence(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], *, n_bins: int = N_BINS
) -> NDArray[np.float64]:
    """Counts ``(3, n_bins)``, to be added over images: pixels, Σ confidence, pixels right.

    Parameters
    ----------
    confidence
        Probability of the answer that was given, 0 to 1, any shape.
    right
        Whether it was right, same shape.
    n_bins
        Bins of equal width; bin ``k`` holds what is above ``k / n`` and at most ``(k + 1) / n``.
    """
    confidence = np.asarray(confidence, float).ravel()
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    weights = (None, confidence, np.asarray(right, float).ravel())
    return np.stack([np.bincount(bins, w, minlength=n_bins) for w in weights]).astype(float)


def expected_calibration_error(counts: NDArray[np.float64]) -> float:
    """ECE, ``Σ_bins (n_bin / n) · |right − confidence|``; NaN without pixels.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017, with bins of equal width.
    """
    n, confidence, right = counts
    return float(np.abs(right - confidence).sum() / n.sum()) if n.sum() else float("nan")


def reliability_curve(counts: NDArray[np.float64]) -> ReliabilityCurve:
    """What is drawn: perfect calibration is the diagonal."""
    n, confidence, right = counts
    full = np.maximum(n, 1)
    known = np.where(n > 0, 1.0, np.nan)
    return ReliabilityCurve(
        known * confidence / full, known * right / full, n / max(n.sum(), 1.0)
    )  # fmt: skip

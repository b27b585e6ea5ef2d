"""What fine-tuning tells: scores on held-out pixels, in numbers and in plain words; where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_pathsam.core.errors import PathsamError
from napari_pathsam.core.metrics import (
    Counts,
    dice_per_class,
    iou_per_class,
    precision_per_class,
    recall_per_class,
    too_few,
)

BINS = 10

Weights = Mapping[str, Tensor]
"""What was trained, by the names of the model's tensors, on the CPU."""


class TrainingStopped(PathsamError):
    """Training came to numbers that are none; what was best until then is kept."""


@dataclass(frozen=True)
class Reliability:
    """Held-out pixels by how sure the model was, in :data:`BINS` equal bins from 0 to 1.

    ``count`` pixels, the sum of their ``confidence``, and how many were ``correct``.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.int64]

    @classmethod
    def of(cls, confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> Reliability:
        """Counts of pixels."""
        at = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        return cls(
            np.bincount(at, minlength=BINS),
            np.bincount(at, weights=confidence, minlength=BINS).astype(np.float64),
            np.bincount(at[correct], minlength=BINS),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.count + other.count,
            self.confidence + other.confidence,
            self.correct + other.correct,
        )

    @property
    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean confidence and share of right pixels of each bin; NaN where a bin is empty."""
        n = np.where(self.count > 0, self.count, np.nan)
        return self.confidence / n, self.correct / n

    @property
    def error(self) -> float:
        """Expected calibration error: how far the two are apart, over all pixels."""
        total = int(self.count.sum())
        apart = np.abs(self.confidence - self.correct).sum()
        return float(apart / total) if total else math.nan


@dataclass(frozen=True)
class ClassRow:
    """One class on held-out pixels; a figure is NaN where it is not defined."""

    name: str
    dice: float
    iou: float
    precision: float
    recall: float
    n_px: int
    n_regions: int

    @property
    def too_few(self) -> bool:
        """Whether so little of it is held out that the figures mean little."""
        return 0 < self.n_px and too_few(self.n_px, self.n_regions)

    @property
    def sentence(self) -> str:
        """What is to be said where the numbers mean little; empty otherwise."""
        if self.n_px == 0:
            return f"“{self.name}”: nothing is held out, so its score is not known."
        if not self.too_few:
            return ""
        regions = f"{self.n_regions} region{'s' * (self.n_regions != 1)}"
        return (
            f"“{self.name}”: {self.n_px} held-out pixels in {regions} are too few to mean much; "
            "paint in more places."
        )


@dataclass(frozen=True)
class Scores:
    """Held-out pixels, counted: ``counts[target, prediction]`` in channels, background first.

    ``regions`` are the separate held-out regions of each channel; ``nll`` is the mean of minus the
    logarithm of the true class's probability.
    """

    counts: Counts
    names: tuple[str, ...]
    regions: tuple[int, ...]
    reliability: Reliability
    nll: float

    @property
    def n_px(self) -> int:
        return int(self.counts.sum())

    @property
    def mean_dice(self) -> float:
        """Mean over the classes that are held out; background counts only where it is alone."""
        each = dice_per_class(self.counts)
        there = self.counts.sum(axis=1) > 0
        chosen = each[1:][there[1:]] if there[1:].any() else each[:1]
        return float(chosen.mean()) if np.isfinite(chosen).all() else math.nan

    @property
    def noise(self) -> float:
        """A standard error of the mean Dice, for regions that are independent of each other."""
        dice, n = self.mean_dice, max(1, sum(self.regions))
        return math.sqrt(max(0.0, dice * (1 - dice)) / n)

    @property
    def rows(self) -> tuple[ClassRow, ...]:
        """Every class, background last."""
        dice, iou = dice_per_class(self.counts), iou_per_class(self.counts)
        precision, recall = precision_per_class(self.counts), recall_per_class(self.counts)
        n_px = self.counts.sum(axis=1)
        return tuple(
            ClassRow(
                self.names[c], float(dice[c]), float(iou[c]), float(precision[c]),
                float(recall[c]), int(n_px[c]), self.regions[c],
            )
            for c in (*range(1, len(self.names)), 0)
        )  # fmt: skip

    @property
    def too_few(self) -> bool:
        """Whether the mean means little, because a class's figures do."""
        return any(row.too_few for row in self.rows)

    @property
    def sentences(self) -> tuple[str, ...]:
        """In plain words, where the numbers mean little."""
        said = [row.sentence for row in self.rows]
        return tuple(text for text in said if text)

    def to_json(self) -> dict[str, Any]:
        """Counts, from which everything else follows; and the figures a person looks for."""
        return {
            "names": list(self.names),
            "counts": self.counts.tolist(),
            "regions": list(self.regions),
            "reliability": {
                "count": self.reliability.count.tolist(),
                "confidence": self.reliability.confidence.tolist(),
                "correct": self.reliability.correct.tolist(),
            },
            "nll": self.nll,
            "mean_dice": None if math.isnan(self.mean_dice) else self.mean_dice,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Scores:
        """Read :meth:`to_json`."""
        reliability = found["reliability"]
        return cls(
            np.array(found["counts"], np.int64),
            tuple(found["names"]),
            tuple(found["regions"]),
            Reliability(
                np.array(reliability["count"], np.int64),
                np.array(reliability["confidence"], np.float64),
                np.array(reliability["correct"], np.int64),
            ),
            float(found["nll"]),
        )


@dataclass(frozen=True)
class TeachReport:
    """Where training stands; a report comes after every step, and every tile encoded or scored.

    Attributes
    ----------
    phase
        What was just done: a tile encoded, a step, a tile scored, an epoch with its scoring.
    done, total
        Steps.
    epoch, epochs
        Epochs that are finished, and at most all.
    loss
        Of the step, or at the end of an epoch its mean; None before the first step.
    seconds_left
        None where it cannot be said yet.
    scores
        At the end of an epoch, where something is held out; of epoch 0: what the start scores.
    improved, weights
        At the end of an epoch: whether these weights are kept as the best so far, and then they.
    notes
        What a person should be told now.
    """

    phase: Literal["encoding", "training", "scoring", "epoch"]
    done: int
    total: int
    epoch: int
    epochs: int
    loss: float | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    scores: Scores | None = None
    improved: bool = False
    weights: Weights | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

"""What training tells: scores, where it stands after a step and an epoch, the time that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from napari_pathsam.core.metrics import Counts, dice_per_class, foreground, iou_per_class
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_features import Features


@dataclass(frozen=True)
class Validation:
    """Scores from counts pooled over the validation images."""

    counts: Counts

    @property
    def dice(self) -> float:
        """Foreground against background."""
        return float(dice_per_class(foreground(self.counts))[1])

    @property
    def iou(self) -> float:
        return float(iou_per_class(foreground(self.counts))[1])

    @property
    def macro_dice(self) -> float:
        """Mean over the classes that are there, background left out."""
        each = dice_per_class(self.counts)[1:]
        return float(np.nanmean(each)) if np.isfinite(each).any() else math.nan

    @property
    def score(self) -> float:
        """What training stops on: mean Dice of the classes."""
        return self.macro_dice


@dataclass(frozen=True)
class EpochReport:
    """Where training stands after an epoch.

    ``validation`` is None between validations; ``encoded`` counts the patches and validation images
    that had to be encoded anew; ``stopped`` says that the score has not risen for too long.
    """

    epoch: int
    epochs: int
    loss: float
    seconds: float
    seconds_left: float
    encoded: int
    validation: Validation | None = None
    best_score: float = math.nan
    stopped: bool = False


@dataclass(frozen=True)
class StepReport:
    """Where training stands after a step; ``epoch`` is there after the last one of an epoch."""

    step: int
    steps: int
    loss: float
    seconds_left: float
    epoch: EpochReport | None = None


class Clock:
    """How long training still takes: steps, patches yet to be encoded, validations.

    A patch costs its encoding when it is met first, so early epochs say nothing of the later ones.
    """

    def __init__(
        self, features: Features, config: TrainConfig, steps_per_epoch: int, validates: bool
    ) -> None:
        self._features, self._config, self._per_epoch = features, config, steps_per_epoch
        self._validates = validates
        self._at = perf_counter()
        self._encoding = features.seconds
        self._steps, self._step_s, self._asked, self._validate_s = 0, 0.0, 0, 0.0
        self._known = features.encoded

    def tick(self) -> None:
        """Time starts to count."""
        self._at, self._encoding = perf_counter(), self._features.seconds

    def _passed(self) -> tuple[float, float]:
        """Seconds since the last call: all of them, and those spent on encoding."""
        at, encoding = perf_counter(), self._features.seconds
        passed = (at - self._at, encoding - self._encoding)
        self._at, self._encoding = at, encoding
        return passed

    def step(self, step: int) -> None:
        """A step is done."""
        all_s, encoding_s = self._passed()
        self._steps += 1
        self._step_s += all_s - encoding_s
        if step <= self._first_steps:
            self._asked += self._config.batch

    def validated(self) -> None:
        """A validation is done."""
        all_s, encoding_s = self._passed()
        self._validate_s = all_s - encoding_s

    @property
    def _first_steps(self) -> int:
        """Steps in which patches are met that were never met before."""
        variants = self._config.variants if self._features.keeps else None
        return self._per_epoch * min(self._config.epochs, variants or self._config.epochs)

    def seconds_left(self, step: int) -> float:
        """From after this step to the end."""
        config, features = self._config, self._features
        total = config.epochs * self._per_epoch
        each = self._step_s / max(1, self._steps)
        made = features.encoded - self._known
        per_patch = features.seconds / max(1, features.encoded)
        # Of the patches met first, some lie in the cache from an earlier run.
        share = min(1.0, made / self._asked) if self._asked else 1.0
        still = max(0, self._first_steps - step) * config.batch * share
        checks = (total - step) / self._per_epoch / config.validate_every if self._validates else 0
        return (total - step) * each + still * per_patch + checks * self._validate_s

"""Bootstrap intervals over patients: how much a figure owes to who happened to be measured.

Images of one patient are alike, so patients are drawn, with replacement, and all their images with
them. Every figure here is made of counts that add up over images; drawing patients again is
then a product of how often each was drawn with their counts. Efron & Tibshirani, "An introduction
to the bootstrap" (1993), percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Divide = Callable[[NDArray[np.float64]], float]
"""From counts ``(d,)`` to a figure; NaN where it is not defined."""


@dataclass(frozen=True)
class Interval:
    """A figure, and where ``level`` of the resamples put it; NaN bounds with fewer than 2 groups.

    ``n_undefined`` resamples had no figure (a class was in none of the patients drawn).
    """

    value: float
    low: float
    high: float
    n_undefined: int = 0


@dataclass(frozen=True)
class Difference:
    """B minus A over the same patients; ``share_above`` of the resamples put B above A."""

    value: float
    low: float
    high: float
    share_above: float


@dataclass(frozen=True)
class Resampling:
    """How often each of ``n_groups`` is drawn, in each of ``n`` resamples; from a seed."""

    groups: tuple[str, ...]
    weights: NDArray[np.int64]
    level: float = 0.95

    @classmethod
    def over(
        cls, names: Sequence[str], *, n: int = 1000, seed: int = 0, level: float = 0.95
    ) -> Resampling:
        """Resamples of the groups that these images' groups are; order and repeats do not matter.

        Raises
        ------
        ValueError
            There is no group, or ``level`` is not between 0 and 1.
        """
        if not names or not 0 < level < 1:
            raise ValueError(f"{len(names)} groups, level {level}: some, and between 0 and 1")
        groups = tuple(sorted(set(names)))
        draws = np.random.default_rng(seed).multinomial(
            len(groups), np.full(len(groups), 1 / len(groups)), size=n
        )
        return cls(groups, draws, level)

    def interval(
        self, rows: NDArray[np.float64], names: Sequence[str], divide: Divide
    ) -> Interval:  # fmt: skip
        """The figure of images' counts ``(n_images, d)``, image ``i`` of the group ``names[i]``."""
        value = divide(rows.sum(axis=0))
        resampled = self._figures(rows, names, divide)
        return Interval(value, *self._bounds(resampled), int(np.isnan(resampled).sum()))

    def difference(
        self,
        rows_a: NDArray[np.float64],
        rows_b: NDArray[np.float64],
        names: Sequence[str],
        divide: Divide,
    ) -> Difference:
        """B − A of the same images, the same patients drawn for both."""
        a, b = (self._figures(rows, names, divide) for rows in (rows_a, rows_b))
        apart = _subtracted(b, a)
        known = apart[~np.isnan(apart)]
        told = len(self.groups) > 1 and len(known) > 0
        value = _subtracted(*(np.array(divide(r.sum(axis=0))) for r in (rows_b, rows_a)))
        share = float((known > 0).mean()) if told else float("nan")
        return Difference(float(value), *self._bounds(apart), share)

    def _figures(
        self, rows: NDArray[np.float64], names: Sequence[str], divide: Divide
    ) -> NDArray[np.float64]:
        place = {group: i for i, group in enumerate(self.groups)}
        sums = np.zeros((len(self.groups), rows.shape[1]))
        np.add.at(sums, [place[name] for name in names], rows)
        first, again = self._different
        return np.array([divide(counts) for counts in (self.weights @ sums)[first]])[again]

    @cached_property
    def _different(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows of ``weights`` that differ, and which of them each row is: few of few groups."""
        _, first, again = np.unique(self.weights, axis=0, return_index=True, return_inverse=True)
        return first, again.ravel()

    def _bounds(self, figures: NDArray[np.float64]) -> tuple[float, float]:
        known = figures[~np.isnan(figures)]
        if len(self.groups) < 2 or not len(known):
            return float("nan"), float("nan")
        tail = (1 - self.level) / 2
        # One of the values itself: between a number and infinity there is none to interpolate.
        low, high = np.quantile(known, [tail, 1 - tail], method="nearest")
        return float(low), float(high)


def _subtracted(b: NDArray[np.float64], a: NDArray[np.float64]) -> NDArray[np.float64]:
    """``b − a``; NaN where both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.asarray(b - a)

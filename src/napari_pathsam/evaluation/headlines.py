"""Headlines: figures as counts by image and a division, so that they can be drawn again by patient.

Whatever is reported of a data set is one of these: its value, its interval, its value for one
image, and the difference between two models all come from the same counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.bootstrap import Divide, Interval, Resampling

RESAMPLES, SEED, LEVEL = 1000, 0, 0.95


@dataclass(frozen=True)
class Headline:
    """One figure of a data set.

    Attributes
    ----------
    title, averaging
        For people: "Dice", "pooled over the data set".
    rows
        Counts ``(n_images, d)``, to be added.
    divide
        From added counts to the figure.
    larger_is_better
        Not so for distances and errors.
    of_one
        Whether it means something for a single image.
    """

    title: str
    averaging: str
    rows: NDArray[np.float64]
    divide: Divide
    larger_is_better: bool = True
    of_one: bool = True

    @property
    def value(self) -> float:
        return self.divide(self.rows.sum(axis=0))

    def per_image(self) -> list[float]:
        """The figure of each image by itself."""
        return [self.divide(row) for row in self.rows]


def mean_headline(
    title: str,
    averaging: str,
    by_image: Iterable[Sequence[float]],
    *,
    larger_is_better: bool = True,
) -> Headline:
    """The mean of values, any number an image; what is NaN is left out, infinity stays."""
    rows = []
    for values in by_image:
        known = np.array([v for v in values if not math.isnan(v)], float)
        finite = known[np.isfinite(known)]
        rows.append((finite.sum(), len(known), len(known) - len(finite)))
    return Headline(
        title,
        averaging,
        np.array(rows, float).reshape(-1, 3),
        _mean_of_row,
        larger_is_better,
    )


def intervals(
    headlines: Mapping[str, Headline],
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """What a report says of how sure its figures are; ``groups``: the patient of each image.

    ``figures`` has ``[low, high]`` by name; NaN where there are fewer than two patients.
    """
    if not groups:
        return {"level": LEVEL, "groups": 0, "resamples": 0, "seed": seed, "figures": {}}
    resampling = Resampling.over(groups, n=resamples, seed=seed, level=LEVEL)
    found: dict[str, Interval] = {
        name: resampling.interval(h.rows, groups, h.divide) for name, h in headlines.items()
    }
    return {
        "level": LEVEL,
        "groups": len(resampling.groups),
        "resamples": resamples,
        "seed": seed,
        "figures": {name: [i.low, i.high] for name, i in found.items()},
    }


def _mean_of_row(row: NDArray[np.float64]) -> float:
    total, n, n_infinite = row
    if not n:
        return math.nan
    return math.inf if n_infinite else float(total / n)

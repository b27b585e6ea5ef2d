"""Two models on the same images, patient by patient: who is better, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_pathsam.core.bootstrap import Difference, Resampling
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.evaluation.evaluate import Settings, headlines_of
from napari_pathsam.evaluation.headlines import LEVEL, RESAMPLES, SEED, Headline
from napari_pathsam.evaluation.report import drawn_from


@dataclass(frozen=True)
class Compared:
    """One figure of both: ``apart`` is B − A, over the same patients drawn again."""

    title: str
    averaging: str
    a: float
    b: float
    apart: Difference
    larger_is_better: bool

    @property
    def b_is_better(self) -> bool | None:
        """Whether the interval says so; None: it says neither."""
        low, high = self.apart.low, self.apart.high
        if not self.larger_is_better:
            low, high = -high, -low
        return True if low > 0 else False if high < 0 else None


@dataclass(frozen=True)
class Comparison:
    """Every figure both have, by name."""

    n_images: int
    n_groups: int
    resamples: int
    seed: int
    figures: Mapping[str, Compared]

    @property
    def drawn(self) -> str:
        """What intervals are over, as reports say it."""
        return drawn_from(self.n_groups, self.n_images)

    def to_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {
            name: {
                "a": f.a, "b": f.b, "difference": f.apart.value, "low": f.apart.low,
                "high": f.apart.high, "share_b_above": f.apart.share_above,
                "larger_is_better": f.larger_is_better,
            }
            for name, f in self.figures.items()
        }  # fmt: skip
        return {
            "n_images": self.n_images,
            "groups": self.n_groups,
            "level": LEVEL,
            "resamples": self.resamples,
            "seed": self.seed,
            "figures": figures,
        }


def compared(
    a: Sequence[Any],
    b: Sequence[Any],
    settings: tuple[Settings, Settings],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Pair the scores of two models image by image.

    Raises
    ------
    BadFileError
        They are not of the same task, the same images or the same classes; the message names some.
    """
    if type(settings[0]) is not type(settings[1]):
        raise BadFileError(
            "One run is of classes and the other of prompts, or of everything; two runs of one "
            "task can be compared."
        )
    a, b = (sorted(scores, key=lambda s: s.name) for scores in (a, b))
    _check_pairs(a, b)
    groups = [s.group for s in a]
    resampling = Resampling.over(groups, n=resamples, seed=seed, level=LEVEL)
    ours, theirs = (headlines_of(s, scores) for s, scores in zip(settings, (a, b), strict=True))
    figures = {}
    for name, one in ours.items():
        two = theirs.get(name)
        if two is None or one.rows.shape != two.rows.shape or _both_unknown(one, two):
            continue
        apart = resampling.difference(one.rows, two.rows, groups, one.divide)
        figures[name] = Compared(
            one.title, one.averaging, one.value, two.value, apart, one.larger_is_better
        )
    return Comparison(len(a), len(resampling.groups), resamples, seed, figures)


def _both_unknown(one: Headline, two: Headline) -> bool:
    return math.isnan(one.value) and math.isnan(two.value)


def _check_pairs(a: Sequence[Any], b: Sequence[Any]) -> None:
    names = [{s.name for s in scores} for scores in (a, b)]
    if not names[0]:
        raise BadFileError("There is no image to compare on.")
    only = [sorted(names[0] - names[1]), sorted(names[1] - names[0])]
    if any(only):
        told = "; ".join(
            f"only {side} has {', '.join(found[:5])}{' …' if len(found) > 5 else ''}"
            for side, found in zip("AB", only, strict=True)
            if found
        )
        raise BadFileError(f"The two runs are of different images ({told}). Run both on one split.")
    for one, two in zip(a, b, strict=True):
        if one.group != two.group or getattr(one, "names", ()) != getattr(two, "names", ()):
            raise BadFileError(
                f"The two runs read {one.name} differently: {_read(one)} and {_read(two)}. Run "
                "both with the same data set, target and class mapping."
            )
        total = [np.sum(s.counts) for s in (one, two) if hasattr(s, "counts")]
        if total and total[0] != total[1]:
            raise BadFileError(
                f"The two runs counted {total[0]} and {total[1]} pixels of {one.name}: its labels, "
                "or what is ignored of them, are not the same."
            )


def _read(score: Any) -> str:
    classes = ", ".join(getattr(score, "names", ())[1:])
    return f"group {score.group}" + (f", classes {classes}" if classes else "")

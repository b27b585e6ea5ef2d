"""Seams: whether classes change where windows begin and end more often than beside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR_PX, ROUND_PX = 1, 24
"""Lines within one pixel of a window's end are on it; those up to 24 away are what it is like."""


@dataclass(frozen=True)
class SeamCounts:
    """Changes of class between neighbouring pixels, at window ends and beside them, and the pairs.

    Counts of several pieces are added, then divided.
    """

    at_ends: int = 0
    pairs_at_ends: int = 0
    beside: int = 0
    pairs_beside: int = 0

    def __add__(self, other: SeamCounts) -> SeamCounts:
        return SeamCounts(
            self.at_ends + other.at_ends,
            self.pairs_at_ends + other.pairs_at_ends,
            self.beside + other.beside,
            self.pairs_beside + other.pairs_beside,
        )

    def __sub__(self, other: SeamCounts) -> SeamCounts:
        return SeamCounts(
            self.at_ends - other.at_ends,
            self.pairs_at_ends - other.pairs_at_ends,
            self.beside - other.beside,
            self.pairs_beside - other.pairs_beside,
        )

    @property
    def score(self) -> float:
        """How much more often classes change at window ends than beside them: 1 is no seam.

        NaN where there is nothing to compare.
        """
        if not (self.pairs_at_ends and self.beside):
            return float("nan")
        return (self.at_ends / self.pairs_at_ends) / (self.beside / self.pairs_beside)

    @classmethod
    def total(cls, counts: Iterable[SeamCounts]) -> SeamCounts:
        """All of them together."""
        return sum(counts, cls())


def seam_score(blocks: Collection[SeamCounts]) -> tuple[float, float]:
    """The score of all blocks together and its standard error, NaN where they are not known.

    The error is the jackknife's over blocks (Efron and Stein, 1981): neighbouring pixels of one
    outline are no two observations.
    """
    whole, n = SeamCounts.total(blocks), len(blocks)
    without = [(whole - one).score for one in blocks]
    known = [score for score in without if score == score]
    if len(known) < max(2, n):
        return whole.score, float("nan")
    return whole.score, float(np.std(known) * (n - 1) ** 0.5)


def seam_text(blocks: Collection[SeamCounts]) -> str:
    """The score in words; empty where there is nothing to compare."""
    score, error = seam_score(blocks)
    if score != score:
        return ""
    about = "" if error != error else f" ± {error:.2f}"
    return f"Seam score {score:.2f}{about} (1: classes change at window ends as often as beside)."


def count_seams(
    class_map: NDArray[np.uint8], rows: Sequence[int], columns: Sequence[int]
) -> SeamCounts:
    """Changes of class in a map in which windows begin or end before these rows and columns."""
    counts = SeamCounts()
    for axis, ends in enumerate((rows, columns)):
        n, across = class_map.shape[axis], class_map.shape[1 - axis]
        if n < 2:
            continue
        before, after = (
            (class_map[:-1], class_map[1:]) if axis == 0 else (class_map[:, :-1], class_map[:, 1:])
        )
        changes = np.count_nonzero(before != after, axis=1 - axis)
        near, beside = np.zeros(n - 1, bool), np.zeros(n - 1, bool)
        for end in ends:
            near[max(0, end - 1 - NEAR_PX) : end + NEAR_PX] = True
            beside[max(0, end - 1 - ROUND_PX) : end + ROUND_PX] = True
        beside &= ~near
        counts += SeamCounts(
            int(changes[near].sum()),
            int(near.sum()) * across,
            int(changes[beside].sum()),
            int(beside.sum()) * across,
        )
    return counts


def cut_objects(
    class_map: NDArray[np.uint8],
    rows: Sequence[int],
    columns: Sequence[int],
    least_px: int = 16,
    other: NDArray[np.uint8] | None = None,
) -> tuple[int, int]:
    """Objects that end in a straight line where a window does, and all objects.

    An object is an 8-connected area of a class; it is cut where at least ``least_px`` neighbouring
    pixels of it meet another class across one window's end. Edges that happen to be straight there
    are no cuts: with the classes of ``other`` windows, only edges that are gone with them count.
    """
    from skimage.measure import label

    objects = np.asarray(label(class_map, connectivity=2, background=0))
    cut: set[int] = set()
    for axis, ends in enumerate((rows, columns)):
        for end in ends:
            if not 0 < end < class_map.shape[axis]:
                continue
            mine, classes = (
                [np.take(values, at, axis) for at in (end - 1, end)]
                for values in (objects, class_map)
            )
            straight = classes[0] != classes[1]
            if other is not None:
                straight &= np.take(other, end - 1, axis) == np.take(other, end, axis)
            for side in mine:
                own = np.where(straight, side, 0)
                starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
                lengths = np.diff(np.r_[starts, len(own)])
                cut |= {int(own[at]) for at in starts[lengths >= least_px]}
    return len(cut - {0}), int(objects.max(initial=0))

"""Which windows of an image are worth painting first, of those that a model has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.working_grid import WorkingGrid

WINDOW_CELLS = 24
"""Side of a suggested region in cells of the network, four of its pixels each."""
PAINTED = 0.05
"""A window of which this part is painted is known; less counts less."""
TOUCHED = 0.02
"""A window of which this part is painted is not suggested again."""
TRUSTED = 8
"""When so many windows are painted, the model's doubt weighs half."""
WIDTH = 0.5
"""Likeness is 1/e at so many median squared distances between windows."""
KINDS = 512
"""Windows that stand for all of a large region when likeness is compared."""
CANDIDATES = 1024
"""At most so many windows, evenly spread over a large region, are compared with those."""
MOST_WINDOWS = 2**14
"""Of a slide so many unpainted windows are remembered, evenly spread."""


@dataclass(frozen=True)
class Suggestion:
    """A level-0 region worth painting, and the two classes the model wavers between.

    ``score``: the part of everything, weighed by how unsure it is, that lies in windows like this
    one, and not like those painted or suggested before it.
    """

    region: Region
    score: float
    classes: tuple[str, str]


@dataclass(frozen=True)
class Window:
    """A candidate: cells, mean uncertainty, painted part, mean features, class probabilities."""

    cells: Region
    uncertainty: float
    painted: float
    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @property
    def n_cells(self) -> int:
        """Of a window that a tile's side cuts, fewer."""
        return self.cells.height * self.cells.width


class Windows:
    """The windows seen so far, one a place; of very many every second, every fourth … is kept.

    Painted ones are all kept: without them what is known would be forgotten.
    """

    def __init__(self, most: int = MOST_WINDOWS) -> None:
        self._most, self._step = most, 1
        self._found: dict[tuple[int, int], Window] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Window]:
        return iter(self._found.values())

    def add(self, windows: Iterator[Window]) -> None:
        """More of them; a larger part of a place takes a smaller one's."""
        for window in windows:
            place = (window.cells.y // WINDOW_CELLS, window.cells.x // WINDOW_CELLS)
            known = self._found.get(place)
            if known is None or window.n_cells >= known.n_cells:
                self._found[place] = window
        self._thin()
        while sum(not w.painted for w in self) > self._most:
            self._step *= 2
            self._thin()

    def _thin(self) -> None:
        """By a lattice: the bits in which row and column differ."""
        if self._step > 1:
            self._found = {
                (row, column): window
                for (row, column), window in self._found.items()
                if window.painted or (row ^ column) % self._step == 0
            }

    def best(
        self, grid: WorkingGrid, region: Region, names: Sequence[str], n: int
    ) -> tuple[Suggestion, ...]:
        """The best windows, one after the other, each unlike those before it.

        See :func:`~napari_pathsam.inference.uncertainty.where_next`.

        Parameters
        ----------
        region
            Suggestions lie in these level-0 pixels.
        names
            Of the classes, background first.
        n
            So many at most.
        """
        windows = [*self]
        if not windows:
            return ()
        part = np.array([w.painted for w in windows])
        unsure = np.array([w.uncertainty for w in windows])
        stands_for = np.where(part > 0, 1.0, self._step)  # windows, those left out included
        n_painted = np.count_nonzero(part >= TOUCHED)
        trust = n_painted / (n_painted + TRUSTED)
        doubt = stands_for * unsure
        weight = (1 - trust) * stands_for / stands_for.sum() + trust * doubt / max(
            1e-12, doubt.sum()
        )
        kinds = np.arange(len(windows))[:: -(-len(windows) // KINDS)]
        weight = weight[kinds] / weight[kinds].sum()
        of_kinds = _features(windows, kinds)
        width = WIDTH * max(float(np.median(_squared_distance(of_kinds, of_kinds))), 1e-12)
        painted = np.flatnonzero(part)[-CANDIDATES:]
        known = np.minimum(1.0, part[painted, None] / PAINTED)
        likeness = np.exp(-_squared_distance(_features(windows, painted), of_kinds) / width)
        covered = (likeness * known).max(axis=0, initial=0.0)
        free = np.flatnonzero(part < TOUCHED)
        chosen_from = free[:: max(1, -(-len(free) // CANDIDATES))]
        alike = np.exp(-_squared_distance(_features(windows, chosen_from), of_kinds) / width)
        found: list[Suggestion] = []
        while len(found) < min(n, len(chosen_from)):
            gain = np.maximum(alike - covered, 0) @ weight
            best = int(gain.argmax())
            if gain[best] <= 0:
                break
            covered = np.maximum(covered, alike[best])
            window = windows[chosen_from[best]]
            at = grid.level0_of(window.cells).intersection(region)
            first, second = np.argsort(-window.probabilities)[:2]
            if at is not None:
                classes = (names[int(first)], names[int(second)])
                found.append(Suggestion(at, float(gain[best]), classes))
        return tuple(found)


def _features(windows: Sequence[Window], which: NDArray[np.intp]) -> NDArray[np.float64]:
    """``(n, D)`` of some of the windows."""
    n = len(windows[0].features)
    return np.array([windows[i].features for i in which], np.float64).reshape(-1, n)


def _squared_distance(
    ones: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(m, n)``, of every row of one to every row of the other."""
    between = (ones**2).sum(1)[:, None] + (others**2).sum(1) - 2 * ones @ others.T
    found: NDArray[np.float64] = np.maximum(between, 0)
    return found

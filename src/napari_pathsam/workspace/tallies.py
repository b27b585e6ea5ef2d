"""Changed pixels by id, and the boxes of pixels and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region


@dataclass(frozen=True)
class Tally:
    """The changed pixels of one id: how many, where, and the class of the first."""

    n: int
    box: Region
    class_id: int


class Tallies(dict[int, Tally]):
    """By id; of others nothing changed."""

    def __missing__(self, key: int) -> Tally:
        return Tally(0, Region(0, 0, 1, 1), 0)


def tally(ids: NDArray, rows: NDArray, cols: NDArray, classes: NDArray) -> Tallies:
    """Count changed pixels by id in one sort, however many ids there are."""
    if (ids == ids[0]).all():
        box = span(rows, cols)
        return Tallies({int(ids[0]): Tally(len(ids), box, int(classes[0]))})
    order = np.argsort(ids, kind="stable")
    ids, rows, cols, classes = ids[order], rows[order], cols[order], classes[order]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    counts = np.diff(np.append(first, len(ids)))
    y0, y1 = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first)
    x0, x1 = np.minimum.reduceat(cols, first), np.maximum.reduceat(cols, first)
    return Tallies(
        {
            int(ids[at]): Tally(
                int(counts[k]),
                Region(int(y0[k]), int(x0[k]), int(y1[k] - y0[k]) + 1, int(x1[k] - x0[k]) + 1),
                int(classes[at]),
            )
            for k, at in enumerate(first)
        }
    )


def span(rows: NDArray, cols: NDArray) -> Region:
    """The tight box of pixels."""
    y, x = int(rows.min()), int(cols.min())
    return Region(y, x, int(rows.max()) - y + 1, int(cols.max()) - x + 1)


def _bounds(mask: NDArray[np.bool_]) -> Region | None:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Region(
        int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
    )


def within(region: Region, mask: NDArray[np.bool_]) -> Region:
    """The tight box of a mask that lies at ``region``."""
    tight = _bounds(mask)
    if tight is None:
        return region
    return Region(region.y + tight.y, region.x + tight.x, *tight.shape_yx)


def union(boxes: list[Region]) -> Region:
    """The smallest region that holds them all."""
    y, x = min(b.y for b in boxes), min(b.x for b in boxes)
    y1, x1 = max(b.y + b.height for b in boxes), max(b.x + b.width for b in boxes)
    return Region(y, x, y1 - y, x1 - x)


def grown(mask: NDArray[np.bool_], region: Region, box: Region) -> tuple[NDArray[np.bool_], Region]:
    """A mask on the region that covers a box as well."""
    whole = union([region, box])
    out = np.zeros(whole.shape_yx, bool)
    y, x = region.y - whole.y, region.x - whole.x
    out[y : y + region.height, x : x + region.width] = mask
    return out, whole

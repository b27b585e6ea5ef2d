"""Objects that touch: apart by their shape or where a model is unsure; gaps between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import EIGHT, regions, relabel

LEAST = 5e-4
"""Probabilities are kept this far from 0 and 1, so that their odds are finite."""


def merge_wide_necks(parts: NDArray[np.int32], neck: float) -> NDArray[np.int32]:
    """Join parts whose common border is no neck.

    A border's width is the largest distance to the background found on it; where that reaches
    ``neck`` of the largest distance inside the slimmer of the two parts, they are one object. The
    widest borders are judged first, so a worm cut into many pieces becomes one again. Touching
    objects are so told apart by their shape, whatever their size.

    Parameters
    ----------
    parts
        ``(H, W)`` ids, as a watershed on the distance to the background leaves them.
    neck
        From 0 (all that touches is one) to above 1 (nothing is joined).

    Returns
    -------
    ``(H, W)`` ids 1, 2, …
    """
    n = int(parts.max(initial=0))
    if n < 2:
        return parts.copy()
    inside = parts != 0
    distance = ndimage.distance_transform_edt(inside) if not inside.all() else np.ones(parts.shape)
    peak = np.zeros(n + 1)
    np.maximum.at(peak, parts.ravel(), distance.ravel())
    borders = _borders(parts, distance)
    owner = np.arange(n + 1)
    while borders:
        (a, b), width = max(borders.items(), key=lambda item: _ratio(item, peak))
        if _ratio(((a, b), width), peak) < neck:
            break
        owner[owner == b] = a
        peak[a] = max(peak[a], peak[b])
        merged: dict[tuple[int, int], float] = {}
        for pair, found in borders.items():
            i, j = sorted(a if part == b else part for part in pair)
            if i != j:
                merged[i, j] = max(found, merged.get((i, j), 0.0))
        borders = merged
    _, compact = np.unique(owner, return_inverse=True)  # background stays 0
    joined: NDArray[np.int32] = compact[parts].astype(np.int32)
    return joined


def _ratio(border: tuple[tuple[int, int], float], peak: NDArray[np.float64]) -> float:
    """How wide a border is for the slimmer of its two parts."""
    (a, b), width = border
    return float(width / min(peak[a], peak[b]))


def _borders(
    parts: NDArray[np.int32], distance: NDArray[np.float64]
) -> dict[tuple[int, int], float]:
    """The largest distance to the background on the border of each two parts that touch."""
    found: dict[tuple[int, int], float] = {}
    views = (
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    )
    for here, there in views:
        a, b = parts[here], parts[there]
        at = (a != b) & (a != 0) & (b != 0)
        widths = np.minimum(distance[here][at], distance[there][at])
        for i, j, width in zip(a[at].tolist(), b[at].tolist(), widths.tolist(), strict=True):
            pair = (min(i, j), max(i, j))
            found[pair] = max(width, found.get(pair, 0.0))
    return found


def split_by_seeds(
    mask: NDArray[np.bool_], likely: NDArray[np.floating], seed: float, smallest_px: int = 1
) -> NDArray[np.int32]:
    """Objects that touch where a model is less sure, apart.

    Each grows from a 4-connected area that is at least ``seed`` likely and has ``smallest_px``
    pixels, by a watershed on the probability; what has no such area stays in one piece.

    Parameters
    ----------
    mask
        ``(H, W)``, True in objects.
    likely
        ``(H, W)``, their probability.

    Returns
    -------
    ``(H, W)`` ids from 1, non-zero exactly where ``mask`` is.
    """
    from skimage.segmentation import watershed

    cores, n = ndimage.label(mask & (likely >= seed))
    small = np.bincount(cores.ravel(), minlength=n + 1) < smallest_px
    cores = np.where(small[cores], 0, cores)
    components, _ = ndimage.label(mask, structure=EIGHT)
    seeded = np.zeros(int(components.max(initial=0)) + 1, bool)
    seeded[components[cores > 0]] = True
    bare = mask & ~seeded[components]
    seeds = np.where(bare, components + n, cores)
    return relabel(watershed(-likely, seeds, mask=mask, connectivity=EIGHT))


def split_by_drop(
    mask: NDArray[np.bool_], likely: NDArray[np.floating], drop: float, smallest_px: int = 1
) -> NDArray[np.int32]:
    """Objects that touch where a model is less sure than in the rest of them, apart.

    As :func:`split_by_seeds`, where each connected area says itself how sure its seeds are: their
    log odds are at most ``drop`` below those that a tenth of the area's pixels exceed. So an area
    of which the model is not very sure is no more often divided than one of which it is.
    """
    out = np.zeros(mask.shape, np.int32)
    odds = np.log(likely.clip(LEAST, 1 - LEAST)) - np.log1p(-likely.clip(LEAST, 1 - LEAST))
    areas, _ = ndimage.label(mask, structure=EIGHT)
    for area, box in regions(areas).items():
        inside, here = areas[box.slices] == area, odds[box.slices]
        enough = np.quantile(here[inside], 0.9) - drop
        parts = split_by_seeds(inside, here, enough, smallest_px)
        out[box.slices][inside] = parts[inside] + out.max()
    return out


def gaps_between(labels: NDArray[np.integer], widest_px: float) -> NDArray[np.bool_]:
    """Background between two objects that are at most ``widest_px`` apart.

    A pixel belongs to a gap where its distances to the nearest and to the second nearest object
    add up to no more. Of objects that touch, the pixels next to the other object belong to it, too.

    Source of the distances: Ronneberger et al., MICCAI 2015 (U-Net), eq. 2, which weights by them.
    """
    nearest = np.full((2, *labels.shape), np.inf, np.float32)
    reach = int(np.ceil(widest_px)) + 1
    whole = Region.of(labels.shape)
    for label, box in regions(labels).items():
        around = Region(
            box.y - reach, box.x - reach, box.height + 2 * reach, box.width + 2 * reach
        ).intersection(whole)
        assert around is not None
        here = ndimage.distance_transform_edt(labels[around.slices] != label).astype(np.float32)
        first, second = nearest[(slice(None), *around.slices)]
        np.minimum(second, np.maximum(first, here), out=second)
        np.minimum(first, here, out=first)
    allowed = np.where(labels == 0, widest_px, np.sqrt(2))
    gaps: NDArray[np.bool_] = nearest.sum(axis=0) <= allowed
    return gaps

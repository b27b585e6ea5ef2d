"""Label maps: fill holes, drop specks, split what touches, outline; pure functions on arrays.

A label map is an integer array ``(H, W)`` with 0 for background. Every function returns a new
array and leaves its argument as it is; empty arrays are allowed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.geometry import Region

EIGHT = np.ones((3, 3), bool)
"""Pixels that share a corner touch."""


def regions(labels: NDArray[np.integer]) -> dict[int, Region]:
    """The tight region of each id, in array pixels; time and memory follow pixels, not ids."""
    ids, compact = _compact(labels)
    found = ndimage.find_objects(compact) if len(ids) else []
    return {
        int(label): Region(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        for label, (rows, cols) in zip(ids, found, strict=True)
    }


def areas(labels: NDArray[np.integer]) -> dict[int, int]:
    """Pixels of each id."""
    ids, counts = np.unique(labels, return_counts=True)
    return {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i != 0}


def relabel(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """The same objects with the ids 1, 2, … in the order of their old ids."""
    return _compact(labels)[1]


def fill_holes(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Give an object the background it encloses; other objects inside it stay theirs.

    A hole is background that cannot leave the object by 4-connected steps: also background round
    another object that lies in the hole is filled.
    """
    filled = labels.copy()
    for label, region in regions(labels).items():
        crop = filled[region.slices]
        whole = ndimage.binary_fill_holes(labels[region.slices] == label)
        crop[whole & (crop == 0)] = label
    return filled


def remove_small(labels: NDArray[np.integer], smallest_px: int) -> NDArray[np.integer]:
    """Without the objects of less than ``smallest_px`` pixels (all pieces of an id together)."""
    ids, compact = _compact(labels)
    counts = np.bincount(compact.ravel(), minlength=len(ids) + 1)
    small = counts < smallest_px
    small[0] = False
    kept: NDArray[np.integer] = np.where(small[compact], 0, labels).astype(labels.dtype)
    return kept


def split_touching(binary: NDArray[np.bool_], min_distance_px: float) -> NDArray[np.int32]:
    """Round objects that touch, apart: watershed on the distance transform.

    Seeds are maxima of the distance to the background (smoothed a little, so that a ragged edge
    makes no seeds of its own) that lie at least ``min_distance_px`` apart; each 8-connected
    component keeps at least one, so nothing is lost. The same input gives the same ids.

    Parameters
    ----------
    binary
        ``(H, W)``, True (or non-zero) in objects.
    min_distance_px
        Least distance of two seeds: about the radius of the smallest object to be told apart.

    Returns
    -------
    ``(H, W)`` ids from 1, non-zero exactly where ``binary`` is.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    mask = np.asarray(binary) != 0
    components, n = ndimage.label(mask, structure=EIGHT)
    if n == 0:
        return np.zeros(mask.shape, np.int32)
    # The image's border is no background: a nucleus cut by it is not narrower for that.
    distance = ndimage.distance_transform_edt(mask) if not mask.all() else np.ones(mask.shape)
    smooth = ndimage.gaussian_filter(distance, min(1.0, min_distance_px / 4)) * mask
    peaks = peak_local_max(
        smooth,
        min_distance=max(1, round(min_distance_px)),
        labels=components,
        exclude_border=False,
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    _seed_the_rest(seeds, components, n)
    split = watershed(-smooth, seeds, mask=mask, connectivity=EIGHT)
    return np.asarray(split, np.int32)


def _seed_the_rest(seeds: NDArray[np.int32], components: NDArray[np.integer], n: int) -> None:
    """Seed every component that has none, in place, at its first pixel."""
    seeded = np.zeros(n + 1, bool)
    seeded[np.unique(components[seeds > 0])] = True
    seeded[0] = True
    flat = components.ravel()
    bare = np.flatnonzero(~seeded[flat])
    if bare.size:
        _, first = np.unique(flat[bare], return_index=True)
        at = bare[first]
        seeds.ravel()[at] = np.arange(len(at)) + seeds.max() + 1


def halved(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Half as fine: of every 2 × 2 pixels the id that most have, so that no ids are mixed.

    Of two ids with two pixels each the greater is taken, so that a thin line stays; of four
    different ones, too.

    Parameters
    ----------
    labels
        ``(H, W)``, both even.

    Returns
    -------
    ``(H / 2, W / 2)`` of the same type.
    """
    a, b = labels[::2, ::2], labels[::2, 1::2]
    c, d = labels[1::2, ::2], labels[1::2, 1::2]
    a, b, c, d = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    lowest, a, highest, b = np.minimum(a, c), np.maximum(a, c), np.maximum(b, d), np.minimum(b, d)
    low, high = np.minimum(a, b), np.maximum(a, b)
    pair = np.where((lowest == low) & (low != high), lowest, low)
    alone = (lowest != low) & (low != high)
    half: NDArray[np.integer] = np.where((high == highest) | alone, highest, pair)
    return half


def outline(labels: NDArray[np.integer], *, width_px: int = 1) -> NDArray[np.bool_]:
    """Pixels of objects within ``width_px`` of another object, background or the image's end.

    Distance in steps to any of the four neighbours; touching objects are both outlined.
    """
    edge = np.zeros(labels.shape, bool)
    if not labels.size:
        return edge
    padded = np.pad(labels, 1)
    middle = padded[1:-1, 1:-1]
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        edge |= other != middle
    edge &= labels != 0
    if width_px > 1:
        thick = ndimage.binary_dilation(edge, iterations=width_px - 1, mask=labels != 0)
        edge |= thick
    return edge


def _compact(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Non-zero ids, ascending, and the map with 1, 2, … in their place."""
    ids, inverse = np.unique(labels, return_inverse=True)
    compact = inverse.reshape(labels.shape).astype(np.int32)
    zero = int(np.searchsorted(ids, 0))
    if zero < len(ids) and ids[zero] == 0 and zero == 0:
        return ids[1:], compact
    if zero == 0:
        return ids, compact + np.int32(1)
    raise ValueError(f"A label map has no negative ids; {int(ids[0])} came.")

"""Class maps: specks and holes take the class that lies round them; pure functions on arrays.

A class map is a uint8 array ``(H, W)`` of class ids with 0 for background and 255 for "unsure".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNSURE = 255
"""What a class map says where no class is likely enough; no class has this id."""

BAND_PX = 512
FOUR, EIGHT = 1, 2
"""Connectivity: pixels that share a side; those that share a corner too."""


def drop_specks(class_map: NDArray[np.uint8], smallest_px: int) -> NDArray[np.uint8]:
    """Give the 8-connected areas of a class below ``smallest_px`` pixels to what is round them.

    They become what most of their border touches, background included; specks do not count for
    each other while anything else is there. "Unsure" is no class and stays.
    """
    areas, values, sizes = _areas(np.where(class_map == UNSURE, 0, class_map), EIGHT, background=0)
    small = (sizes < smallest_px) & (values > 0)
    return _absorbed(class_map, areas, small)


def fill_enclosed(class_map: NDArray[np.uint8], largest_px: int) -> NDArray[np.uint8]:
    """Give background of at most ``largest_px`` pixels that classes enclose to what is round it.

    Enclosed is what cannot leave by 4-connected steps; at the image's end it is open.
    """
    areas, _, sizes = _areas((class_map == 0).astype(np.uint8), FOUR, background=0)
    inside = sizes <= largest_px
    inside[0] = False
    for side in (areas[0], areas[-1], areas[:, 0], areas[:, -1]):
        inside[side] = False
    return _absorbed(class_map, areas, inside)


def unsure_areas(
    class_map: NDArray[np.uint8],
    likely: NDArray[np.floating],
    least: float,
    longest_px: float | None = None,
) -> NDArray[np.uint8]:
    """Make the 8-connected areas of a class "unsure" that are on average less likely than this.

    Parameters
    ----------
    class_map
        ``(H, W)`` ids.
    likely
        ``(H, W)`` probability of what it says.
    least
        The mean over an area that is enough.
    longest_px
        Areas with more rows or columns are left as they are; None: none are.
    """
    from skimage.measure import regionprops

    known = np.where(class_map == UNSURE, 0, class_map)
    areas, values, sizes = _areas(known, EIGHT, background=0)
    total = np.zeros(len(sizes))
    for top in range(0, len(areas), BAND_PX):  # in 64 bits, so not all at once
        band = np.s_[top : top + BAND_PX]
        total += np.bincount(areas[band].ravel(), likely[band].ravel(), len(sizes))
    doubtful = (values > 0) & (total < least * sizes)
    if longest_px is not None:
        for area in regionprops(np.where(doubtful[areas], areas, 0)):
            top, left, bottom, right = area.bbox
            doubtful[area.label] = max(bottom - top, right - left) <= longest_px
    return np.where(doubtful[areas], UNSURE, class_map).astype(np.uint8)


def _areas(
    class_map: NDArray[np.uint8], connectivity: int, *, background: int
) -> tuple[NDArray[np.integer], NDArray[np.uint8], NDArray[np.integer]]:
    """Connected areas of one value, the value of each and its pixels; area 0 is background."""
    from skimage.measure import label

    areas = label(class_map, connectivity=connectivity, background=background)
    sizes = np.bincount(areas.ravel())
    values = np.zeros(len(sizes), np.uint8)
    values[areas.ravel()] = class_map.ravel()
    return areas, values, sizes


def _absorbed(
    class_map: NDArray[np.uint8], areas: NDArray[np.integer], small: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The map with small areas in the class most of their border touches."""
    if not small.any():
        return class_map.copy()
    is_small = small[areas]
    number = np.cumsum(small) - 1  # small areas counted from 0
    votes = np.zeros((int(small.sum()), 256), np.int64)
    for axis in (0, 1):
        for forward in (True, False):
            here, there = slice(None, -1), slice(1, None)
            if not forward:
                here, there = there, here
            index = [(here, slice(None)), (slice(None), here)][axis]
            other = [(there, slice(None)), (slice(None), there)][axis]
            at = is_small[index] & ~is_small[other]
            who, what = number[areas[index][at]], class_map[other][at]
            counts = np.bincount(who * 256 + what, minlength=votes.size)
            votes += counts.reshape(votes.shape)
    # What has nothing but specks round it becomes background, and so does what touches only that.
    winner = votes.argmax(axis=1).astype(np.uint8)
    filled = class_map.copy()
    filled[is_small] = winner[number[areas[is_small]]]
    return filled

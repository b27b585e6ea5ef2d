"""What a data set does not hold and a model should have seen: blank glass, other tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_pathsam.training.class_data import IGNORE, TrainingImage, at_mpp

GLASS_ABOVE = 215
"""Pixels brighter than this in every colour are taken for glass."""
SIDE = 3
"""A composite is so many tiles wide and high."""


def blank_glass(mpp: float) -> TrainingImage:
    """The packaged skin sample (CC0): background where it is blank, not labelled elsewhere."""
    from napari_pathsam.samples import load_sample

    sample = load_sample("skin")
    blank = ndimage.binary_erosion(sample.image.min(axis=2) > GLASS_ABOVE, iterations=4)
    target = np.where(blank, 0, IGNORE).astype(np.int16)
    image, target = at_mpp(sample.image, target, sample.mpp, mpp)
    return TrainingImage(image, target, "glass", "glass")


def composites(tiles: Sequence[TrainingImage], n: int, *, seed: int = 5) -> list[TrainingImage]:
    """``n`` images of 3 × 3 tiles drawn at random, cut to the size of the smallest."""
    side = min(min(tile.target.shape) for tile in tiles)
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        chosen = [tiles[int(i)] for i in rng.integers(len(tiles), size=SIDE * SIDE)]
        rows = [chosen[i : i + SIDE] for i in range(0, len(chosen), SIDE)]
        image = np.block([[[one.image[:side, :side]] for one in row] for row in rows])
        target = np.block([[one.target[:side, :side] for one in row] for row in rows])
        found.append(TrainingImage(image, target, f"composite {number}", "composites"))
    return found

"""What a data set does not hold and a model should have seen: blank glass, other tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_pathsam.training.class_images import IGNORE, TrainingImage, at_mpp

GLASS_ABOVE = 215
"""Pixels brighter than this in every colour are taken for glass."""
SIDE = 3
"""A composite is so many tiles wide and high."""


def blank_glass(n: int, mpp: float, *, seed: int = 6) -> list[TrainingImage]:
    """``n`` pictures of blank glass: its edge to tissue, and nothing but glass, in turn.

    The first is the packaged skin sample (CC0), background where it is blank and not labelled
    elsewhere; the others are plain, of the brightness that glass has on different scanners.
    """
    from napari_pathsam.samples import load_sample

    sample = load_sample("skin")
    blank = ndimage.binary_erosion(sample.image.min(axis=2) > GLASS_ABOVE, iterations=4)
    target = np.where(blank, 0, IGNORE).astype(np.int16)
    image, target = at_mpp(sample.image, target, sample.mpp, mpp)
    edge = TrainingImage(image, target, "glass beside tissue", "glass")
    rng = np.random.default_rng(seed)
    return [edge if i % 2 == 0 else _plain(rng) for i in range(n)]


def _plain(rng: np.random.Generator, side: int = 256) -> TrainingImage:
    """Glass alone: nearly white, nearly grey, with the noise and the dust of a scan."""
    colour = rng.uniform(225, 252) + rng.uniform(-4, 4, 3)
    noise = rng.normal(0, rng.uniform(0.5, 3), (side, side, 1))
    dust = ndimage.gaussian_filter(rng.normal(0, 1, (side, side, 1)), (6, 6, 0)) * rng.uniform(
        0, 40
    )
    image = np.clip(colour + noise + dust, 0, 255).astype(np.uint8)
    return TrainingImage(image, np.zeros((side, side), np.int16), "glass", "glass")


def composites(tiles: Sequence[TrainingImage], n: int, *, seed: int = 5) -> list[TrainingImage]:
    """``n`` images of 3 × 3 tiles drawn at random, cut to the size of the smallest."""
    side = min(min(tile.shape_yx) for tile in tiles)
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        chosen = [tiles[int(i)] for i in rng.integers(len(tiles), size=SIDE * SIDE)]
        rows = [chosen[i : i + SIDE] for i in range(0, len(chosen), SIDE)]
        image = np.block([[[one.image[:side, :side]] for one in row] for row in rows])
        target = np.block([[one.target[:side, :side] for one in row] for row in rows])
        found.append(TrainingImage(image, target, f"composite {number}", "composites"))
    return found

"""Touching objects stay apart, one object is not cut."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.label_map import split_touching
from napari_pathsam.core.splitting import merge_wide_necks


def discs(*at: tuple[int, int, int], shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.any([(rows - y) ** 2 + (columns - x) ** 2 <= r * r for y, x, r in at], axis=0)


def count(mask: np.ndarray, neck: float = 0.7) -> int:
    return int(merge_wide_necks(split_touching(mask, 2), neck).max())


@pytest.mark.parametrize(
    ("mask", "n"),
    [
        (discs((30, 20, 12), (30, 42, 12)), 2),
        (discs((30, 20, 12), (30, 40, 8), (12, 20, 7)), 3),
        (discs((30, 25, 12), (30, 32, 12)), 1),
        (np.pad(np.ones((9, 70), bool), 10), 1),
        (discs((30, 40, 25)) & ~discs((30, 40, 12)), 1),
        (np.zeros((5, 5), bool), 0),
        (np.ones((5, 5), bool), 1),
    ],
)
def test_how_many(mask: np.ndarray, n: int) -> None:
    assert count(mask) == n


def test_a_ragged_worm_is_one(rng: np.random.Generator) -> None:
    rows, columns = np.ogrid[:80, :160]
    worm = np.abs(rows - 40 - 10 * np.sin(columns / 22)) < 9 + 1.0 * np.sin(columns / 3)
    worm &= (columns > 8) & (columns < 150)
    pieces = split_touching(worm, 2)
    assert pieces.max() > 3
    assert merge_wide_necks(pieces, 0.7).max() == 1


def test_nothing_is_lost_and_the_limits_mean_what_they_say(rng: np.random.Generator) -> None:
    mask = ndimage.gaussian_filter(rng.normal(size=(80, 80)), 3) > 0
    parts = split_touching(mask, 2)
    joined = merge_wide_necks(parts, 0.7)
    assert ((joined != 0) == mask).all()
    assert (np.unique(joined) == np.arange(joined.max() + 1)).all()
    assert merge_wide_necks(parts, 0.0).max() == ndimage.label(mask, np.ones((3, 3)))[1]
    assert merge_wide_necks(parts, 1.1).max() == parts.max()

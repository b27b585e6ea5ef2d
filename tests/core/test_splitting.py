"""Touching objects stay apart, one object is not cut."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.label_map import split_touching
from napari_pathsam.core.splitting import (
    gaps_between,
    merge_wide_necks,
    split_by_drop,
    split_by_seeds,
)


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


def test_objects_grow_from_where_a_model_is_sure() -> None:
    """A bar is sure at both ends and unsure in the middle; beside it lies one that never is."""
    mask = np.zeros((30, 60), bool)
    mask[5:15, 5:55] = mask[20:28, 5:55] = True
    likely = np.where(mask, 0.6, 0.1)
    likely[6:14, 6:25] = likely[6:14, 34:54] = 0.95
    likely[10, 29] = 0.95  # too small to be a seed
    parts = split_by_seeds(mask, likely, 0.9, smallest_px=4)
    assert ((parts != 0) == mask).all()
    assert sorted(np.unique(parts)) == [0, 1, 2, 3]
    assert parts[10, 8] != parts[10, 50]
    assert len(np.unique(parts[20:28, 5:55])) == 1
    assert split_by_seeds(mask, likely, 0.9).max() == 4
    assert split_by_seeds(mask, likely, 0.5).max() == 2
    assert split_by_seeds(np.zeros((4, 4), bool), np.ones((4, 4)), 0.5).max() == 0


@pytest.mark.parametrize("level", [3.0, 0.5])
def test_seeds_follow_how_sure_a_model_is_of_an_object(level: float) -> None:
    mask = discs((30, 25, 14), (30, 52, 14))
    odds = np.full(mask.shape, level)
    odds[:, 37:41] -= 2  # less sure where they touch
    odds[14:20, 20:30] -= 1  # and somewhere inside
    likely = 1 / (1 + np.exp(-odds))
    found = split_by_drop(mask, likely, 1.5, 30)
    assert np.array_equal(found > 0, mask)
    assert found.max() == 2
    assert found[30, 25] != found[30, 52]
    assert split_by_drop(mask, likely, 2.5, 30).max() == 1  # it does not drop so far
    assert split_by_drop(mask, likely, 1.5, mask.sum()).max() == 1  # no seed is large enough
    apart = discs((20, 20, 9), (40, 70, 9))
    assert split_by_drop(apart, likely, 1.5, 30).max() == 2


def test_gaps_lie_between_objects_that_are_close() -> None:
    labels = np.zeros((20, 60), np.int32)
    labels[4:16, 2:20], labels[4:16, 24:40], labels[4:16, 50:58] = 7, 2, 9
    gaps = gaps_between(labels, 6)
    assert gaps[10, 20:24].all()
    assert not gaps[:, 41:50].any()
    assert not gaps[0].any()
    assert not gaps[labels > 0].any()
    touching = np.where(labels == 2, 7, labels)
    touching[4:16, 20:24] = 2
    found = gaps_between(touching, 3)
    assert found[10, 19:21].all()
    assert found[10, 23:25].all()
    assert not found[10, 21:23].any()
    assert not gaps_between(np.zeros((4, 4), np.int32), 5).any()

"""Tiles cover what they must, overlap as they should, and their weights blend without seams."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile, plan_tiles, spread_out


def test_every_pixel_is_covered_and_neighbours_overlap(rng: np.random.Generator) -> None:
    for _ in range(300):
        shape = tuple(int(n) for n in rng.integers(1, 200, 2))
        tile = int(rng.integers(2, 70))
        overlap = int(rng.integers(0, tile))
        y, x = (int(rng.integers(0, n)) for n in shape)
        region = Region(
            y, x, int(rng.integers(1, shape[0] - y + 1)), int(rng.integers(1, shape[1] - x + 1))
        )
        tiles = plan_tiles(shape, tile_px=tile, overlap_px=overlap, region=region)
        seen = np.zeros(shape, int)
        for one in tiles:
            assert one.region.shape_yx == (min(tile, shape[0]), min(tile, shape[1]))
            assert Region.of(shape).intersection(one.region) == one.region
            seen[one.region.slices] += 1
        assert (seen[region.slices] > 0).all()
        for axis in ("y", "x"):
            begins = sorted({getattr(t.region, axis) for t in tiles})
            assert all(b - a <= tile - overlap for a, b in pairwise(begins))


def test_no_tile_too_many() -> None:
    def count(n: int, tile: int, overlap: int) -> int:
        return len(plan_tiles((n, 1), tile_px=tile, overlap_px=overlap))

    assert [count(n, 64, 16) for n in (1, 64, 65, 112, 113)] == [1, 1, 2, 2, 3]


def test_a_small_region_is_one_tile_round_it() -> None:
    (tile,) = plan_tiles((500, 500), tile_px=100, overlap_px=20, region=Region(200, 450, 60, 40))
    assert tile.region == Region(180, 400, 100, 100)
    assert tile.fade_px == (20, 20, 20, 0)
    assert plan_tiles((9, 9), tile_px=4, overlap_px=0, region=Region(20, 20, 3, 3)) == []


def test_what_is_looked_at_comes_first() -> None:
    view = Region(300, 310, 60, 60)
    tiles = plan_tiles((500, 500), tile_px=100, overlap_px=20, first=view)
    touching = [tile.region.intersection(view) is not None for tile in tiles]
    assert tiles[0].region.contains(330, 340)
    assert touching == sorted(touching, reverse=True)
    unordered = plan_tiles((500, 500), tile_px=100, overlap_px=20)
    assert sorted(map(str, tiles)) == sorted(map(str, unordered))


def test_spread_out_each_next_piece_is_the_farthest(rng: np.random.Generator) -> None:
    pieces = [Region(int(y), int(x), 7, 5) for y, x in rng.integers(0, 300, (60, 2))]
    ranks = [int(r) for r in rng.integers(0, 3, 60)]
    order = [*spread_out(pieces, ranks, Region(100, 100, 20, 20))]
    assert sorted(order) == [*range(60)]
    assert [ranks[i] for i in order] == sorted(ranks)

    def apart(i: int, y: float, x: float) -> float:
        return float(np.hypot(pieces[i].y + 3.5 - y, pieces[i].x + 2.5 - x))

    assert order[0] == min((i for i in range(60) if not ranks[i]), key=lambda i: apart(i, 110, 110))
    for done in range(1, 60):
        nearest = {
            i: min(apart(i, pieces[k].y + 3.5, pieces[k].x + 2.5) for k in order[:done])
            for i in order[done:] if ranks[i] == ranks[order[done]]
        }  # fmt: skip
        assert nearest[order[done]] == pytest.approx(max(nearest.values()))


def test_weights_fade_inside_the_image_only() -> None:
    weights = Tile(Region(0, 5, 8, 10), (0, 3, 4, 0)).weights()
    assert weights.shape == (8, 10)
    assert weights.min() > 0
    assert weights[0, -1] == 1
    assert (np.diff(weights[:, -1]) <= 0).all()
    assert (np.diff(weights[0]) >= 0).all()
    assert weights[-1, 0] < 0.02


def test_blending_neighbours_has_no_step() -> None:
    """Two tiles that say 0 and 1: what comes out rises from one to the other by little steps."""
    tiles = plan_tiles((1, 160), tile_px=100, overlap_px=40)
    total, weight = np.zeros(160), np.zeros(160)
    for value, tile in enumerate(tiles):
        weights = tile.weights()[0]
        total[tile.region.slices[1]] += value * weights
        weight[tile.region.slices[1]] += weights
    blended = total / weight
    assert (blended[:60], blended[100:]) == (pytest.approx(0), pytest.approx(1))
    assert 0 < np.diff(blended[59:101]).max() < 0.08


def test_overlap_must_leave_a_way_on() -> None:
    with pytest.raises(ValueError, match="below 64"):
        plan_tiles((100, 100), tile_px=64, overlap_px=64)

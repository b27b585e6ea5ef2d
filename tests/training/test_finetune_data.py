"""Painted pixels on the network's cells; tiles and targets turned alike; as few as will do."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.working_grid import WorkingGrid
from napari_pathsam.training.finetune_data import Look, _of_image, looks
from napari_pathsam.training.finetune_run import Box, RunImage, RunLabels, touched_tiles


def image_of(shape_yx: tuple[int, int], tiles: list[Region], tile_cells: int = 32) -> RunImage:
    return RunImage(
        name="", mpp=0.5, shape_yx=shape_yx, working_yx=shape_yx, cell_px=4.0,
        tile_cells=tile_cells, square=False, labels_at=Box.of(Region.of(shape_yx)),
        tiles=tuple(Box.of(t) for t in tiles),
    )  # fmt: skip


def test_every_painted_pixel_belongs_to_one_tile() -> None:
    tiles = [Region(0, 0, 32, 32), Region(0, 16, 32, 32)]
    image = image_of((128, 192), tiles)
    rng = np.random.default_rng(0)
    labels = (rng.random((128, 192)) < 0.1).astype(np.uint8)
    table = np.arange(256, dtype=np.int16)
    found = _of_image(image, RunLabels(labels, np.zeros(labels.shape, bool)), table)
    own = np.concatenate([pixels.index[pixels.own] for pixels in found])
    assert sorted(own) == np.flatnonzero(labels).tolist()
    seen = [len(pixels.y) for pixels in found]
    assert sum(seen) > len(own)  # where tiles overlap both train on it
    for pixels, tile in zip(found, tiles, strict=True):
        rows, columns = np.divmod(pixels.index, 192)
        np.testing.assert_allclose(pixels.y, (rows + 0.5) / 4 - tile.y, atol=1e-4)
        np.testing.assert_allclose(pixels.x, (columns + 0.5) / 4 - tile.x, atol=1e-4)


def test_a_thin_stroke_reaches_its_cells_and_most_pixels_decide() -> None:
    image = image_of((128, 128), [Region(0, 0, 32, 32)])
    labels = np.zeros((128, 128), np.uint8)
    labels[41, 10:90] = 1  # one pixel wide
    labels[42:44, 16:18] = 2  # four pixels of a cell that has four of 1, too
    labels[42:44, 20:24] = 2
    held = np.zeros(labels.shape, bool)
    held[41, 60:] = True
    table = np.full(256, -1, np.int16)
    table[[1, 2]] = 1, 2
    ((pixels),) = _of_image(image, RunLabels(labels, held), table)
    target = pixels.target((32, 32), (32, 32), 3)
    assert (target[10, 3:4] == 1).all()
    assert target[10, 5] == 2
    assert (target[10, 6:15] == 1).all()
    assert (target[10, 15:] == -1).all()  # held out
    coarse = pixels.target((16, 16), (32, 32), 3)
    assert (coarse[5, 3:7] == 1).all()
    assert (coarse >= 0).sum() == 7


def test_targets_of_large_tiles_hold_all_channels() -> None:
    image = image_of((1024, 1024), [Region(0, 0, 256, 256)], tile_cells=256)
    labels = np.zeros((1024, 1024), np.uint8)
    for channel in range(1, 8):
        labels[100 * channel : 100 * channel + 8, 1000:1008] = channel
    table = np.arange(256, dtype=np.int16)
    ((pixels),) = _of_image(image, RunLabels(labels, np.zeros(labels.shape, bool)), table)
    target = pixels.target((256, 256), (256, 256), 8)
    found = {c: np.argwhere(target == c).mean(0).tolist() for c in range(1, 8)}
    assert found == {c: [25.0 * c + 0.5, 250.5] for c in range(1, 8)}


@pytest.mark.parametrize("look", looks(9, 0, seed=3), ids=str)
def test_pixels_and_targets_turn_alike(look: Look) -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 200, (6, 10))
    pixels = target.astype(np.uint8)[..., None].repeat(3, 2)
    seen = Look(look.quarters, look.mirrored).pixels(pixels, 0.2)
    assert (seen[..., 0] == look.target(target)).all()
    changed = look.pixels(pixels, 0.2)
    assert changed.shape == seen.shape
    assert ((changed != seen).any()) == (look.colours is not None)


def test_looks_begin_with_the_tile_as_it_is_and_come_in_all_orientations() -> None:
    found = looks(8, tile=2, seed=0)
    assert found[0] == Look()
    assert len({(one.quarters, one.mirrored) for one in found}) == 8
    assert found == looks(12, tile=2, seed=0)[:8]
    assert found != looks(8, tile=3, seed=0)


def test_as_few_tiles_as_will_do() -> None:
    grid = WorkingGrid((1000, 1000), (1000, 1000), 4.0, 64, False)
    ys, xs = np.array([130, 150, 170]), np.array([130, 180, 140])
    assert len(touched_tiles(grid, ys, xs, None)) == 1
    far = touched_tiles(grid, np.append(ys, 980), np.append(xs, 980), None)
    assert len(far) == 2
    # Those of the region come first; what lies outside is covered too.
    region = Region(100, 100, 256, 256)
    inside = touched_tiles(grid, ys, xs, region)
    planned = [t.region for t in grid.tiles(0.25, grid.cells_of(region), None)]
    assert set(inside) <= set(planned)
    both = touched_tiles(grid, np.append(ys, 980), np.append(xs, 980), region)
    assert set(inside) < set(both)

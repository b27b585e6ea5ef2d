"""The map of where next: every tile in its place, of a slide coarser."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.finetune_map import UncertaintyMap
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.uncertainty import Seen

COVER = Region(7, 40, 61, 130)
TILES = (Region(7, 40, 32, 32), Region(36, 138, 32, 32), Region(20, 61, 32, 32))


@pytest.mark.parametrize(("most", "step"), [(61 * 130, 1), (3000, 2), (500, 4)])
def test_values_are_those_of_the_cells_they_stand_for(
    most: int, step: int, rng: np.random.Generator
) -> None:
    cells = np.full((200, 200), np.nan, np.float32)
    found = None
    for done, tile in enumerate(TILES, start=1):
        values = rng.random(tile.shape_yx).astype(np.float16)
        cells[tile.slices] = values
        seen = Seen(
            done, 3, tile, tile, (2.5, 2.0), COVER, values, (), share=0.0, tissue=True,
            seconds_left=0.0,
        )  # fmt: skip
        if found is None:
            found = UncertaintyMap(seen, most)
        else:
            found.add(seen)
    assert found is not None
    assert found.last.done == 3
    assert found.values.size <= most * 1.3
    for (i, j), value in np.ndenumerate(found.values):
        y, x = (c + k * step + step // 2 for c, k in ((COVER.y, i), (COVER.x, j)))
        np.testing.assert_equal(value, cells[y, x])
    assert np.isnan(found.values).any()
    assert found.region.shape_yx == (
        round(found.values.shape[0] * step * 2.5), round(found.values.shape[1] * step * 2.0)
    )  # fmt: skip
    assert (found.region.y, found.region.x) == (round(7 * 2.5), 80)

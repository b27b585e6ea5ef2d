"""How much tissue there is: of parts, of shapes, and where nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.tissue import Tissue, find_tissue, tissue_of

SHAPE = (101, 67)
MPP = 2.0


@pytest.fixture
def tissue(rng: np.random.Generator) -> Tissue:
    return Tissue(rng.random((13, 9)) < 0.5, SHAPE)


@pytest.mark.parametrize("region", [Region.of(SHAPE), Region(17, 5, 60, 31), Region(100, 66, 1, 1)])
def test_area_is_that_of_the_pixels_one_by_one(
    tissue: Tissue, region: Region, rng: np.random.Generator
) -> None:
    rows, columns = ((np.arange(n) + 0.5) / n for n in SHAPE)
    pixels = tissue.mask[(rows * 13).astype(int)[:, None], (columns * 9).astype(int)]
    seen = pixels[region.slices]
    within = rng.random(region.shape_yx) < 0.3
    assert tissue.mm2(MPP, region) == pytest.approx(seen.sum() * 4e-6)
    assert tissue.mm2(MPP, region, within) == pytest.approx((seen & within).sum() * 4e-6)
    if region == Region.of(SHAPE):
        assert tissue.mm2(MPP) == tissue.mm2(MPP, region)


class Picture:
    name = "picture"

    def __init__(self, color: tuple[int, int, int], side: int = 512) -> None:
        self.color, self.shape_yx = color, (side, side)

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
        return np.full((*shape_yx, 3), self.color, np.uint8)


def test_of_a_dark_ground_and_of_grey_no_area_is_said() -> None:
    stained = find_tissue(Picture((190, 110, 170)), 1.0)
    assert stained.mm2(1.0) == pytest.approx(512 * 512 * 1e-6)
    glowing = Tissue(np.ones((4, 4), bool), (512, 512), measured=False)
    assert glowing.mm2(1.0) is None
    assert find_tissue(Picture((10, 8, 40)), 1.0).mm2(1.0) is None
    grey = find_tissue(Picture((140, 140, 140)), 1.0)
    assert grey.mask.all()
    assert grey.mm2(1.0) is None
    assert tissue_of(Picture((243, 243, 243)), 1.0) is None

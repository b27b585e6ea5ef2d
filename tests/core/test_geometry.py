"""Region: whole level-0 pixels, pixel centres on whole numbers."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region


def test_slices_and_shape_agree():
    image = np.arange(20 * 30).reshape(20, 30)
    region = Region(3, 5, 7, 11)
    assert image[region.slices].shape == region.shape_yx == (7, 11)
    assert image[region.slices][0, 0] == image[3, 5]
    assert Region.of((20, 30)) == Region(0, 0, 20, 30)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (-1, 5)])
def test_an_empty_region_is_refused(height, width):
    with pytest.raises(BadPromptError, match="is empty"):
        Region(0, 0, height, width)


def test_a_point_belongs_to_the_pixel_it_is_nearest_to():
    region = Region(2, 4, 1, 2)
    assert region.contains(1.5, 3.5)
    assert region.contains(2.49, 5.49)
    assert not region.contains(2.5, 4)
    assert not region.contains(2, 5.5)
    assert not region.contains(float("nan"), 4)


def test_intersection_is_what_both_masks_cover():
    rng = np.random.default_rng(0)
    for _ in range(200):
        masks, regions = [], []
        for _ in range(2):
            y, x = (int(v) for v in rng.integers(0, 15, 2))
            height, width = (int(v) for v in rng.integers(1, 15, 2))
            regions.append(Region(y, x, height, width))
            masks.append(np.zeros((30, 30), bool))
            masks[-1][regions[-1].slices] = True
        both = regions[0].intersection(regions[1])
        covered = np.zeros((30, 30), bool)
        if both is not None:
            covered[both.slices] = True
        assert np.array_equal(covered, masks[0] & masks[1])
        assert both == regions[1].intersection(regions[0])


def test_round_the_middle_of_a_region():
    shape = (100, 300)
    assert Region(40, 140, 20, 20).round_middle(60, shape) == Region(20, 120, 60, 60)
    assert Region(0, 290, 10, 10).round_middle(60, shape) == Region(0, 240, 60, 60)
    assert Region.of(shape).round_middle(200, shape) == Region(0, 50, 100, 200)
    assert Region(7, 8, 9, 10).round_middle(999, shape) == Region.of(shape)

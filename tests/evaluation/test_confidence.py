"""How sure a model was, at the pixels of the image: one with the class map, and by hand."""

import numpy as np
import pytest

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.geometry import Region
from napari_pathsam.evaluation.confidence import SureMap, segment_surely
from napari_pathsam.inference.class_maps import SegmentSettings, segment_classes

ALL = SegmentSettings(keep_probabilities=True)


@pytest.mark.parametrize("shape", [(80, 100), (300, 170)])  # one tile, and several
def test_one_with_the_class_map(tiny_pathsam, rng, shape):
    coarse = rng.integers(0, 256, (shape[0] // 10, shape[1] // 10, 3)).astype(np.uint8)
    image = coarse.repeat(10, 0).repeat(10, 1)
    sure = segment_surely(tiny_pathsam, image, 0.5, ALL)
    np.testing.assert_array_equal(sure.class_map, segment_classes(tiny_pathsam, image, 0.5))
    confidence = sure.probability_of(sure.class_map, np.arange(3))
    assert confidence.min() > 1 / 3 - 1e-3  # the likeliest of three
    threshold = float(np.median(confidence))
    unsure = segment_classes(tiny_pathsam, image, 0.5, threshold=threshold) == UNSURE
    apart = np.abs(confidence - threshold) > 2e-3  # float16
    np.testing.assert_array_equal(unsure[apart], (confidence < threshold)[apart])


def test_probabilities_of_all_channels_add_up():
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(4), (3, 5)).transpose(2, 0, 1).astype(np.float32)
    sure = SureMap(np.zeros((12, 20), np.uint8), values, Region(0, 0, 3, 5), (4, 4))
    each = [sure.probability_of(np.full((12, 20), k), np.arange(4)) for k in range(4)]
    np.testing.assert_allclose(np.sum(each, axis=0), 1, rtol=1e-5)
    # Two channels that count as one position are one class.
    merged = sure.probability_of(np.full((12, 20), 1), np.array([0, 1, 1, 2]))
    np.testing.assert_allclose(merged, each[1] + each[2], rtol=1e-5)
    # The middle of a cell is where it was said: pixels 1.5 of 4.
    corner = sure.probability_of(np.zeros((12, 20), int), np.arange(4))[:2, :2]
    np.testing.assert_allclose(corner, values[0, 0, 0], rtol=1e-4)


def test_bands_do_not_matter(monkeypatch):
    values = np.random.default_rng(0).dirichlet(np.ones(3), (4, 4)).transpose(2, 0, 1)
    sure = SureMap(np.zeros((16, 16), np.uint8), values.astype(np.float32), Region(0, 0, 4, 4),
                   (4, 4))  # fmt: skip
    where = np.arange(256).reshape(16, 16) % 3
    at_once = sure.probability_of(where, np.arange(3))
    monkeypatch.setattr("napari_pathsam.evaluation.confidence.BAND_VALUES", 100)
    np.testing.assert_array_equal(sure.probability_of(where, np.arange(3)), at_once)

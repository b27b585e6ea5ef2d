"""The random forest beside the class prompts: same features, same cells."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.evaluation.forest import Forest, cell_features
from napari_pathsam.models.pathsam import PathSam

pytest.importorskip("sklearn", reason="scikit-learn (the extra baselines) is not installed")


def test_a_forest_learns_painted_cells(tiny_pathsam: PathSam) -> None:
    rng = np.random.default_rng(0)
    image = np.full((96, 128, 3), (230, 200, 220), np.uint8)
    image[:, 64:] = (110, 50, 150)
    image = (image - rng.integers(0, 20, image.shape)).astype(np.uint8)
    embedding = tiny_pathsam.encode(image, octaves=2)
    one, two = cell_features(embedding), cell_features(embedding, 2)
    assert one.shape[1:] == (24, 32)
    assert two.shape[0] == 2 * one.shape[0]
    target = np.full((24, 32), -1, np.int16)
    target[4:8, 4:10], target[4:8, 22:28] = 0, 2  # of three channels one is never painted
    forest = Forest(3, octaves=2).fit([(embedding, target)])
    probabilities = forest.probabilities(embedding)
    assert probabilities.shape == (3, 24, 32)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert not probabilities[1].any()
    found = probabilities.argmax(0)
    assert (found[:, :14] == 0).mean() > 0.9
    assert (found[:, 18:] == 2).mean() > 0.9
    again = Forest(3, octaves=2).fit([(embedding, target)])
    assert (again.probabilities(embedding) == probabilities).all()

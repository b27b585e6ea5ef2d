"""Objects of a label pyramid in blocks are those of the whole, with the same ids each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.objects import instances
from napari_pathsam.inference.slide_objects import objects_of_store
from napari_pathsam.io.label_store import LabelStore

SHAPE = (230, 310)


@pytest.fixture
def class_map(rng: np.random.Generator) -> np.ndarray:
    """Blobs of two classes, many of which cross blocks or touch at corners, and unsure ones."""
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 5)
    other = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    classes = np.where(smooth > 0.02, np.where(other > 0, 1, 2), 0).astype(np.uint8)
    classes[100:110, 20:40] = 255
    classes[63, 63] = classes[64, 64] = 1
    return classes


def found(class_map: np.ndarray, path: Path, block_px: int, smallest_px: int = 0) -> np.ndarray:
    store = LabelStore.create(path, SHAPE, mpp=0.5, chunk_px=32)
    store.write(Region.of(SHAPE), class_map)
    out = np.full(SHAPE, -1, np.int32)
    for block in objects_of_store(store, block_px=block_px, smallest_px=smallest_px):
        out[block.region.slices] = block.labels
    assert (block.done, out.min()) == (block.total, 0)
    return out


@pytest.mark.parametrize("smallest_px", [0, 30])
def test_blocks_find_what_the_whole_holds(
    class_map: np.ndarray, tmp_path: Path, smallest_px: int
) -> None:
    expected = instances(class_map, smallest_px=smallest_px)
    assert expected.max() > 20
    for block_px in (32, 64, 96, 512):
        labels = found(class_map, tmp_path / f"{block_px}.zarr", block_px, smallest_px)
        assert ((labels > 0) == (expected > 0)).all()
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(labels)) == len(np.unique(expected))
        assert (np.unique(labels) == np.arange(len(np.unique(labels)))).all()  # none is left out


def test_the_same_labels_have_the_same_ids(class_map: np.ndarray, tmp_path: Path) -> None:
    one, other = (found(class_map, tmp_path / f"{name}.zarr", 64) for name in "ab")
    assert (one == other).all()

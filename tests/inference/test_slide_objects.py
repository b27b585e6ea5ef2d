"""Objects of a label pyramid in blocks are those of the whole, with the same ids each time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import halved
from napari_pathsam.inference import slide_objects
from napari_pathsam.inference.objects import instances
from napari_pathsam.inference.slide_objects import objects_of_store, write_objects
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS, class_of_objects

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


def stored(class_map: np.ndarray, path: Path) -> LabelStore:
    store = LabelStore.create(path, SHAPE, mpp=0.5, chunk_px=32)
    store.write(Region.of(SHAPE), class_map)
    return store


def found(class_map: np.ndarray, path: Path, block_px: int, smallest_px: int = 0) -> np.ndarray:
    store = stored(class_map, path)
    out = np.full(SHAPE, -1, np.int32)
    for block in objects_of_store(store, block_px=block_px, smallest_px=smallest_px):
        if block.labels is not None:
            out[block.region.slices] = block.labels
    assert (block.done, out.min()) == (block.total, 0)
    return out


@pytest.mark.parametrize("smallest_px", [0, 30])
@pytest.mark.slow
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


def test_every_step_is_small_and_told(
    class_map: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a stop is soon heard: nothing is read before the first step, little in each."""
    read, asked = LabelStore.read, []

    def counted(store: LabelStore, region: Region, *level: int) -> Any:
        asked.append(region)
        return read(store, region, *level)

    monkeypatch.setattr(LabelStore, "read", counted)
    n_blocks = 4 * 5
    steps = objects_of_store(stored(class_map, tmp_path / "a.zarr"), block_px=64)
    told = []
    for step in steps:
        if step.labels is None:
            assert len(asked) <= step.done
        told.append((step.done, step.total, step.labels is not None))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (2 * n_blocks, 2 * n_blocks, True)
    assert [finished for _, _, finished in told] == [False] * n_blocks + [True] * n_blocks


def test_a_long_area_is_one_and_never_held(
    class_map: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_map[5:12] = 1  # from end to end
    monkeypatch.setattr(slide_objects, "LONGEST_PX", 150)
    areas, read = instances(class_map, split=False), LabelStore.read
    across = areas == areas[5, 0]

    def small(store: LabelStore, region: Region, *level: int) -> Any:
        assert max(region.shape_yx) <= 152
        return read(store, region, *level)

    monkeypatch.setattr(LabelStore, "read", small)
    labels = found(class_map, tmp_path / "a.zarr", 64)
    assert (across == (labels == labels[5, 0])).all()
    assert len(np.unique(labels)) > 20
    labels = found(class_map, tmp_path / "b.zarr", 64, int(across.sum()))
    assert (across == (labels > 0)).all()
    assert not found(class_map, tmp_path / "c.zarr", 64, int(across.sum()) + 1)[across].any()


@pytest.mark.slow
def test_objects_that_are_there_are_kept(
    class_map: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pathsam.io._ngff_metadata.COARSEST_PX", 64)
    store = stored(class_map, tmp_path / "a.zarr")
    some = write_objects(store)
    next(some)
    some.close()
    assert not (store.path / "labels" / OBJECTS).exists()
    assert not list(tmp_path.rglob("*.part"))
    assert [*write_objects(store)]
    assert not [*write_objects(store)]
    assert [*write_objects(store, smallest_px=30)]  # others
    made = LabelStore.open(store.path, OBJECTS)
    levels = [np.asarray(level) for level in made.pyramid()]
    assert levels[0].max() == instances(class_map, smallest_px=30).max()
    assert len(levels) > 1
    ids, at = np.unique(levels[0], return_index=True)
    told = class_of_objects(store.path)
    assert told == dict(zip(ids[1:].tolist(), class_map.ravel()[at[1:]].tolist(), strict=True))
    for finer, coarser in pairwise(levels):
        even = Region(0, 0, 2 * coarser.shape[0], 2 * coarser.shape[1])
        assert (halved(finer[even.slices]) == coarser).all()
    store.write(Region(0, 0, 1, 1), np.full((1, 1), 1 + class_map[0, 0] % 2, np.uint8))
    assert [*write_objects(store, smallest_px=30)]  # of labels that were changed since

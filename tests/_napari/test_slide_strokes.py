"""Strokes from anywhere on a slide are read in parts; nobody reads all of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_pathsam._napari.finetune_labels import (
    LayerPair,
    Painted,
    class_names_of_objects,
    classes_of_layer,
)
from napari_pathsam._napari.plane import Plane
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.workspace.teaching_pairs import finetune_images

SHAPE = (80_000, 100_000)


def test_strokes_all_over_a_slide(class_table: ClassTable) -> None:
    plane = Plane(np.eye(2), np.zeros(2), np.ones(2))
    source: Any = SimpleNamespace(key="slide", name="slide.svs", plane=plane, shape_yx=SHAPE)
    labels = SparseLabels(SHAPE, np.uint8)
    pair = LayerPair(source, Painted(labels, (), plane, "PathSAM classes"), 0.25)
    assert pair.parts() == (pair,)
    assert not pair.painted(class_table).labels.any()
    places = {1: (10, 20), 2: (79_000, 99_000)}
    for class_id, (y, x) in places.items():
        labels[y : y + 40, x : x + 30] = class_id
    labels[300:340, 20:50] = 2  # near the first
    parts = pair.parts()
    assert len({part.key for part in parts}) == len(parts) == 2
    images = finetune_images(parts, class_table)
    assert sum(image.labels.size for image in images) < 4 * 1024**2
    found = {}
    for image in images:
        assert image.labels_at is not None
        for class_id in (1, 2):
            rows, columns = np.nonzero(image.labels == class_id)
            if len(rows):
                first = (rows.min() + image.labels_at.y, columns.min() + image.labels_at.x)
                found.setdefault(class_id, []).append((first, len(rows)))
    assert found == {1: [((10, 20), 1200)], 2: [((300, 20), 1200), ((79_000, 99_000), 1200)]}
    near = pair.painted(class_table)
    assert near.at == Region(0, 0, 1, 1)


def test_a_pyramid_of_a_slide_is_refused_before_it_is_read(class_table: ClassTable) -> None:
    import dask.array as da

    def read(block: np.ndarray) -> np.ndarray:
        raise AssertionError("it was read")

    plane = Plane(np.eye(2), np.zeros(2), np.ones(2))
    lazy = da.zeros(SHAPE, np.int32, chunks=4096).map_blocks(read, dtype=np.int32)
    painted = Painted(lazy, (), plane, "x: objects", {1: "gland"}, "pathsam export run.zarr")
    with pytest.raises(BadImageError, match=r"80,000 × 100,000 .* New.*pathsam export run\.zarr"):
        painted.over(plane, SHAPE, class_table)


def test_ids_of_objects_are_never_taken_for_classes(class_table: ClassTable) -> None:
    plane = Plane(np.eye(2), np.zeros(2), np.ones(2))
    metadata = {"label_kind": "instances", "store": "/x/run.zarr"}
    layer: Any = SimpleNamespace(metadata=metadata, features=None)
    class_of = class_names_of_objects(layer)
    assert class_of == {}
    assert classes_of_layer(layer, class_table) == class_table
    ids = np.full((8, 9), 2, np.int32)
    painted = Painted(ids, (), plane, "objects", class_of, "pathsam export run.zarr")
    with pytest.raises(BadImageError, match=r"layer of classes .*pathsam export run\.zarr"):
        painted.over(plane, ids.shape, class_table)

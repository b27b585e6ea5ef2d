"""Outlines of a label store: those of the whole map, whatever the tiles."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import shapely

from napari_pathsam.core.geometry import Region
from napari_pathsam.io._outlines import fill_polygon, polygons_of
from napari_pathsam.io._store_outlines import outlined
from napari_pathsam.io.label_store import LabelStore


def store_of(tmp_path, labels, name="objects", **more) -> LabelStore:
    store = LabelStore.create(
        tmp_path / "labels.zarr", labels.shape, dtype=labels.dtype, name=name, chunk_px=32, **more
    )
    store.write(Region.of(labels.shape), labels)
    return store


def canonical(polygon) -> tuple:
    """A polygon whatever its rings begin with: its outer ring and the set of its holes."""
    rings = []
    for ring in polygon:
        points = [tuple(p) for p in np.asarray(ring).tolist()]
        at = points.index(min(points))
        rings.append(tuple(points[at:] + points[:at]))
    return rings[0], frozenset(rings[1:])


def of_whole(labels) -> Counter:
    return Counter((i, canonical(p)) for i, polygons in polygons_of(labels) for p in polygons)


@pytest.mark.parametrize("tile_px", [7, 16, 40, 200])
@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("kind", ["noise", "blobs", "rings"])
def test_tiles_give_what_the_whole_map_gives(tmp_path, rng, tile_px, objects, kind):
    if kind == "noise":
        labels = rng.integers(0, 3, (61, 90)).astype(np.int32)
    elif kind == "blobs":
        labels = rng.integers(0, 5, (13, 18)).astype(np.int32).repeat(5, 0).repeat(5, 1)
    else:
        distance = np.hypot(*(np.indices((80, 75)) - 40)).astype(int)
        labels = np.where(distance // 6 % 2 == 0, 1 + distance // 12, 0).astype(np.int32)
    store = store_of(tmp_path, labels)
    found = list(outlined(store, objects=objects, tile_px=tile_px))
    assert Counter((o.value, canonical(p)) for o in found for p in o.polygons) == of_whole(labels)
    if not objects:
        assert all(len(o.polygons) == 1 for o in found)
    for one in found[:30]:
        for polygon in one.polygons:
            assert shapely.Polygon(polygon[0], polygon[1:]).is_valid


def test_an_object_over_many_tiles_is_one_with_the_class_most_of_it_has(tmp_path):
    labels = np.zeros((100, 100), np.int32)
    labels[5:95, 45:55], labels[60:90, 10:90] = 7, 7
    labels[20:24, 20:24] = 3
    labels[24:28, 24:28] = 3  # touches at a corner: one object, two polygons
    classes = np.where(labels == 7, 2, np.where(labels == 3, 1, 0)).astype(np.uint8)
    classes[5:20, 45:55] = 1
    store = store_of(tmp_path, labels)
    kinds = store_of(tmp_path, classes, name="classes")
    found = {o.value: o for o in outlined(store, kinds, objects=True, tile_px=16)}
    assert len(found) == 2
    assert found[7].class_id == 2
    assert found[3].class_id == 1
    assert len(found[7].polygons) == 1
    assert len(found[3].polygons) == 2
    where, inside = fill_polygon(found[7].polygons[0], labels.shape)
    painted = np.zeros(labels.shape, bool)
    painted[where] = inside
    np.testing.assert_array_equal(painted, labels == 7)


def test_an_empty_store_has_none(tmp_path):
    store = store_of(tmp_path, np.zeros((40, 40), np.uint8))
    assert not list(outlined(store, objects=False))


def test_tiles_in_which_nothing_was_written_are_not_read(tmp_path, monkeypatch):
    labels = np.zeros((512, 512), np.uint32)
    labels[300:310, 300:320] = 7
    store = store_of(tmp_path, labels)
    asked = []
    read = LabelStore.read
    monkeypatch.setattr(LabelStore, "read", lambda self, at: asked.append(at) or read(self, at))
    assert len(list(outlined(store, objects=True, tile_px=128))) == 1
    assert len(asked) == 1

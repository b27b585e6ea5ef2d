"""Strokes from anywhere on a slide are read in parts; nobody reads all of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Labels

from napari_pathsam._napari.finetune_labels import (
    LayerPair,
    Painted,
    class_names_of_objects,
    classes_of_layer,
)
from napari_pathsam._napari.plane import Plane
from napari_pathsam._napari.store_levels import levels_of
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_sparse import write_sparse_labels
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


@pytest.mark.gui
def test_what_is_said_of_a_part_leads_to_its_slide(qapp: Any) -> None:
    from napari_pathsam._napari.finetune_paint import PaintWatch

    viewer: Any = ViewerModel()
    image, labels = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    layer, painted = viewer.add_image(image), viewer.add_labels(labels)
    source: Any = SimpleNamespace(key="slide", name="slide.svs")
    watch = PaintWatch(viewer)
    watch.pair(layer, source, painted, 0.25)
    part = LayerPair(
        source, Painted(labels, (), cast(Any, None), ""), 0.25, part=Region(0, 0, 9, 9)
    )
    assert part.key != "slide"
    assert watch.image_of(part.key) == watch.image_of("slide") == layer
    assert watch.image_of("slide 2") is None
    watch.close()


def test_a_pyramid_of_a_slide_is_refused_before_it_is_read(class_table: ClassTable) -> None:
    import dask.array as da

    def read(block: np.ndarray) -> np.ndarray:
        raise AssertionError("it was read")

    plane = Plane(np.eye(2), np.zeros(2), np.ones(2))
    lazy = da.zeros(SHAPE, np.int32, chunks=4096).map_blocks(read, dtype=np.int32)
    painted = Painted(lazy, (), plane, "x: objects", {1: "gland"}, "pathsam export run.zarr")
    with pytest.raises(BadImageError, match=r"80,000 × 100,000 .* New.*pathsam export run\.zarr"):
        painted.over(plane, SHAPE, class_table)


PLACES = {1: (10, 20), 2: (79_000, 99_000)}
"""Where a class, or an object, has 40 × 30 pixels."""


def shown(path: Path, kind: str, classes: ClassTable) -> tuple[Painted, SimpleNamespace]:
    """A label pyramid on the disk as a layer over its slide; objects have the other class."""
    labels = SparseLabels(SHAPE, np.uint8 if kind == "classes" else np.int32)
    for class_id, (y, x) in PLACES.items():
        labels[y : y + 40, x : x + 30] = class_id
    write_sparse_labels(path, {kind: labels}, classes=classes)
    metadata: dict[str, Any] = {"store": str(path)}
    features = None
    if kind == "objects":
        metadata["label_kind"] = "instances"
        features = {"index": [1, 2], "class": [classes.names[1], classes.names[0]]}
    layer: Any = Labels(
        levels_of(LabelStore.open(path, kind)), multiscale=True, metadata=metadata, name="x",
        features=features,
    )  # fmt: skip
    viewer: Any = ViewerModel()
    viewer.add_layer(layer)
    painted = Painted.of(layer, viewer)
    return painted, SimpleNamespace(key="s", name="s", plane=painted.plane, shape_yx=SHAPE)


@pytest.mark.gui
def test_panning_over_a_pyramid_counts_nothing_again(qapp: Any) -> None:
    from napari_pathsam._napari.finetune_paint import PaintWatch

    viewer: Any = ViewerModel()
    image, pixels = viewer.add_image(np.zeros((64, 64), np.uint8)), np.ones((64, 64), np.uint8)
    source: Any = SimpleNamespace(key="slide", name="slide.svs")
    counted = []
    for levels, again in ((pixels, True), ([pixels, pixels[::2, ::2]], False)):
        layer = viewer.add_labels(levels)
        watch = PaintWatch(viewer)
        watch.pair(image, source, layer, 0.25)
        watch._timer.stop()
        layer.events.set_data()
        counted.append((watch._timer.isActive(), again))
        watch.close()
    assert counted == [(True, True), (False, False)]


@pytest.mark.parametrize("kind", ["classes", "objects"])
def test_a_pyramid_is_learned_from_where_it_is_labelled(
    class_table: ClassTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    painted, source = shown(tmp_path / "run.zarr", kind, class_table)
    read: list[int] = []
    reads = LabelStore.read_level

    def watched(store: LabelStore, level: int, at: Region) -> np.ndarray:
        read.append(at.height * at.width)
        return reads(store, level, at)

    monkeypatch.setattr(LabelStore, "read_level", watched)
    parts = LayerPair(cast(Any, source), painted, 0.25, aside=painted).parts()
    assert len({part.key for part in parts}) == len(parts) == 2
    assert not read
    images = finetune_images(parts, class_table)
    assert sum(read) <= 3 * 2 * 512**2
    ids = (1, 2) if kind == "classes" else (2, 1)
    for image, class_id, place in zip(images, ids, PLACES.values(), strict=True):
        assert image.labels_at is not None
        rows, columns = np.nonzero(image.labels == class_id)
        assert (rows.min() + image.labels_at.y, columns.min() + image.labels_at.x) == place
        assert len(rows) == (image.labels > 0).sum() == 1200
        assert image.held_out is not None
        assert np.array_equal(image.held_out, image.labels)


def test_a_pyramid_with_too_much_in_it_or_of_another_slide_is_refused(
    class_table: ClassTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted, source = shown(tmp_path / "run.zarr", "classes", class_table)
    away = replace(source.plane, offset=np.array([3.0, 0.0]))
    others: tuple[dict[str, Any], ...] = ({"shape_yx": (80_000, 90_000)}, {"plane": away})
    for other in others:
        pair = LayerPair(cast(Any, SimpleNamespace(**vars(source) | other)), painted, 0.25)
        assert pair.parts() == (pair,)
        with pytest.raises(BadImageError, match=r"80,000 × 100,000 .* New"):
            pair.painted(class_table)
    pair = LayerPair(cast(Any, source), painted, 0.25)
    with monkeypatch.context() as patched:
        patched.setattr("napari_pathsam._napari.finetune_labels.LARGEST_SIDE_PX", 600)
        assert pair.parts() == (pair,)
        with pytest.raises(BadImageError, match=r"at most 600 × 600, all over the slide"):
            pair.painted(class_table)
    assert len(pair.parts()) == 2
    shutil.rmtree(tmp_path / "run.zarr")
    assert pair.parts() == (pair,)


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

"""What is drawn on a slide, as pyramids: nothing is missing, and little is written."""

from __future__ import annotations

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import class_of_objects
from napari_pathsam.io.store_sparse import write_sparse_labels


def test_sparse_labels_of_a_slide(tmp_path, class_table: ClassTable) -> None:
    kinds = SparseLabels((60_001, 40_007), np.uint8)
    objects = SparseLabels((60_001, 40_007), np.int32)
    for n, (y, x) in enumerate(((10, 20), (59_900, 39_907), (31_000, 511)), start=1):
        at = Region(y, x, 100, 100).slices
        kinds[at], objects[at] = 1 + n % 2, 100_000 * n
    path = tmp_path / "a.zarr"
    class_of = {100_000: 2, 200_000: 1, 300_000: 2}
    write_sparse_labels(
        path, {"classes": kinds, "objects": objects}, mpp=0.25, classes=class_table,
        class_of=class_of, about={"slide": "abc"},
    )  # fmt: skip
    found = LabelStore.open(path, "objects", about={"slide": "abc"})
    assert class_of_objects(path) == class_of
    for level, wanted in enumerate(objects.levels[1:], start=1):
        region = Region(59_000, 39_000, 1001, 1007)
        step = 2**level
        got = found.pyramid()[level][region.y // step :, region.x // step :].compute()
        assert (got == wanted[region.y // step :, region.x // step :]).all()
    assert LabelStore.open(path).read(Region(31_050, 550, 1, 1)) == 2
    assert LabelStore.open(path).classes == class_table
    chunks = [p for p in path.rglob("c/*/*") if p.is_file()]
    assert len(chunks) < 2 * 3 * 4 * 9

"""The dock on a slide of which all is in view, taught by a label pyramid of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.finetune import PREVIEW_PX
from napari_pathsam._napari.store_levels import levels_of
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_sparse import write_sparse_labels

from .conftest import spots  # noqa: TID252

pytestmark = pytest.mark.gui
SHAPE = (16_640, 16_640)
PLACES = ((0, 0), (16_384, 8_192))


def test_what_is_worked_out_of_a_slide_in_one_go_has_an_end(finetune_of, tmp_path, monkeypatch):
    import dask.array as da

    levels = [da.full((n, n, 3), 200, np.uint8, chunks=-1) for n in (SHAPE[0], 2080, 520)]
    place = {"scale": (0.25, 0.25), "units": ("um", "um")}
    viewer, dock, hands = finetune_of(levels, multiscale=True, name="slide", **place)
    classes = ClassTable.of("gland", "stroma")
    labels = SparseLabels(SHAPE, np.uint8)
    for y, x in PLACES:
        labels[y : y + 160, x : x + 160] = spots((160, 160))
    write_sparse_labels(tmp_path / "run.zarr", {"classes": labels}, mpp=0.25, classes=classes)
    layer = viewer.add_labels(
        levels_of(LabelStore.open(tmp_path / "run.zarr")), multiscale=True, name="classes",
        features={"index": [0, 1, 2], "class": ["background", *classes.names]},
        metadata={"store": str(tmp_path / "run.zarr"), "classes": classes}, **place,
    )  # fmt: skip
    dock.use_labels(layer)
    hands.until(lambda: len(dock.paint.pairs()) == 2, 10_000)
    assert dock.teaching.choices.classes.names == classes.names
    seen = dock.field_in_view(exactly=True).region
    assert min(seen.shape_yx) > 16_000
    middle = dock.field_in_view().region
    assert middle.shape_yx == (PREVIEW_PX, PREVIEW_PX)
    assert middle.intersection(seen) == middle

    asked = []
    monkeypatch.setattr(dock, "current_number", lambda: 1)
    monkeypatch.setattr(dock.look, "seek", lambda *wanted: asked.append(wanted))
    for extent, region in (
        ("in the whole image", Region.of(SHAPE)), ("in the field in view", seen)
    ):  # fmt: skip
        dock.view.where.extent.setCurrentText(extent)
        dock.view.where.find_button.click()
        number, field_now, pairs, first = asked.pop()
        assert number == 1
        assert field_now.region == region
        assert first == seen
        painted = [pair.painted(classes) for pair in pairs]  # never more than a part at a time
        assert {(s.at.y, s.at.x) for s in painted} == set(PLACES)
        assert max(max(s.labels.shape) for s in painted) < 4096
    (near,) = dock.paint.pairs_over(dock.source.key, Region(0, 0, 500, 500))
    assert near.part.y == 0  # what lies elsewhere is not read

"""The Segment dock on a slide: blocks appear as they land, a stop is no loss, any zoom shows it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.finetune_labels import Painted
from napari_pathsam._napari.segment_table import DENSITY, MM2, NAME, PX, density_text
from napari_pathsam.workspace.scripting import segment_python
from napari_pathsam.workspace.segment_slide import slide_python

from .test_segment import choose, done, layer_of  # noqa: TID252
from .test_slide_labels import slide_levels  # noqa: TID252

pytestmark = pytest.mark.gui
MPP = 0.04


def test_blocks_land_in_the_layer_and_stay(segment_of, monkeypatch):
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.OVERLAP", 0.25)  # fewer windows
    levels = [level[: 17_408 // f, : 1_024 // f] for f, level in zip((1, 4, 16, 64), slide_levels(),
                                                                     strict=True)]  # fmt: skip
    place = {"scale": (MPP, MPP), "units": ("um", "um"), "name": "slide"}
    viewer, dock, hands = segment_of(levels, rgb=True, multiscale=True, **place)
    choose(dock, uncertainty=True, instances=True)
    assert not dock.view.options.sharpen.isEnabled()
    assert "16,384" in dock.view.options.sharpen.toolTip()
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0, 14_000 * MPP, 500 * MPP), 0.2 / MPP
    hands.settle(10)
    landed = []
    dock.segmenting.piece_written.connect(lambda result, region: landed.append(region))
    dock.view.run_button.click()
    hands.until(lambda: bool(landed), 240_000)
    first = landed[0]
    assert first.contains(14_000, 500)  # what is looked at comes first
    layer = layer_of(viewer)
    assert layer.multiscale
    assert not layer.editable
    hands.until(lambda: bool(layer.data[-1].any()), 60_000)
    hands.screenshot("slide-segment-1-first-blocks")
    assert dock.segmenting.running
    dock.view.progress.cancel_button.click()
    done(dock, hands)
    n = len(landed)
    assert "Stopped after" in dock.view.status.text()
    gone = dock.segmenting.result_of(dock.source.key, "tiny:made").table
    assert 0 < sum(row.px for row in gone.rows if row.class_id)

    # The rest, on top of what is there.
    dock.view.run_button.click()
    done(dock, hands)
    assert not dock.view.error_bar.text()
    result = dock.segmenting.result_of(dock.source.key, "tiny:made")
    assert len(landed) > n
    assert len({(r.y, r.x) for r in landed}) == len(landed)  # no block was done twice
    layers = [x for x in viewer.layers if x.name == "PathSAM made"]
    assert len(layers) == 1
    assert np.asarray(layers[0].data[-1]).any()
    table = dock.view.table
    assert [table.text(row, NAME) for row in range(2)] == ["gland", "stroma"]
    assert table.text(0, PX)
    assert table.text(0, MM2)
    tissue = result.plan.tissue.mm2(MPP)
    assert result.table.tissue_mm2 == pytest.approx(tissue)
    assert gone.tissue_mm2 is None or 0 < gone.tissue_mm2 < tissue
    for row in range(2):
        n = result.table.rows[row + 1].objects
        assert table.text(row, DENSITY) == density_text(n / tissue)
    assert "per mm² of tissue" in table.tissue_text()
    assert "Uncertainty made" in viewer.layers
    objects = viewer.layers["PathSAM made objects"]
    assert objects.multiscale
    assert viewer.layers.index(objects) > viewer.layers.index(layers[0])
    found = [row.objects for row in result.table.rows if row.class_id]
    assert sum(found) == len(np.unique(np.asarray(objects.data[0]))) - 1 > 0
    # What the objects are is known: Fine-tune takes them as their classes.
    painted = Painted.of(objects, viewer)
    strokes = painted.over(painted.plane, objects.data[0].shape, result.classes)
    classes, ids = (np.asarray(x.data[0]) for x in (layers[0], objects))
    assert (strokes.labels == np.where(ids, classes, 0)).all()
    viewer.layers["Uncertainty made"].visible = False
    viewer.fit_to_view()
    hands.settle(5)
    hands.screenshot("slide-segment-2-whole")
    camera.center, camera.zoom = (0, 9_000 * MPP, 500 * MPP), 0.5 / MPP
    hands.screenshot("slide-segment-3-near")
    assert "ps.segment_slide(" in dock._copied(segment_python, slide_python)
    assert result.path.exists()

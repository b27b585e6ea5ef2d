"""Objects accepted by clicking teach, and the field encoded for the clicks serves for all of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.finetune_classes import REGIONS
from napari_pathsam._napari.plane import data_to_canvas, plane_of
from napari_pathsam.core.geometry import Region

pytestmark = [pytest.mark.gui, pytest.mark.hidden]

MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "name": "H&E"}
SIDE = 832
"""Prompting makes smaller images larger; of whole steps of 32 no tile is filled up either."""


def test_what_a_click_encoded_serves_all_of_teaching(dock_of, finetune_of, load, field, encoded):
    image = np.tile(field.image, (2, 2, 1))[:SIDE, :SIDE]
    viewer, annotate, hands = dock_of(np.ascontiguousarray(image), loader=load, rgb=True, **MICRONS)
    viewer.scene.camera.zoom = 2.0  # screen pixels for a micron: as many as the image has
    hands.settle(5)
    workspace, plane = annotate.workspace, plane_of(annotate.session.image, viewer)
    annotate.view.classes.add_class("stroma")
    hands.click_canvas(data_to_canvas(viewer, plane, (380, 380)))
    hands.until(lambda: annotate.session.candidate.shown, 300_000)
    workspace.set_active_class(1)
    workspace.accept()
    for class_id, y in ((1, 100), (2, 200)):  # found by other means, as Find similar does
        workspace.set_active_class(class_id)
        workspace.accept_objects(np.ones((40, 60), np.int32), Region(y, 300, 40, 60))
    hands.until(lambda: annotate.runner.idle, 300_000)
    assert len(workspace.objects) == 3
    assert encoded == [(832, 832), (416, 416), (192, 192)]
    encoded.clear()

    _, dock, hands = lesson = finetune_of(viewer=viewer)
    dock.use_labels(viewer.layers["PathSAM objects"])
    lesson.until(lambda: dock.view.classes.text(1, REGIONS) == "1")
    assert dock.teaching.choices.classes.names == (*workspace.classes.names,)
    dock.teaching.choose(hold_out="none")
    lesson.quick(1)
    lesson.train()
    dock.view.look.here_button.click()
    dock.view.where.find_button.click()
    lesson.until(lambda: bool(dock.view.where.places.value()))
    dock.view.explain.explain_button.click()
    lesson.until(lambda: bool(dock.view.explain.plots))
    lesson.until(lambda: dock.runner.idle)
    assert not dock.view.error_bar.text()
    assert not encoded

    dock.view.versions.segment_button.click()
    from napari_pathsam._napari.segment import SegmentDock

    lesson.until(
        lambda: any(isinstance(w, SegmentDock) for w in viewer.window.dock_widgets.values())
    )
    docks = viewer.window.dock_widgets.values()
    segment = next(w for w in docks if isinstance(w, SegmentDock))
    lesson.until(lambda: segment.view.heads.value() is not None)
    segment.view.extent.set_value("whole")
    segment.view.run_button.click()
    lesson.until(lambda: segment.runner.idle and not segment.segmenting.running)
    assert not segment.view.error_bar.text()
    segment.shut_down()
    assert not encoded

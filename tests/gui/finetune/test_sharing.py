"""A field that some dock has encoded is not encoded again: by training, looking, segmenting."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.plane import data_to_canvas, plane_of

pytestmark = pytest.mark.gui

MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "name": "H&E"}
SIDE = 832
"""Prompting makes smaller images larger; of whole steps of 32 no tile is filled up either."""


@pytest.fixture
def encoded(load):
    """The shapes that went through nano's trunk; three magnifications an embedding."""
    shapes = []
    trunk = load("pathsam-nano", "cpu").image_encoder.trunk
    handle = trunk.register_forward_pre_hook(lambda _, pixels: shapes.append(pixels[0].shape[-2:]))
    yield shapes
    handle.remove()


def test_what_a_click_encoded_serves_all_of_teaching(dock_of, finetune_of, load, field, encoded):
    image = np.tile(field.image, (2, 2, 1))[:SIDE, :SIDE]
    viewer, annotate, hands = dock_of(np.ascontiguousarray(image), loader=load, rgb=True, **MICRONS)
    viewer.scene.camera.zoom = 2.0  # screen pixels for a micron: as many as the image has
    hands.settle(5)
    hands.click_canvas(data_to_canvas(viewer, plane_of(annotate.session.image, viewer), (380, 380)))
    hands.until(lambda: annotate.session.candidate.shown, 300_000)
    hands.until(lambda: annotate.runner.idle, 300_000)
    assert encoded == [(832, 832), (416, 416), (192, 192)]
    encoded.clear()

    _, dock, hands = lesson = finetune_of(viewer=viewer)
    lesson.strokes()
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

"""What one dock encoded no dock encodes again, in this session or a later one; in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari import embeddings
from napari_pathsam._napari.plane import data_to_canvas, plane_of
from napari_pathsam.workspace import prompting
from napari_pathsam.workspace.segment_request import SegmentOptions

pytestmark = [pytest.mark.gui, pytest.mark.hidden]

MICRONS = {"rgb": True, "name": "H&E", "scale": (0.5, 0.5), "units": ("um", "um")}
LONG_MS = 120_000


@pytest.fixture
def encoded(tiny_pathsam):
    """The shapes that went through the trunk since the list was cleared."""
    shapes: list[tuple[int, ...]] = []
    trunk = tiny_pathsam.base.image_encoder.trunk
    handle = trunk.register_forward_pre_hook(lambda _, pixels: shapes.append(pixels[0].shape))
    yield shapes
    handle.remove()


def click(viewer, dock, hands, yx) -> None:
    """On an image pixel, and wait until it is answered and what lies beside was looked at."""
    dock.workspace.reject()
    plane = plane_of(dock.session.image, viewer)
    hands.click_canvas(data_to_canvas(viewer, plane, yx))
    hands.until(lambda: dock.session.candidate.shown, LONG_MS)
    hands.until(lambda: not dock.session._ahead.timer.isActive(), LONG_MS)
    hands.until(lambda: dock.runner.idle, LONG_MS)
    assert not dock.view.error_bar.text()


def look_at(viewer, hands, yx, zoom) -> None:
    viewer.scene.camera.center = (0, *(0.5 * v for v in yx))
    viewer.scene.camera.zoom = zoom
    hands.settle(10)


def test_a_field_is_encoded_once_for_all_docks(
    dock_of, segment_of, tiny_pathsam, encoded, rng, qtbot
):
    image = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    viewer, annotate, hands = dock_of(image, loader=lambda *_: tiny_pathsam.base, **MICRONS)
    click(viewer, annotate, hands, (60, 60))
    click(viewer, annotate, hands, (90, 40))
    assert len(encoded) == 1

    _, segment, hands = segment_of(viewer=viewer)
    segment.view.heads.set_value("tiny:made")
    segment.view.heads.value_changed.emit()
    segment.view.options.set_value(SegmentOptions())
    segment.view.run_button.click()
    hands.until(lambda: segment.runner.idle and not segment.segmenting.running, LONG_MS)
    assert "PathSAM made" in viewer.layers
    assert len(encoded) == 1
    annotate.workspace.forget_embeddings()
    click(viewer, annotate, hands, (30, 100))
    assert len(encoded) == 1
    hands.screenshot("shared_embedding")


def test_a_click_where_somebody_clicked_before_encodes_nothing(
    dock_of, tiny_pathsam, encoded, rng, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_PATHSAM_EMBEDDINGS_GB", "0.1")
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prompting, "AHEAD_S", 1e3)  # however busy the machine is
    image = rng.integers(0, 256, (75, 75, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    viewer, dock, hands = dock_of(image, loader=lambda *_: tiny_pathsam.base, **MICRONS)
    answered: list[int] = []
    dock.workspace.candidate_changed.connect(lambda _: answered.append(len(encoded)))
    look_at(viewer, hands, (300, 300), 16)
    click(viewer, dock, hands, (300, 300))
    assert answered[-1] == 1
    assert len(encoded) == 5  # the four fields round it, while nothing else was to be done
    region = dock.workspace.field.region
    look_at(viewer, hands, (300, 300 + 0.75 * region.width), 16)
    click(viewer, dock, hands, (300, 300 + 0.7 * region.width))
    assert dock.workspace.field.region.x > region.x
    assert answered[-1] == 5
    dock.shut_down()
    viewer.close()

    # As if the program had been started anew; nearly the same place is looked for.
    monkeypatch.setattr(embeddings, "_made", [])
    monkeypatch.setattr(embeddings, "_books", [])
    encoded.clear()
    viewer, dock, hands = dock_of(image, loader=lambda *_: tiny_pathsam.base, **MICRONS)
    look_at(viewer, hands, (307, 291), 16.9)
    click(viewer, dock, hands, (300, 300))
    assert dock.workspace.field.region == region
    assert not encoded

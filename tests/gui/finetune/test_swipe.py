"""The line of the swipe: where before and after meet, as long as both are on screen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.teaching_work import FieldOfView, Preview

pytestmark = [pytest.mark.gui]
LINE = "PathSAM swipe"


@pytest.fixture
def swiped(finetune_of, made_up):
    """A viewer with a preview of 120 × 200 pixels somewhere in an image, and one before it."""
    viewer, dock, hands = finetune_of(made_up(260))
    field_now = FieldOfView(dock.source, Region(30, 40, 120, 200), 0.5)
    now, before = (
        Preview(field_now, np.full((120, 200), number, np.uint8), number) for number in (2, 1)
    )
    classes = dock.teaching.choices.classes
    dock.preview.show(now, before, dock.image, dock.source.plane, classes)
    hands.settle(5)
    return viewer, dock, hands


def white_columns(viewer):
    """Level-0 columns at which the middle of the canvas is white."""
    from qtpy.QtWidgets import QApplication

    QApplication.processEvents()
    shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    camera, middle = viewer.scene.camera, shot.shape[1] / 2
    row = shot[shot.shape[0] // 2 - 5 : shot.shape[0] // 2 + 5].min(axis=(0, 2))
    xs = np.flatnonzero(row > 250)
    return ((xs + 0.5 - middle) / camera.zoom + camera.center[-1]) / 0.5


@pytest.mark.parametrize("zoom", [3.0, 30.0])
def test_the_line_is_thin_and_moves_with_the_swipe(swiped, zoom):
    viewer, dock, hands = swiped
    camera = viewer.scene.camera
    for share in (0.25, 0.7):
        dock.preview.set_split(share)
        camera.zoom = zoom
        camera.center = (0, 45, (40 + 200 * share) * 0.5)
        hands.settle(5)
        found = white_columns(viewer)
        assert 1 <= len(found) <= 4  # pixels of the screen, at every zoom
        pixel = 1 / (zoom * 0.5)
        np.testing.assert_allclose(found, 40 + 200 * share - 0.5, atol=3 * pixel)
        assert viewer.layers.index(LINE) > viewer.layers.index("PathSAM preview")
    hands.screenshot(f"54-swipe-line-{zoom:.0f}")
    assert (dock.preview.class_map() == np.repeat((1, 2), (140, 60))).all()  # labels are as before


def test_the_line_goes_where_only_one_of_them_is_seen(swiped):
    viewer, dock, hands = swiped

    def there():
        hands.settle(2)
        return LINE in viewer.layers and viewer.layers[LINE].data.any()

    preview = dock.preview
    assert not there()
    preview.set_split(0.5)
    assert there()
    assert viewer.layers.selection.active.name != LINE
    for share in (0.0, 1.0):
        preview.set_split(share)
        assert not there()
        preview.set_split(0.5)
        assert there()
    dock.view.look.shown_box.setChecked(False)
    assert not there()
    dock.view.look.shown_box.setChecked(True)
    assert there()
    before = preview.before
    preview.set_before(None)
    assert not there()
    preview.set_before(before)
    assert there()
    viewer.layers.remove(preview.layer)
    assert not there()
    preview.show(preview.now, before, dock.image, dock.source.plane, dock.teaching.choices.classes)
    assert there()
    dock.shut_down()
    hands.settle(2)
    assert LINE not in viewer.layers

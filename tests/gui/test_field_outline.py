"""The line round the encoded field lies where the field is, from the first moment."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.gui

YELLOW = (255, 213, 74)


def drawn(viewer) -> np.ndarray:
    """First and last row and column of what is yellow on the canvas, in image pixels."""
    shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    found = np.nonzero(np.abs(shot - YELLOW).max(-1) < 40)
    camera, size = viewer.scene.camera, np.asarray(viewer.canvas.size)
    ends = np.array([[at.min(), at.max()] for at in found]) * (size / shot.shape[:2])[:, None]
    return (ends - size[:, None] / 2) / camera.zoom + np.array(camera.center[-2:])[:, None]


def test_it_is_drawn_round_the_field(dock_of, field):
    viewer, dock, hands = dock_of(np.tile(field.image, (4, 4, 1)), rgb=True)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 700, 900), 2.0
    hands.settle(10)
    hands.click(np.add(field.lumen, 512))
    hands.until(lambda: dock.workspace.answered, 60_000)
    viewer.fit_to_view()
    hands.until(lambda: dock.session.outline.shown)
    hands.settle(10)
    hands.screenshot("field-outline")
    at = dock.workspace.field.region
    wanted = [[at.y, at.y + at.height], [at.x, at.x + at.width]]
    assert np.abs(drawn(viewer) - wanted).max() < 15

"""Lines over the image: as wide on screen at every zoom, and gone without a trace."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.overlays import FieldOutline, Lines, SwipeLine
from napari_pathsam._napari.plane import plane_of
from napari_pathsam.core.geometry import Region

pytestmark = pytest.mark.gui

REGION = Region(100, 60, 200, 300)


def field(lines: Lines) -> None:
    assert isinstance(lines, FieldOutline)
    lines.show(REGION)


def swipe(lines: Lines) -> None:
    assert isinstance(lines, SwipeLine)
    lines.show(REGION, 120)


@pytest.fixture
def drawn(make_napari_viewer, hands_of):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1000, 800)
    image = viewer.add_image(np.full((400, 400, 3), 90, np.uint8), rgb=True, scale=(0.5, 0.5))
    hands = hands_of(viewer)
    hands.settle(5)
    return viewer, image, hands


def colored(viewer, color: tuple[int, ...]) -> np.ndarray:
    """Rows and columns ``(n, 2)`` of the canvas that have this colour."""
    shown = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    return np.argwhere((abs(shown - color[:3]) < 40).all(axis=-1))


@pytest.mark.parametrize("zoom", [1.0, 3.0, 12.0])
def test_the_outline_lies_round_the_field_two_pixels_wide(drawn, zoom):
    viewer, image, hands = drawn
    outline = FieldOutline(viewer)
    outline.open(image, plane_of(image, viewer))
    field(outline)
    hands.settle(3)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 100, 105), zoom  # after it was shown
    hands.settle(5)
    corner = hands.at(0.5 * np.array([REGION.y - 0.5, REGION.x - 0.5]))[::-1]
    inside = np.asarray(viewer.canvas.size)
    found = colored(viewer, FieldOutline.COLOR)
    if (corner > 0).all():
        np.testing.assert_allclose(found.min(axis=0), corner, atol=2)
        middle = found[found[:, 0] == (found[:, 0].min() + found[:, 0].max()) // 2, 1]
        left = middle[middle < middle.mean()]
        assert 1 <= len(left) <= 4
    else:  # no side of it is in view
        assert (corner < inside).all()
        assert len(found) == 0
    outline.close()


@pytest.mark.parametrize(("kind", "show"), [(FieldOutline, field), (SwipeLine, swipe)])
def test_lines_come_and_go_as_often_as_one_likes(drawn, kind, show):
    """With napari's bounding box the process ended at the second one."""
    viewer, image, hands = drawn
    lines = kind(viewer)
    for n in range(4):
        lines.open(image, plane_of(image, viewer))
        show(lines)
        hands.settle(5)
        assert lines.shown
        assert len(colored(viewer, kind.COLOR))
        if n % 2:  # somebody deletes it
            viewer.layers.remove(lines.layer)
            hands.settle(3)
        lines.close()
        hands.settle(3)
        assert list(viewer.layers) == [image]

"""Overlays: what is drawn lies where the object is."""

import numpy as np

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.evaluation.overlays import DrawnObject, overlay, poster


def disc(shape=(60, 80), center=(30, 40), radius=15):
    y, x = np.indices(shape)
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def test_paints_inside_and_leaves_the_rest_alone():
    image = np.full((60, 80, 3), 200, np.uint8)
    for zoom in (1, 2.5):
        drawn = np.asarray(overlay(image, [DrawnObject(disc())], zoom=zoom))
        assert drawn.shape == (round(60 * zoom), round(80 * zoom), 3)
        changed = np.abs(drawn.astype(int) - 200).max(axis=2) > 20
        y, x = np.nonzero(changed)
        np.testing.assert_allclose((y.mean() + 0.5) / zoom, 30.5, atol=0.6)
        np.testing.assert_allclose((x.mean() + 0.5) / zoom, 40.5, atol=0.6)
        reach = (changed.any(axis=1).sum() / zoom - 31) / 2
        assert 0 <= reach < 2.5  # half a contour beyond the object


def test_prompts_are_marked_at_their_pixels():
    image = np.full((60, 80, 3), 128, np.uint8)
    prompts = Prompts(box=(5, 5, 25, 30)).with_point(40, 60).with_point(50, 10, positive=False)
    nothing = np.zeros((60, 80), bool)
    drawn = np.asarray(overlay(image, [DrawnObject(nothing, prompts)], zoom=2)).astype(int)
    green = drawn[..., 1] - drawn[..., [0, 2]].max(axis=2) > 60
    red = drawn[..., 0] - drawn[..., [1, 2]].max(axis=2) > 60
    np.testing.assert_allclose(np.mean(np.nonzero(green), axis=1), (81, 121), atol=1)
    np.testing.assert_allclose(np.mean(np.nonzero(red), axis=1), (101, 21), atol=1)
    assert (drawn[10, 10:60] != 128).any()


def test_edge_cases_are_drawn():
    image = np.zeros((40, 50, 3), np.uint8)
    everything = np.ones((40, 50), bool)
    corner = np.zeros((40, 50), bool)
    corner[0, 0] = True
    objects = [DrawnObject(everything, None, corner), DrawnObject(corner), DrawnObject(~everything)]
    picture = overlay(image, objects, zoom=1.5)
    sheet = poster("A title", "below it", [("one", picture), ("two", picture)], with_reference=True)
    assert sheet.width > 2 * picture.width
    assert sheet.height > picture.height

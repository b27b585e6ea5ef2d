"""Overlays: what is drawn lies where the object is."""

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.evaluation.overlays import DrawnObject, overlay, overlay_classes, poster


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


def test_class_maps_wear_their_colours_and_a_legend():
    image = np.full((120, 160, 3), 128, np.uint8)
    classes = ClassTable.of("gland", "stroma").without(2).with_class("stroma", "#0000ff")
    class_map = np.zeros((120, 160), np.uint8)
    class_map[10:50, 10:60], class_map[70:110, 80:150] = 1, 2
    drawn = np.asarray(overlay_classes(image, class_map, classes)).astype(int)
    assert drawn.shape[0] == 120
    assert drawn.shape[1] > 160 + 60
    red, blue = drawn[30, 35], drawn[90, 115]
    assert red[0] > 128 > red[2]
    assert blue[2] > 128 > blue[0]
    assert drawn[90, 79:82, 2].max() > blue[2] + 40  # the outline is stronger than the fill
    np.testing.assert_array_equal(drawn[60, :160], np.full((160, 3), 128))
    legend = drawn[:, 160:].reshape(-1, 3)
    assert (legend == (0, 0, 255)).all(axis=1).sum() > 200
    unsure = np.full((120, 160), 255, np.uint8)
    twice = overlay_classes(image, unsure, classes, reference=class_map, zoom=2)
    assert twice.height == 240
    assert (np.asarray(twice)[60:62, 20:119].min(axis=(0, 2)) > 140).any()

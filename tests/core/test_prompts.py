"""Prompts as values: frozen, checked, and made from what a person draws."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.prompts import Prompts, polygon_mask, scribble_points


def test_adding_returns_new_prompts():
    empty = Prompts()
    one = empty.with_point(3, np.float32(4), positive=False)
    assert not empty
    assert one
    assert one.points_yx == ((3.0, 4.0),)
    assert one.positive == (False,)
    assert one.with_box((0, 0, 2, 2)).with_box(None) == one
    assert Prompts(box=(0, 0, 1, 1))
    assert Prompts(mask=np.ones((2, 2), bool))


def test_shifting_moves_points_and_box():
    moved = Prompts(((1, 2),), (True,), (0, 0, 4, 4)).shifted(10, -1)
    assert moved.points_yx == ((11, 1),)
    assert moved.box == (10, -1, 14, 3)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 0, 2, 5), (0, 0, float("nan"), 5)])
def test_a_box_of_no_area_is_refused(box):
    with pytest.raises(BadPromptError, match="no area"):
        Prompts(box=box)


def test_each_point_has_a_sign():
    with pytest.raises(BadPromptError, match="2 points came with 1 signs"):
        Prompts(((0, 0), (1, 1)), (True,))


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (Prompts(((-0.6, 0),), (True,)), "outside the image"),
        (Prompts(((0, 29.6),), (True,)), "outside the image"),
        (Prompts(((float("nan"), 0),), (True,)), "outside the image"),
        (Prompts(box=(30, 0, 40, 5)), "outside the image"),
        (Prompts(box=(-9, 0, -3, 5)), "outside the image"),
        (Prompts(mask=np.ones((3, 3), bool)), "shape"),
        (Prompts(), "no prompt"),
    ],
)
def test_what_does_not_fit_an_image_is_refused(prompts, said):
    with pytest.raises(BadPromptError, match=said):
        prompts.check((20, 30))


def test_what_fits_is_taken():
    Prompts(((-0.5, -0.5), (19.5, 29.5)), (True, False), (-5, -5, 50, 50)).check((20, 30))
    Prompts(mask=np.ones((20, 30), bool)).check((20, 30))


def test_a_scribble_becomes_points_on_the_path_at_equal_steps():
    path = np.array([(0.0, 0), (0, 50), (30, 50)])
    points = np.array(scribble_points(path))
    assert len(points) == 8
    on_first = (points[:, 0] == 0) & (points[:, 1] <= 50)
    on_second = points[:, 1] == 50
    assert (on_first | on_second).all()
    along = points.sum(axis=1)
    assert np.allclose(np.diff(along), 10)
    assert scribble_points(np.array([(3.0, 4.0)])) == ((3.0, 4.0),)
    assert len(scribble_points(np.array([(3.0, 4), (3, 4)]))) == 1


def test_a_polygon_encloses_pixel_centres():
    mask = polygon_mask(np.array([(1.5, 1.5), (1.5, 5.5), (4.5, 5.5), (4.5, 1.5)]), (8, 9))
    expected = np.zeros((8, 9), bool)
    expected[2:5, 2:6] = True
    assert np.array_equal(mask, expected)

"""The simulated annotator: its definition, and that working on crops changes nothing."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import ellipse

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.prompts import (
    ellipse_in_box,
    innermost_point,
    iter_objects,
    next_click,
    tight_box,
)

EIGHT = np.ones((3, 3))


def blobs(seed, shape=(70, 90)):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.random(shape), 3) > 0.505


def slow_innermost(mask):
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return tuple(float(v) for v in np.unravel_index(distance.argmax(), mask.shape))


def slow_next_click(target, mask):
    found = []
    for error, positive in ((target & ~mask, True), (mask & ~target, False)):
        labels, n = ndimage.label(error, EIGHT)
        found += [((labels == i).sum(), labels == i, positive) for i in range(1, n + 1)]
    if not found:
        return None
    _, part, positive = max(found, key=lambda f: f[0])  # the first of equals
    return slow_innermost(part), positive


@pytest.mark.parametrize("seed", range(8))
def test_crops_give_the_answer_of_the_whole_image(seed):
    target, mask = blobs(seed), blobs(seed + 100)
    assert innermost_point(target) == slow_innermost(target)
    assert next_click(target, mask) == slow_next_click(target, mask)


def test_clicks_correct_what_is_wrong():
    target = np.zeros((40, 40), bool)
    target[10:30, 10:30] = True
    assert next_click(target, target) is None
    nothing = np.zeros_like(target)
    assert next_click(target, nothing) == (innermost_point(target), True)
    too_much = target.copy()
    too_much[0:9, 0:9] = True
    assert next_click(target, too_much) == ((4.0, 4.0), False)
    with pytest.raises(BadPromptError):
        innermost_point(nothing)


def test_the_border_counts_as_outside():
    corner = np.zeros((30, 30), bool)
    corner[:9, :9] = True
    assert innermost_point(corner) == (4.0, 4.0)


def test_small_objects_are_left_out():
    labels = np.zeros((30, 30), int)
    labels[:7, :7], labels[10:20, 10:15] = 1, 4  # 49 and 50 pixels
    assert [i for i, _ in iter_objects(labels)] == [4]


def test_the_ellipse_touches_its_box():
    for box in ((3.0, 5.0, 24.0, 40.0), (3.0, 5.0, 4.0, 6.0), (0.0, 0.0, 8.0, 31.0)):
        drawn = ellipse_in_box(box, (50, 60))
        assert tight_box(drawn) == box
    y0, x0, y1, x1 = 4, 6, 35, 49
    center = ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2)
    drawn = np.zeros((50, 60), bool)
    drawn[ellipse(*center, (y1 - y0) / 2, (x1 - x0) / 2)] = True
    assert (drawn == ellipse_in_box((y0, x0, y1, x1), drawn.shape)).mean() > 0.995

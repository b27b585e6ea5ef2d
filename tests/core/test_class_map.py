"""Specks and holes of class maps take what is round them; the rest is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.class_map import UNSURE, drop_specks, fill_enclosed, unsure_areas


def drawn(*rows: str) -> np.ndarray:
    """Digits are class ids, U is unsure, dots are background."""
    ids = {".": 0, "U": UNSURE}
    return np.array([[ids.get(c, ord(c) - 48) for c in row] for row in rows], np.uint8)


def test_a_speck_becomes_what_is_round_it() -> None:
    before = drawn("1111111", "1121111", "1111111", ".......", "..33...", "....222")
    kept = before.copy()
    after = drop_specks(before, 3)
    assert (before == kept).all()
    assert (after == drawn("1111111", "1111111", "1111111", ".......", ".......", "....222")).all()


def test_corners_touch_and_unsure_stays() -> None:
    before = drawn("1....", ".1...", "..1..", "...U.", "2....")
    assert (drop_specks(before, 3) == drawn("1....", ".1...", "..1..", "...U.", ".....")).all()


def test_specks_side_by_side_do_not_vote_for_each_other() -> None:
    before = drawn("111111", "123321", "111111")
    assert (drop_specks(before, 3) == 1).all()


def test_nothing_but_specks_becomes_background() -> None:
    assert (drop_specks(drawn("12", "21"), 9) == 0).all()


@pytest.mark.parametrize(("largest", "filled"), [(1, False), (2, True)])
def test_holes_of_a_size_are_filled(largest: int, filled: bool) -> None:
    before = drawn("1111.", "1..1.", "11111", "1.222", "....2")
    after = fill_enclosed(before, largest)
    assert (after[1, 1:3] == (1 if filled else 0)).all()
    after[1, 1:3] = 0
    assert (after == before).all()


def test_a_hole_between_two_classes_goes_to_the_larger_border() -> None:
    assert fill_enclosed(drawn("1111", "1..2", "1112"), 5)[1].tolist() == [1, 1, 1, 2]


def test_an_area_is_as_sure_as_its_pixels_are_on_average() -> None:
    before = drawn("11.22", "1..2U", "..3..")
    likely = np.array(
        [[0.9, 0.5, 0.1, 0.9, 0.9], [0.7, 0.1, 0.1, 0.9, 0.1], [0.1, 0.1, 0.69, 0.1, 0.1]]
    )
    kept = before.copy()
    after = unsure_areas(before, likely, 0.705)
    assert (before == kept).all()
    assert (after == drawn("UU.22", "U..2U", "..U..")).all()  # .7, .9, .69 on average
    assert (unsure_areas(before, likely, 0.695) == drawn("11.22", "1..2U", "..U..")).all()
    long = unsure_areas(before, likely, 0.95, longest_px=1)
    assert (long == drawn("11.22", "1..2U", "..U..")).all()


def test_bands_of_rows_make_no_difference(rng, monkeypatch) -> None:
    before = rng.integers(0, 3, (60, 40)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    likely = rng.random(before.shape).astype(np.float16)
    once = unsure_areas(before, likely, 0.5)
    assert (once == UNSURE).any()
    assert (once[before > 0] != UNSURE).any()
    monkeypatch.setattr("napari_pathsam.core.class_map.BAND_PX", 7)
    assert (unsure_areas(before, likely, 0.5) == once).all()


def test_as_a_slow_second_implementation(rng: np.random.Generator) -> None:
    """No area of a class below the limit is left, and only small ones changed."""
    noise = ndimage.gaussian_filter(rng.normal(size=(3, 60, 60)), (0, 2, 2))
    before = noise.argmax(0).astype(np.uint8)
    before[rng.random(before.shape) < 0.02] = 2
    after = drop_specks(before, 12)
    for value in (1, 2):
        labels, n = ndimage.label(before == value, structure=np.ones((3, 3)))
        for area in range(1, n + 1):
            where = labels == area
            if where.sum() >= 12:
                assert (after[where] == value).all()
            else:
                assert (after[where] == after[where][0]).all()
    changed = before != after
    assert changed.any()
    assert not drop_specks(np.zeros((4, 4), np.uint8), 5).any()

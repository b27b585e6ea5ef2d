"""What is advised for a head means the same area at any pixel size, and can be asked for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.models.advice import Advice
from napari_pathsam.models.catalogue import HEADS


def test_areas_are_the_same_at_any_pixel_size() -> None:
    advice = Advice(smallest_um2=10, fill_holes_um2=100, why="Measured.")
    assert advice.pixels(1.0) == (10, 100)
    assert advice.pixels(0.5) == (40, 400)
    assert advice.options(0.5) == "--smallest 40 --fill-holes 400"
    assert Advice(threshold=0.5, views=4, why="").options(1) == "--threshold 0.5 --views 4"
    with pytest.raises(ValidationError):
        Advice(threshold=1.5, why="")


@pytest.mark.parametrize("head", [h for h in HEADS.values() if h.advised is not None])
def test_what_is_advised_can_be_done_and_says_where_it_was_measured(head) -> None:
    advice = head.advised
    smallest_px, fill_holes_px = advice.pixels(0.25)
    SegmentSettings(
        advice.threshold, smallest_px, fill_holes_px, surest=advice.surest, views=advice.views
    )
    assert any(where in advice.why for where in ("TNBC", "GlaS"))

"""A slide that does not say its pixel size: the dock asks in a field, and once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


@pytest.fixture
def slide(field, tmp_path: Path) -> Path:
    pixels = np.tile(field.image, (2, 2, 1))
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tif:
        tif.write(pixels, **options)
        tif.write(pixels[::2, ::2], subfiletype=1, **options)
    return tmp_path / "slide.tif"


def test_the_pixel_size_is_asked_for_once(dock_of, segment_of, slide: Path) -> None:
    viewer, dock, hands = dock_of()
    [layer] = viewer.open(slide, plugin="napari-pathsam")
    hands.until(lambda: dock.session.source is not None)
    size = dock.view.pixel_size
    assert size.value() is None
    assert size._badge.isVisibleTo(dock)
    hands.screenshot("pixel_size_unknown")
    size._spin.setValue(0.25)
    assert not size._badge.isVisibleTo(dock)
    _, segment, _ = segment_of(viewer=viewer)  # the other dock does not ask again
    assert segment.view.pixel_size.value() == pytest.approx(0.25)
    viewer.layers.remove(layer)
    hands.until(lambda: dock.session.source is None)
    [again] = viewer.open(slide.rename(slide.with_name("moved.tif")), plugin="napari-pathsam")
    hands.until(lambda: dock.session.source is not None)
    assert tuple(again.scale) == (0.25, 0.25)
    assert size.value() == pytest.approx(0.25)
    assert not size._badge.isVisibleTo(dock)
    hands.screenshot("pixel_size_kept")
    size._spin.setValue(0.5)  # it was a slip
    viewer.layers.remove(again)
    [third] = viewer.open(slide.with_name("moved.tif"), plugin="napari-pathsam")
    assert tuple(third.scale) == (0.5, 0.5)

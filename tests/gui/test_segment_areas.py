"""Densities in the Segment dock: objects per mm² of tissue, where that is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.segment_table import COUNT, DENSITY, PX

from .test_segment import MICRONS, choose, run  # noqa: TID252

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


@pytest.fixture
def image(field):
    return np.ascontiguousarray(field.image[:240, :300])


def test_densities_are_only_said_where_there_is_something_to_relate_them_to(segment_of, image):
    viewer, dock, hands = segment_of(image, rgb=True, name="unknown size")
    choose(dock)
    run(dock, hands)
    table = dock.view.table
    assert not table.tissue_text()  # without a pixel size there are no mm²
    assert table._table.isColumnHidden(DENSITY)
    assert not table._table.isColumnHidden(PX)
    dark, grey = (255 - image) // 6, image.mean(2).astype(np.uint8)
    for pixels in (dark, grey):
        about = {**MICRONS, "name": "other", "rgb": pixels.ndim == 3}
        dock.open_image(viewer.add_image(np.ascontiguousarray(pixels), **about))
        choose(dock)
        run(dock, hands)
        assert table.text(0, COUNT)
        assert not table.text(0, DENSITY)
        assert "No densities" in table.tissue_text()


def test_densities_of_a_drawn_part_are_of_the_tissue_in_it(segment_of, image):
    """The left half is glass; a triangle reaches over both."""
    image = np.tile(image, (2, 2, 1))
    image[:, :300] = 243
    viewer, dock, hands = segment_of(image, **MICRONS)
    corners = np.array([(0, 300), (479, 0), (479, 599)]) / 2.0
    part = viewer.add_shapes([corners], shape_type="polygon", name="part", units=("um", "um"))
    choose(dock, kind="shapes")
    dock.view.extent.shapes.set_value(part)
    run(dock, hands)
    areas = dock.view.table.value()
    assert sum(row.px for row in areas.rows) == pytest.approx(480 * 600 / 2, rel=0.01)
    assert areas.tissue_mm2 == pytest.approx(480 * 300 / 2 * 0.25e-6, rel=0.2)

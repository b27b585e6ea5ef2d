"""The dock “PathSAM: Segment” in a real viewer, with a small real model and random weights."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.segment_layers import UNSURE
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.workspace.segmenting import SegmentOptions

pytestmark = pytest.mark.gui


@pytest.fixture
def image(field):
    """An H&E field, small enough for many tiles of the small model to take a second."""
    return np.ascontiguousarray(field.image[:240, :300])


def choose(dock, name="tiny:made", kind="whole", **options) -> None:
    dock.view.heads.set_value(name)
    dock.view.heads.value_changed.emit()
    dock.view.extent.set_value(kind)
    dock.view.options.set_value(SegmentOptions(**options))


def run(dock, hands) -> None:
    dock.view.run_button.click()
    hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 60_000)


def layer_of(dock, viewer):
    return viewer.layers["PathSAM made"]


def test_one_press_gives_every_pixel_a_class(segment_of, image, tiny_pathsam):
    viewer, dock, hands = segment_of(
        image, rgb=True, name="H&E", scale=(0.5, 0.5), units=("um", "um")
    )
    assert dock.view.minimumWidth() <= 380
    assert dock.view.heads.value() is None  # none is chosen for the person
    choose(dock, threshold=0.4)
    assert not dock.view.mpp_bar.text()
    run(dock, hands)
    assert not dock.view.error_bar.text()
    layer = layer_of(dock, viewer)
    expected = segment_classes(tiny_pathsam, image, 0.5, threshold=0.4)
    np.testing.assert_array_equal(layer.data, expected)
    np.testing.assert_allclose(layer.data_to_world((7, 9)), viewer.layers[0].data_to_world((7, 9)))
    assert (layer.data == UNSURE).any()
    hands.screenshot("30-segmented")

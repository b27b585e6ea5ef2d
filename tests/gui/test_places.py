"""Prompts and labels land where they were meant, wherever the image layer lies."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.plane import data_to_canvas

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def canvas(dock, yx):
    return data_to_canvas(dock.viewer, dock.session.source.now.plane, yx)


def click(dock, hands, yx, **kwargs):
    hands.click_canvas(canvas(dock, yx), **kwargs)


def test_a_scaled_rotated_image_in_microns(dock_of, field):
    _viewer, dock, hands = dock_of(
        field.image, rgb=True, scale=(0.5, 0.5), rotate=20, translate=(300, -100),
        units=("um", "um"),
    )  # fmt: skip
    assert dock.view.pixel_size.value() == pytest.approx(0.5)
    click(dock, hands, field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    np.testing.assert_allclose(dock.workspace.prompts.points_yx[0], field.lumen, atol=0.6)
    image, overlay = dock.session.image, dock.session.candidate.layer
    found = np.argwhere(overlay.data[..., 3] > 0).mean(axis=0)
    np.testing.assert_allclose(
        image.world_to_data(overlay.data_to_world(found)), field.lumen, atol=4
    )
    hands.screenshot("14-rotated")
    hands.key("N")
    labels = dock.session.labels.layers["instances"]
    np.testing.assert_allclose(labels.data_to_world((7, 9)), image.data_to_world((7, 9)))
    image.scale = (1.0, 1.0)
    hands.until(lambda: dock.view.pixel_size.value() == pytest.approx(1.0))
    np.testing.assert_allclose(labels.data_to_world((7, 9)), image.data_to_world((7, 9)))
    assert len(dock.workspace.objects) == 1


def test_planes_of_a_stack_are_images_of_their_own(dock_of, field):
    stack = np.stack([field.image, field.image[::-1], field.image[:, ::-1]])
    viewer, dock, hands = dock_of(stack, rgb=True)
    viewer.dims.set_current_step(0, 0)
    key = dock.session.source.key
    hands.until(lambda: dock.session.source.now.index == (0,))
    key = dock.session.source.key
    click(dock, hands, field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    hands.key("N")
    assert len(dock.workspace.objects) == 1
    viewer.dims.set_current_step(0, 1)
    hands.until(lambda: dock.session.source.key != key)
    assert not dock.workspace.objects
    viewer.dims.set_current_step(0, 0)
    hands.until(lambda: dock.session.source.key == key)
    assert len(dock.workspace.objects) == 1


def test_fluorescence_and_the_persons_own_layers(dock_of, field):
    channels = np.stack([255 - field.image[..., 0], field.image[..., 2]])
    viewer, dock, hands = dock_of(
        channels, channel_axis=0, colormap=["magenta", "green"], name=["a", "b"]
    )
    points = viewer.add_points(np.empty((0, 2)), name="mine")
    dock.view._own_layers.setVisible(True)
    dock.view.points_layer.set_value(points)
    dock.view.points_layer.value_changed.emit(points)
    hands.settle()
    assert dock.session.prompts.points == points
    assert "PathSAM points" not in viewer.layers
    points.add((140, 370))
    hands.until(lambda: dock.workspace.candidate is not None)
    assert dock.workspace.prompts.points_yx == ((140.0, 370.0),)
    hands.screenshot("15-fluorescence")
    hands.key("N")
    assert len(points.data) == 0
    dock.view.points_layer.set_value(None)
    dock.view.points_layer.value_changed.emit(None)
    assert "PathSAM points" in viewer.layers
    assert "mine" in viewer.layers


def test_zoomed_out_a_window_is_encoded_and_outlined(dock_of, field, model):
    model.config.mpp_range = (0.2, 0.6)
    model.config.field_px = 256
    image = np.tile(field.image, (3, 3, 1))
    viewer, dock, hands = dock_of(image, rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    click(dock, hands, (512 + 130, 512 + 130))
    hands.until(lambda: dock.workspace.candidate is not None)
    region = dock.workspace.field.region
    assert max(region.shape_yx) < 512
    assert dock.session.outline.shown
    hands.screenshot("16-zoomed-out")
    viewer.scene.camera.zoom *= 8
    viewer.scene.camera.center = (0, 321, 321)
    hands.until(lambda: not dock.session.outline.shown)

"""Layers as image sources, and where planes lie: with a viewer model, so no display is needed."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_pathsam._napari.layer_source import source_of
from napari_pathsam._napari.plane import (
    canvas_to_data,
    data_to_canvas,
    own_layer_place,
    plane_of,
    view_of,
)
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer() -> ViewerModel:
    made = ViewerModel()
    made.canvas.size = (400, 600)
    return made


@pytest.fixture
def image(rng) -> np.ndarray:
    return rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)


def test_rgb_is_read_as_it_is(viewer, image):
    source = source_of(viewer.add_image(image, rgb=True, name="a"), viewer)
    assert source.shape_yx == (90, 120)
    region = Region(10, 20, 30, 40)
    np.testing.assert_array_equal(source.read(region, (30, 40)), image[region.slices])


@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [
        (lambda i: i / 255.0, 1),
        (lambda i: i.astype(np.uint16) * 257, 1),
        (lambda i: np.dstack([i, np.full(i.shape[:2], 255, np.uint8)]), 0),
    ],
)
def test_other_types_look_the_same(viewer, image, convert, tolerance):
    source = source_of(viewer.add_image(convert(image), rgb=True), viewer)
    seen = source.read(Region.of((90, 120)), (90, 120)).astype(int)
    assert np.abs(seen - image).max() <= tolerance


def test_transparent_pixels_are_white(viewer, image):
    rgba = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    source = source_of(viewer.add_image(rgba, rgb=True), viewer)
    assert (source.read(Region(0, 0, 5, 5), (5, 5)) == 255).all()


def test_nan_does_not_harm(viewer):
    grey = np.linspace(0, 1, 100).reshape(10, 10).astype(np.float32)
    grey[3, 3] = np.nan
    source = source_of(viewer.add_image(grey, contrast_limits=(0, 1)), viewer)
    assert source.read(Region.of((10, 10)), (10, 10))[3, 3].tolist() == [0, 0, 0]


def test_fluorescence_is_added_up_as_displayed(viewer, rng):
    stack = rng.integers(0, 1000, (2, 50, 60)).astype(np.uint16)
    first, second = viewer.add_image(
        stack, channel_axis=0, colormap=["red", "green"], contrast_limits=[(0, 999), (0, 999)]
    )
    seen = source_of(first, viewer).read(Region.of((50, 60)), (50, 60)).astype(int)
    expected = np.round(stack / 999 * 255).astype(int)
    assert np.abs(seen[..., 0] - expected[0]).max() <= 2
    assert np.abs(seen[..., 1] - expected[1]).max() <= 2
    assert (seen[..., 2] == 0).all()
    before = source_of(first, viewer)
    second.visible = False
    after = source_of(first, viewer)
    assert after.key == before.key
    assert not after.looks_like(before)
    assert (after.read(Region(0, 0, 5, 5), (5, 5))[..., 1] == 0).all()


def test_a_pyramid_is_read_at_the_level_that_fits(viewer):
    levels = [np.full((256 // f, 512 // f, 3), v, np.uint8) for f, v in ((1, 10), (2, 20), (4, 30))]
    source = source_of(
        viewer.add_image([da.from_array(x) for x in levels], rgb=True, multiscale=True), viewer
    )
    region = Region(0, 0, 128, 128)
    for shape, value in (((128, 128), 10), ((64, 64), 20), ((32, 32), 30), ((16, 16), 30)):
        assert (source.read(region, shape) == value).all()


def test_one_plane_of_a_stack(viewer, rng):
    stack = rng.integers(0, 255, (4, 30, 40, 3), dtype=np.uint8)
    layer = viewer.add_image(stack, rgb=True, scale=(3, 1, 1))
    keys = set()
    for plane in range(4):
        viewer.dims.set_current_step(0, plane)
        source = source_of(layer, viewer)
        assert source.index == (plane,)
        np.testing.assert_array_equal(source.read(Region(0, 0, 30, 40), (30, 40)), stack[plane])
        keys.add(source.key)
    assert len(keys) == 4


def test_the_key_is_the_content(viewer, image):
    one = source_of(viewer.add_image(image, rgb=True, name="one"), viewer)
    two = source_of(viewer.add_image(image.copy(), rgb=True, name="two", scale=(2, 2)), viewer)
    other = source_of(viewer.add_image(image[::-1].copy(), rgb=True), viewer)
    assert one.key == two.key != other.key


@pytest.mark.parametrize(
    ("scale", "units", "mpp"),
    [
        ((0.5, 0.5), "um", 0.5),
        ((250, 250), "nm", 0.25),
        ((0.5, 0.5), "pixel", None),
        ((0.0005, 0.0005), "mm", 0.5),
    ],
)
def test_pixel_size(viewer, image, scale, units, mpp):
    layer = viewer.add_image(image, rgb=True, scale=scale, units=(units, units))
    found = source_of(layer, viewer).mpp
    assert found == (mpp if mpp is None else pytest.approx(mpp))


def test_3d_and_empty_images_are_explained(viewer, image):
    layer = viewer.add_image(image, rgb=True)
    viewer.dims.ndisplay = 3
    with pytest.raises(BadImageError, match="2D"):
        source_of(layer, viewer)


PLACES = (
    {},
    {"scale": (2, 2), "translate": (100, -50)},
    {"scale": (0.5, 0.7), "rotate": 30, "units": ("um", "um")},
    {"affine": np.array([[1.2, 0.3, 5], [-0.1, 0.9, 7], [0, 0, 1]]), "scale": (3, 3)},
)


@pytest.mark.parametrize("place", PLACES)
def test_canvas_and_pixels_are_one_map(viewer, image, place):
    layer = viewer.add_image(image, rgb=True, **place)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 31, 17), 2.5
    plane = plane_of(layer, viewer)
    yx = np.array([[0, 0], [10, 20], [89, 119.0]])
    np.testing.assert_allclose(canvas_to_data(viewer, plane, data_to_canvas(viewer, plane, yx)), yx)
    np.testing.assert_allclose(plane.to_world(yx), [layer.data_to_world(p) for p in yx])


@pytest.mark.parametrize("place", PLACES)
def test_our_layers_lie_upon_the_image(viewer, image, place):
    layer = viewer.add_image(image, rgb=True, **place)
    own = viewer.add_labels(
        np.zeros((5, 5), np.uint8), **own_layer_place(plane_of(layer, viewer), layer)
    )
    own.translate = np.asarray(layer.scale) * (7, 11)
    np.testing.assert_allclose(own.data_to_world((2, 3)), layer.data_to_world((9, 14)))


def test_a_foreign_unit_does_not_move_the_view(viewer, image):
    layer = viewer.add_image(image, rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 20, 30), 10.0
    before, px = view_of(viewer, plane_of(layer, viewer), (90, 120))
    viewer.add_image(image[..., 0], scale=(500, 500), units=("nm", "nm"))
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0, 20_000, 30_000), 0.01  # the scene is in nm now
    after, px_after = view_of(viewer, plane_of(layer, viewer), (90, 120))
    assert after == before
    assert px_after == pytest.approx(px)


def test_what_is_in_view(viewer, image):
    layer = viewer.add_image(image, rgb=True)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 40, 60), 10.0
    region, screen_px = view_of(viewer, plane_of(layer, viewer), (90, 120))
    assert region == Region(20, 30, 41, 61)
    assert screen_px == 10
    viewer.scene.camera.center = (0, 4000, 4000)
    assert view_of(viewer, plane_of(layer, viewer), (90, 120)) is None

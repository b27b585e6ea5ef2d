"""The person's own layers as prompt layers, other units, and our layers given other pixels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari.plane import data_to_canvas

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_shapes_of_the_persons_own_stay_as_they_are(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True)
    corners = np.array([(10, 10), (10, 40), (40, 40), (40, 10)], float)
    theirs = viewer.add_shapes([corners, corners + 200], shape_type="rectangle")
    dock.view.shapes_layer.value_changed.emit(theirs)
    hands.key("Ctrl+2")
    y, x = field.glands[1]
    hands.drag([(y - 80, x - 85), (y, x), (y + 80, x + 85)])
    hands.until(lambda: dock.workspace.candidate is not None)
    hands.key("N")
    hands.until(lambda: len(dock.workspace.objects) == 1)
    hands.key("Ctrl+Z")
    assert len(theirs.data) == 3
    np.testing.assert_allclose(theirs.data[0], corners)


def test_points_of_the_persons_own_get_signs_and_keep_their_features(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True)
    theirs = viewer.add_points(
        [field.lumen, (20, 20)], features={"who": ["a", "b"], "label": ["positive", "negative"]}
    )
    dock.view.points_layer.value_changed.emit(theirs)
    hands.until(lambda: dock.workspace.candidate is not None)
    assert dock.workspace.prompts.positive == (True, False)
    assert list(theirs.features["who"]) == ["a", "b"]
    green, red = theirs.face_color
    assert green[1] > green[0]
    assert red[0] > red[1]
    hands.click((120, 120))
    hands.until(lambda: len(dock.workspace.prompts.points_yx) == 3)
    dock.workspace.undo()
    assert list(theirs.features["who"]) == ["a", "b"]


def test_a_layer_in_a_smaller_unit_misplaces_nothing(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    viewer.add_points([(1e4, 1e4)], units=("nm", "nm"), size=1)
    hands.until(lambda: dock.session.source.now.plane.scene_unit[0] == pytest.approx(1000))
    dock.session.set_tool("point")
    viewer.fit_to_view()
    hands.settle(5)
    plane = dock.session.source.now.plane
    hands.click_canvas(data_to_canvas(viewer, plane, field.lumen))
    hands.until(lambda: dock.workspace.candidate is not None)
    np.testing.assert_allclose(dock.workspace.prompts.points_yx[0], field.lumen, atol=1)
    hands.key("N")
    assert dock.workspace.instances[130, 130] == 1
    labels = dock.session.labels.layers["instances"]
    in_um = np.asarray(labels.data_to_world((7, 9))) / 1000
    np.testing.assert_allclose(in_um, dock.session.image.data_to_world((7, 9)))


def test_our_labels_layer_given_other_pixels_imports_them_or_says_why_not(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace, layer = dock.workspace, dock.session.labels.layers["instances"]
    layer.data = np.ones((20, 30), np.int32)
    assert "shape" in dock.view.error_bar.text()
    assert layer.data is workspace.instances
    given = np.zeros(field.image.shape[:2], np.int32)
    given[5:9, 5:9] = 3
    layer.data = given
    assert layer.data is workspace.instances
    assert workspace.objects[3].area_px == 16
    hands.settle()
    assert layer.get_status((6, 6), world=True)["value"].endswith("object")
    workspace.undo()
    assert not workspace.objects


def test_accepted_objects_are_drawn_without_mapping_the_layer_anew(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    layer = dock.session.labels.layers["instances"]
    maps, draws = [], []
    layer.events.colormap.connect(lambda: maps.append(1))
    layer.events.labels_update.connect(lambda event: draws.append(event.data.shape))
    for n, gland in enumerate(field.glands):
        hands.click(gland)
        hands.until(lambda: dock.workspace.candidate is not None)
        hands.key("N")
        hands.until(lambda n=n: len(draws) == n + 1)
    assert not maps
    assert max(h * w for h, w in draws) < field.image[..., 0].size / 4
    shown = layer._slice.image.view.copy()
    layer.refresh()
    np.testing.assert_array_equal(layer._slice.image.view, shown)
    assert tuple(layer.get_color(1)) == tuple(layer.get_color(4))


def test_a_class_table_from_a_file_never_takes_objects_along(dock_of, field, tmp_path):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    table = dock.view.classes
    hands.click(field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    hands.key("N")
    table.add_class("other")
    path = tmp_path / "classes.csv"
    path.write_text("id,name,color\n2,other,#112233\n")
    table.import_csv(path)
    assert "in use" in dock.view.error_bar.text()
    assert len(dock.workspace.objects) == 1
    assert table.value().names == ("object", "other")


def test_a_lasso_can_be_rejected_while_it_waits(dock_of, field, model):
    model.may_encode.clear()
    _viewer, dock, _hands = dock_of(field.image, rgb=True)
    dock.workspace.add_polygon([(60, 60), (60, 200), (200, 200), (200, 60)])
    dock.workspace.cancel()
    model.may_encode.set()
    assert dock.view.candidate.reject_button.isEnabled()
    assert "Not answered" in dock.view.candidate.text()


def test_points_of_other_planes_of_a_stack_are_left_alone(dock_of, field):
    stack = np.stack([field.image, field.image[::-1], field.image])
    viewer, dock, hands = dock_of(stack, rgb=True)
    viewer.dims.set_current_step(0, 0)
    hands.until(lambda: dock.session.source.now.index == (0,))
    theirs = viewer.add_points(
        [(1, 20, 20), (0, *field.lumen), (2, 30, 30)], ndim=3, features={"who": ["a", "b", "c"]}
    )
    dock.view.points_layer.value_changed.emit(theirs)
    hands.until(lambda: dock.workspace.candidate is not None)
    assert dock.workspace.prompts.points_yx == (field.lumen,)
    hands.key("N")
    hands.until(lambda: len(dock.workspace.objects) == 1)
    assert sorted(map(tuple, theirs.data)) == [(1, 20, 20), (2, 30, 30)]
    assert list(theirs.features["who"]) == ["a", "c"]
    dock.workspace.undo()
    assert len(theirs.data) == 3
    assert dock.workspace.prompts.points_yx == (field.lumen,)

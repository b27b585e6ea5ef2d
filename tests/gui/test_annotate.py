"""The dock in a real viewer, driven with mouse and keys."""

from __future__ import annotations

import os

import numpy as np
import pytest

SCREENSHOTS = os.environ.get("PATHSAM_SCREENSHOTS")
pytestmark = pytest.mark.gui


def ready(dock, hands) -> None:
    """Wait until all work is answered."""
    hands.until(lambda: dock.runner.idle)


def click_and_accept(dock, hands, yx) -> int:
    before = set(dock.workspace.objects)
    hands.click(yx)
    hands.until(lambda: dock.workspace.candidate is not None)
    hands.key("N")
    hands.until(lambda: len(dock.workspace.objects) == len(before) + 1)
    return (set(dock.workspace.objects) - before).pop()


def test_a_field_is_annotated_with_mouse_and_keys(dock_of, field):
    """The whole of an afternoon's work in small; its screenshots are what the README shows."""
    viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    assert dock.session.image is not None
    assert viewer.layers.selection.active == dock.session.prompts.points
    assert dock.view.minimumWidth() <= 380

    hands.click(field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    np.testing.assert_allclose(dock.workspace.prompts.points_yx[0], field.lumen, atol=0.6)
    assert dock.session.candidate.shown
    assert "0.91" in dock.view.candidate._score.format()
    hands.screenshot("1-candidate")

    hands.key("N")
    hands.until(lambda: len(dock.workspace.objects) == 1)
    assert not dock.session.candidate.shown
    assert dock.workspace.instances[130, 130] == 1
    assert len(dock.session.prompts.points.data) == 0
    assert dock.session.tool == "point"

    dock.view.classes.add_class("tumour gland")
    assert dock.workspace.active_class == 2
    hands.key("Ctrl+2")
    assert viewer.layers.selection.active == dock.session.prompts.shapes
    y, x = field.glands[1]
    hands.drag([(y - 80, x - 85), (y, x), (y + 80, x + 85)])
    hands.until(lambda: dock.workspace.candidate is not None)
    np.testing.assert_allclose(
        dock.workspace.prompts.box, (y - 79.5, x - 84.5, y + 80.5, x + 85.5), atol=1
    )
    hands.screenshot("2-box")
    hands.key("N")
    hands.until(lambda: len(dock.workspace.objects) == 2)
    assert dock.workspace.objects[2].class_id == 2
    assert dock.session.tool == "box"

    hands.key("Ctrl+1")
    y, x = field.glands[2]
    hands.click((y, x - 45))
    hands.until(lambda: dock.workspace.candidate is not None)
    hands.click((y - 45, x), modifiers=("Shift",))
    hands.until(lambda: len(dock.workspace.prompts.points_yx) == 2)
    ready(dock, hands)
    assert dock.workspace.prompts.positive == (True, False)
    hands.screenshot("3-plus-minus")
    hands.key("Shift+C")
    assert dock.workspace.candidate is None
    assert len(dock.session.prompts.points.data) == 0

    hands.key("Alt+1")
    assert dock.workspace.active_class == 1
    click_and_accept(dock, hands, field.glands[3])
    dock.view.pixel_size.set_value(0.5)
    dock.view.pixel_size.value_changed.emit(0.5)
    hands.settle()
    assert "µm²" in dock.view.classes.area_text(1)
    assert dock.view.classes._table.item(0, 3).text() == "2"
    hands.screenshot("4-accepted")


def test_undo_takes_back_every_step_and_its_marker(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace, points = dock.workspace, dock.session.prompts.points
    click_and_accept(dock, hands, field.lumen)
    hands.click(field.glands[1])
    hands.until(lambda: workspace.candidate is not None)
    assert len(points.data) == 1
    hands.key("Ctrl+Z")
    assert len(points.data) == 0
    assert workspace.candidate is None
    hands.key("Ctrl+Z")
    assert not workspace.objects
    assert not workspace.instances.any()
    hands.until(lambda: workspace.candidate is not None)  # the prompt of the accepted object
    assert len(points.data) == 1
    hands.key("Ctrl+Shift+Z")
    assert len(workspace.objects) == 1
    assert not dock.view.redo_button.isEnabled() or workspace.can_redo


def test_a_stray_layer_is_said_and_one_key_returns(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    viewer.layers.selection.active = viewer.layers["H&E"]
    hands.settle()
    assert "H&E" in dock.view.stray_bar.text()
    hands.screenshot("5-stray")
    hands.key("G")
    assert viewer.layers.selection.active == dock.session.prompts.points
    assert dock.session.prompts.points.mode == "add"
    assert not dock.view.stray_bar.text()


def test_a_tool_key_pressed_twice_returns_to_panning(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    hands.key("Ctrl+3")
    assert dock.session.prompts.shapes.mode == "add_path"
    assert dock.view.tools.value() == "scribble"
    hands.key("Ctrl+3")
    assert dock.session.prompts.shapes.mode == "pan_zoom"
    assert dock.view.tools.value() is None


def test_scribble_lasso_and_sign(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace = dock.workspace
    y, x = field.glands[0]
    hands.key("Ctrl+3")
    hands.drag([(y, x - 20), (y, x - 10), (y + 2, x), (y, x + 10), (y, x + 20)])
    hands.until(lambda: len(workspace.prompts.points_yx) > 1)
    assert all(workspace.prompts.positive)
    hands.key("T")
    assert not dock.view.tools.sign()
    hands.drag([(y - 60, x - 60), (y - 64, x - 40), (y - 66, x - 20), (y - 66, x)])
    hands.until(lambda: not all(workspace.prompts.positive))
    hands.screenshot("6-scribble")
    hands.key("Shift+C")
    hands.key("T")
    hands.key("Ctrl+4")
    turn = np.linspace(0, 2 * np.pi, 24)
    hands.drag([(y + 70 * np.sin(t), x + 70 * np.cos(t)) for t in turn])
    hands.until(lambda: workspace.candidate is not None)
    assert workspace.candidate.mask.sum() > 5000
    hands.screenshot("7-lasso")


def test_refine_an_object_then_delete_it(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace = dock.workspace
    found = click_and_accept(dock, hands, field.lumen)
    hands.key("Ctrl+5")
    hands.click(field.lumen)
    hands.until(lambda: workspace.refining == found)
    assert dock.session.tool == "point"
    assert dock.view.candidate.delete_button.isVisible()
    hands.click((130, 85))
    ready(dock, hands)
    hands.key("N")
    hands.until(lambda: workspace.refining is None)
    assert list(workspace.objects) == [found]
    assert workspace.instances[130, 85] == found
    dock.session.refine(found)
    hands.until(lambda: workspace.refining == found)
    hands.screenshot("8-refine")
    hands.key("Shift+Delete")
    assert not workspace.objects


def test_masks_are_cycled_and_objects_keep_their_pixels(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace = dock.workspace
    click_and_accept(dock, hands, field.lumen)
    owned = int((workspace.instances == 1).sum())
    dock.session.set_tool("box")
    hands.drag([(60, 60), (130, 130), (200, 200)])
    hands.until(lambda: workspace.candidate is not None)
    first = workspace.candidate.index
    hands.key("Q")
    assert workspace.candidate.index != first
    assert "of 3" in dock.view.candidate.text()
    workspace.add_point(130, 85)
    ready(dock, hands)
    hands.key("N")
    assert len(workspace.objects) == 2
    assert (workspace.instances == 1).sum() == owned


def test_brush_strokes_are_steps(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace = dock.workspace
    found = click_and_accept(dock, hands, field.lumen)
    layer = dock.session.labels.layers["instances"]
    before = workspace.instances.copy()
    viewer.layers.selection.active = layer
    layer.selected_label, layer.brush_size, layer.mode = found, 20, "paint"
    hands.drag([(200, 200), (205, 205), (210, 210), (215, 215)])
    assert workspace.instances[205, 205] == found
    assert workspace.class_map[205, 205] == workspace.objects[found].class_id
    assert dock.session.labels.layers["classes"].data is workspace.class_map
    hands.key("Ctrl+Z")
    np.testing.assert_array_equal(workspace.instances, before)
    hands.key("Ctrl+Shift+Z")
    assert workspace.instances[205, 205] == found


def test_closing_gives_keys_and_layers_back(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    click_and_accept(dock, hands, field.lumen)
    dock.shut_down()
    hands.settle()
    assert [layer.name for layer in viewer.layers] == ["H&E", "PathSAM classes", "PathSAM objects"]
    assert not [key for key in viewer.keymap if str(key) in ("N", "Q", "G")]


def test_the_docks_own_cross_closes_everything(dock_of, field):
    viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    hands.click(field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    viewer.window.remove_dock_widget(dock)
    hands.until(lambda: len(viewer.layers) == 1)
    hands.until(lambda: not dock.runner._thread.is_alive())


def test_objects_are_hidden_by_class_and_while_h_is_held(dock_of, field):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    _viewer, dock, hands = dock_of(field.image, rgb=True)
    found = click_and_accept(dock, hands, field.lumen)
    layers = dock.session.labels.layers
    native = hands.canvas.native
    QTest.keyPress(native, Qt.Key_H)
    assert not any(layer.visible for layer in layers.values())
    QTest.keyRelease(native, Qt.Key_H)
    assert all(layer.visible for layer in layers.values())
    dock.view.classes._table.item(0, 0).setCheckState(Qt.Unchecked)
    hands.settle()
    assert layers["instances"].get_color(found)[3] == 0
    dock.view.classes._table.item(0, 0).setCheckState(Qt.Checked)
    hands.settle()
    assert layers["instances"].get_color(found)[3] == 1


def test_the_menu_over_an_object(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    found = click_and_accept(dock, hands, field.lumen)
    texts = [a.text() for a in dock.menu_at(5, 5).actions()]
    assert not any("Delete" in t for t in texts)
    menu = dock.menu_at(*field.lumen)
    by_text = {a.text().split("\t")[0]: a for a in menu.actions()}
    by_text[f"Delete object {found}"].trigger()
    assert not dock.workspace.objects
    hands.click(field.lumen, button=2)
    hands.settle()


def test_classes_are_edited_undone_and_explained(dock_of, field, tmp_path):
    _viewer, dock, hands = dock_of(field.image, rgb=True)
    workspace, table = dock.workspace, dock.view.classes
    table.add_class("stroma")
    table._table.item(1, 2).setText("tumour stroma")
    assert workspace.classes.names == ("object", "tumour stroma")
    table._table.item(1, 2).setText("object")  # taken
    assert "name" in table._error.text()
    assert workspace.classes.names == ("object", "tumour stroma")
    table.export_csv(tmp_path / "classes.csv")
    hands.key("Ctrl+Z")
    hands.key("Ctrl+Z")
    assert table.value().names == ("object",)
    table.import_csv(tmp_path / "classes.csv")
    assert workspace.classes.names == ("object", "tumour stroma")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    table.import_csv(tmp_path / "bad.csv")
    assert "id,name,color" in table._error.text()
    assert workspace.classes.names == ("object", "tumour stroma")

"""New, Delete and the words of the dock: nothing that was painted goes, nothing stale stays."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam._napari import finetune_brush, finetune_labels
from napari_pathsam._napari.finetune_classes import PX

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def spot(y: int, x: int) -> tuple[np.ndarray, ...]:
    """Pixels of a square of 100."""
    return tuple(np.mgrid[y : y + 10, x : x + 10].reshape(2, -1))


def soon(lesson, condition) -> None:
    """Nothing here takes long."""
    lesson.hands.until(lambda: bool(condition()))


@pytest.fixture
def painted(finetune_of, made_up):
    """A lesson with strokes that are on disk, its layer, and what of them is on disk."""
    lesson = finetune_of(made_up())
    layer = lesson.strokes()
    dock = lesson.dock
    soon(lesson, lambda: dock.teaching.lesson.images and dock.files.idle)

    def saved() -> int:
        soon(lesson, lambda: not dock.paint._timer.isActive())
        lesson.hands.settle(3)
        soon(lesson, lambda: dock.files.idle)
        return int((dock.teaching.folder.newest_strokes(dock.source.key).labels > 0).sum())

    return lesson, layer, saved


def test_new_goes_on_with_what_is_painted(painted):
    (viewer, dock, hands), layer, saved = lesson, *_ = painted
    assert saved() == 6 * 196
    layer.mode = "pan_zoom"
    lesson.press(dock.view.new_button)
    soon(lesson, dock.view.new_bar.text)
    assert "“PathSAM training labels” holds what you painted" in dock.view.new_bar.text()
    assert dock.view.labels.value() is layer
    assert (str(layer.mode), len(viewer.layers)) == ("paint", 2)
    assert saved() == 6 * 196
    hands.screenshot("64-new-goes-on")
    layer.data_setitem(spot(70, 70), 1)  # who paints on has read it
    soon(lesson, lambda: not dock.view.new_bar.text())

    lesson.press(dock.view.new_button)
    soon(lesson, dock.view.new_bar.text)
    (button,) = dock.view.new_bar.findChildren(type(dock.view.new_button))
    lesson.press(button)
    empty = dock.view.labels.value()
    assert empty is not layer
    assert not empty.data.any()
    assert not layer.visible
    assert "To go back, choose it" in dock.view.status.text()
    hands.screenshot("65-begun-anew")
    assert saved() == 6 * 196 + 100  # until something is painted, and beside it then
    empty.data_setitem(spot(40, 40), 2)
    assert saved() == 100
    assert len(dock.teaching.folder._aside(dock.source.key)) == 1
    dock.view.labels.value_changed.emit(layer)
    assert saved() == 6 * 196 + 100


@pytest.mark.parametrize("how", ["deleted", "not chosen"])
def test_new_brings_back_what_is_no_longer_chosen(painted, how):
    (viewer, dock, _), layer, saved = lesson, *_ = painted
    mine = layer.data.copy()
    if how == "deleted":
        viewer.layers.remove(layer)
    else:
        dock.view.labels.setCurrentIndex(0)
    lesson.press(dock.view.new_button)
    soon(lesson, dock.view.new_bar.text)
    now = dock.view.labels.value()
    assert (now is layer) == (how == "not chosen")
    np.testing.assert_array_equal(now.data, mine)
    assert saved() == (mine > 0).sum()
    assert len(viewer.layers) == 2


def test_new_where_nothing_is_painted_yet_stacks_no_empty_layers(finetune_of, made_up):
    viewer, dock, _ = lesson = finetune_of(made_up())
    for _ in range(2):
        lesson.press(dock.view.new_button)
        soon(lesson, lambda: dock.files.idle)
    assert len(viewer.layers) == 2
    assert not dock.view.new_bar.text()


def test_another_field_of_a_slide_adds_to_those_before(finetune_of, made_up, monkeypatch):
    monkeypatch.setattr(finetune_labels, "LARGEST_NEW_PX", 100)
    viewer, dock, hands = lesson = finetune_of(made_up())
    camera, shown = viewer.scene.camera, []
    for center in ((20, 20), (50, 50)):  # µm
        camera.center, camera.zoom = center, 40
        hands.settle(3)
        lesson.press(dock.view.new_button)
        soon(lesson, lambda: dock.files.idle)
        layer = dock.view.labels.value()
        shown.append(layer)
        rows, columns = (
            int(c / 0.5 - t / 0.5) for c, t in zip(center, layer.translate, strict=True)
        )
        layer.data_setitem(spot(rows, columns), 1)
        soon(lesson, lambda: dock.files.idle and not dock.paint._timer.isActive())
    first, second = shown
    assert second is not first
    assert not first.visible
    assert f"holds what you painted in “{first.name}”" in dock.view.status.text()
    (pair,) = dock.paint.pairs()
    assert (pair.painted(dock.teaching.choices.classes).labels == 1).sum() == 200
    soon(lesson, lambda: dock.view.classes.text(0, PX) == "200")
    hands.screenshot("66-another-field")
    monkeypatch.setattr(finetune_brush, "LARGEST_WHOLE_PX", 60)  # as of fields far apart
    camera.center = (20, 60)
    hands.settle(3)
    lesson.press(dock.view.new_button)
    soon(lesson, dock.view.new_bar.text)
    assert "too far from here" in dock.view.new_bar.text()
    assert dock.view.labels.value() is second


def test_the_brush_leaves_a_class_that_is_deleted(painted):
    (_, dock, hands), layer, _ = lesson, *_ = painted
    view = dock.view
    lesson.press(view.classes.add_button)
    layer.data_setitem(spot(70, 70), 3)
    soon(lesson, lambda: view.classes.text(2, PX) == "100")
    assert layer.selected_label == 3
    lesson.press(view.classes.delete_button)
    assert layer.selected_label == view.classes.active() == 2
    assert view.classes._table.chosen_row() == 1
    layer.data_setitem(spot(100, 100), layer.selected_label)
    soon(lesson, lambda: view.classes.text(1, PX) == str(3 * 196 + 100))
    assert dock.teaching.choices.classes.names == ("Class 1", "Background")
    lesson.row(view.classes._table, 0)
    lesson.press(view.classes.delete_button)
    assert layer.selected_label == view.classes.active() == 2
    assert view.classes._table.chosen_row() == 0
    hands.screenshot("67-deleted")


def test_what_nobody_painted_is_not_called_background(painted):
    (_, dock, _), layer, _ = painted

    def bare() -> str:
        return layer.get_status((0.5, 0.5), world=True)["value"]

    assert "not painted" in bare()
    dock.view.classes.zero.setCurrentText("taken as background")
    assert "Background" in bare()
    dock.view.classes.background.setCurrentText("none of them")
    assert "background" in bare()
    dock.view.classes.zero.setCurrentText("left out: not known")
    assert "not painted" in bare()


def test_an_error_goes_with_what_it_was_said_of(finetune_of, made_up):
    _, dock, hands = lesson = finetune_of(made_up())
    layer, said = dock.brush.new_labels(), dock.view.error_bar.text

    def train() -> None:
        dock.view.train.train_button.click()
        lesson.done()
        soon(lesson, lambda: not dock.paint._timer.isActive() and dock.files.idle)
        hands.settle(5)

    layer.data_setitem(spot(20, 20), 1)
    train()
    assert "Only one class" in said()
    layer.data_setitem((np.full(3, 90), np.arange(40, 43)), 2)
    soon(lesson, lambda: not said())
    train()
    assert "3 painted pixels" in said()
    lesson.row(dock.view.classes._table, 1)
    lesson.press(dock.view.classes.delete_button)
    soon(lesson, lambda: not said())
    train()
    assert "Only one class" in said()
    dock.view.classes.zero.setCurrentText("taken as background")  # it can be learned from now
    assert not said()


def test_names_that_differ_in_case_only_are_one_name(finetune_of, made_up):
    _, dock, _ = finetune_of(made_up())
    classes = dock.view.classes
    for name in ("background", " Background ", "CLASS  1"):
        classes.add_class(name)
        assert "share the name" in classes.error()
    classes.rename(1, "background")
    assert "share the name" in classes.error()
    assert dock.teaching.choices.classes.names == ("Class 1", "Background")
    classes.rename(1, "CLASS 1")  # its own name
    assert not classes.error()

"""Each widget edits one value: set it, read it back, change it by hand."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from napari_pathsam._napari.class_table import ClassCount, ClassTableWidget, area_text
from napari_pathsam._napari.model_chooser import ModelChooser, read_catalogue
from napari_pathsam._napari.segment_heads import HeadChoice, HeadChooser
from napari_pathsam._napari.widgets import CandidatePanel, PixelSize, ToolBar
from napari_pathsam.core.classes import ClassTable

pytestmark = pytest.mark.gui


def kept(qtbot, widget):
    qtbot.addWidget(widget)
    widget.show()
    return widget


def test_pixel_size(qtbot):
    widget = kept(qtbot, PixelSize())
    for value in (0.25, None, 1.5):
        widget.set_value(value)
        assert widget.value() == value
        assert widget._badge.isVisible() == (value is None)
    with qtbot.waitSignal(widget.value_changed) as caught:
        widget._spin.setValue(0.5)
    assert caught.args == [0.5]
    widget.clear()
    assert not widget._badge.isVisible()


def test_an_empty_list_of_heads_says_why(qtbot):
    """The worker loads PyTorch before it lists them: seconds in which a person opens the list."""
    widget = kept(qtbot, HeadChooser())
    listed = widget.findChild(QComboBox)
    assert [listed.itemText(row) for row in range(listed.count())] == ["looking for models…"]
    assert widget.value() is None
    widget.set_heads([HeadChoice("glands", "Glands")])
    texts = [listed.itemText(row) for row in range(listed.count())]
    assert texts == ["choose what to find…", "Glands"]
    assert widget.value() is None


def test_tools(qtbot):
    widget = kept(qtbot, ToolBar())
    widget.set_value("box")
    assert widget.value() == "box"
    with qtbot.waitSignal(widget.value_changed) as caught:
        widget._buttons["lasso"].click()
    assert caught.args == ["lasso"]
    assert widget.value() == "lasso"
    with qtbot.waitSignal(widget.value_changed) as caught:
        widget._buttons["lasso"].click()
    assert caught.args == [None]
    with qtbot.waitSignal(widget.sign_changed) as caught:
        widget._minus.click()
    assert caught.args == [False]
    assert not widget.sign()


def test_candidate(qtbot):
    widget = kept(qtbot, CandidatePanel())
    assert not widget.accept_button.isEnabled()
    widget.show_candidate(0.4, (1, 3))
    assert widget.text() == "Candidate, mask 2 of 3"
    assert widget.accept_button.isEnabled()
    widget.show_candidate(None, None, busy="Encoding the field in view", left_s=7.2)
    assert widget.text() == "Encoding the field in view… about 7 s left"
    assert widget.cancel_button.isVisible()
    with qtbot.waitSignal(widget.cancelled):
        widget.cancel_button.click()


def test_class_table(qtbot):
    widget = kept(qtbot, ClassTableWidget())
    table = ClassTable.of("gland", "stroma")
    widget.set_value(table)
    widget.set_counts({1: ClassCount(3, 40_000)}, 0.5)
    assert widget.value() == table
    assert [widget._table.item(0, c).text() for c in (2, 3, 4)] == ["gland", "3", "10\u2009000 µm²"]
    with qtbot.waitSignal(widget.active_changed) as caught:
        widget._table.selectRow(1)
    assert caught.args == [2]
    with qtbot.waitSignal(widget.hidden_changed) as caught:
        widget._table.item(1, 0).setCheckState(Qt.Unchecked)
    assert caught.args == [frozenset({2})]


def test_areas():
    assert area_text(1_234, None) == "1\u2009234 px"
    assert area_text(34_348_812, None) == "34.3\u2009M px"
    assert area_text(100, 0.5) == "25 µm²"
    assert area_text(10_000_000, 0.5) == "2.5 mm²"


def test_models_are_listed_with_size_and_licence(qtbot):
    widget = kept(qtbot, ModelChooser())
    assert widget.value() == ("pathsam-nano", "auto")
    catalogue = read_catalogue()
    widget.set_catalogue(catalogue)
    assert widget.value() == ("pathsam-nano", "auto")
    assert {m.name for m in catalogue.models} >= {"pathsam-nano", "sam2.1-tiny", "sam2.1-large"}
    tiny = next(m for m in catalogue.models if m.name == "sam2.1-tiny")
    assert "156 MB" in tiny.line
    assert "Apache-2.0" in tiny.line
    assert not tiny.ready
    with qtbot.waitSignal(widget.value_changed) as caught:
        widget._model.setCurrentIndex(widget._model.findData("sam2.1-tiny"))
    assert caught.args == ["sam2.1-tiny", "auto"]
    assert "Apache-2.0" in widget._info.text()


def test_a_preview_that_made_room_comes_back_and_one_a_person_hid_does_not(qtbot):
    from napari_pathsam._napari.finetune_preview import LookPanel

    panel = kept(qtbot, LookPanel())
    box = panel.shown_box
    for _ in range(2):
        panel.make_room()
        assert not box.isChecked()
    panel.come_back()
    assert box.isChecked()
    box.click()
    panel.make_room()
    panel.come_back()
    assert not box.isChecked()
    box.click()
    panel.make_room()
    box.click()  # a look at it ...
    box.click()  # ... was enough
    panel.come_back()
    assert not box.isChecked()


def test_a_bar_that_waits_counts_seconds_and_is_painted_once_for_each(qtbot):
    from qtpy.QtCore import QEvent, QObject

    from napari_pathsam._napari.progress_bar import ProgressBar

    class Paints(QObject):
        n = 0

        def eventFilter(self, watched, event):
            self.n += event.type() == QEvent.Paint
            return False

    bar, paints = kept(qtbot, ProgressBar()), Paints()
    bar.installEventFilter(paints)
    for _ in range(3):
        bar.show_steps(0, 0)
    assert bar.text() == "…"
    qtbot.waitUntil(lambda: bar.text() not in ("…", "1 s"), timeout=10_000)
    assert 2 <= paints.n <= 10  # Qt's own: fifty
    bar.show_steps(1, 4, "1 of 4")
    assert (bar.text(), bar.value(), bar.maximum()) == ("1 of 4", 1, 4)
    bar.show_steps(0, 0)
    assert bar.text() == "…"
    bar.rest()
    assert not bar._timer.isActive()


def typed(table, row: int, column: int, text: str):
    """Double-click a cell and type over what it says; the editor, still open."""
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QLineEdit

    at = table.visualItemRect(table.item(row, column)).center()
    QTest.mouseClick(table.viewport(), Qt.LeftButton, pos=at)
    QTest.mouseDClick(table.viewport(), Qt.LeftButton, pos=at)
    (editor,) = table.findChildren(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, text)
    return editor


def test_a_class_name_that_is_being_typed_outlives_new_counts(qtbot):
    from qtpy.QtTest import QTest

    from napari_pathsam._napari.finetune_classes import NAME, PX, PaintedClasses
    from napari_pathsam.core.strokes import ClassStrokes

    widget = kept(qtbot, PaintedClasses())
    widget.set_value(ClassTable.of("gland", "stroma"))
    editor = typed(widget._table, 1, NAME, "lum")
    widget.set_counts((ClassStrokes(1, 70, 2, 1), ClassStrokes(2, 50, 2, 1)))
    QTest.keyClicks(editor, "en")
    QTest.keyClick(editor, Qt.Key_Return)
    qtbot.waitUntil(lambda: widget.value().names == ("gland", "lumen"))
    qtbot.waitUntil(lambda: widget.text(1, PX) == "50")
    assert widget.text(1, NAME) == "lumen"
    typed(widget._table, 1, NAME, "gland")
    QTest.keyClick(widget._table.findChild(type(editor)), Qt.Key_Return)
    qtbot.waitUntil(lambda: "share the name" in widget.error())
    qtbot.waitUntil(lambda: widget.text(1, NAME) == "lumen")  # as it was


def test_a_name_that_is_being_typed_goes_to_its_class_when_another_one_goes(qtbot):
    from qtpy.QtTest import QTest

    from napari_pathsam._napari.finetune_classes import NAME, PaintedClasses

    widget, classes = kept(qtbot, PaintedClasses()), ClassTable.of("gland", "stroma", "fat")
    widget.set_value(classes)
    editor = typed(widget._table, 1, NAME, "lumen")
    widget.set_value(classes.without(1))
    QTest.keyClick(editor, Qt.Key_Return)
    qtbot.waitUntil(lambda: widget._table.rowCount() == 2)
    assert widget.value().names == ("lumen", "fat")
    editor = typed(widget._table, 1, NAME, "nerve")
    widget.set_value(classes.without(3))
    QTest.keyClick(editor, Qt.Key_Return)  # what it named is gone
    qtbot.waitUntil(lambda: widget.text(1, NAME) == "stroma")
    assert widget.value() == classes.without(3)


def test_a_note_that_is_being_typed_outlives_a_new_version(qtbot):
    from datetime import UTC, datetime

    from qtpy.QtTest import QTest

    from napari_pathsam._napari.finetune_versions import NOTE, Versions
    from napari_pathsam.workspace.teaching_lesson import Lesson, Version

    now = datetime(2026, 1, 1, tzinfo=UTC)
    first = Version(number=1, name="one", created=now, file="1.safetensors")
    lesson = Lesson(started=now, saved=now).with_version(first)
    widget = kept(qtbot, Versions())
    widget.set_value(lesson)
    editor = typed(widget._table, 0, NOTE, "better ")
    widget.set_value(lesson.with_version(first.model_copy(update={"number": 2, "name": "two"})))
    QTest.keyClicks(editor, "glands")
    with qtbot.waitSignal(widget.described) as told:
        QTest.keyClick(editor, Qt.Key_Return)
    assert told.args == [1, None, "better glands"]
    qtbot.waitUntil(lambda: widget._table.rowCount() == 2)
    assert widget.value() == 2

"""The cheat sheet: every key and mouse gesture, and the place to change the keys."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QGridLayout,
    QHBoxLayout,
    QKeySequenceEdit,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.keys import ACTIONS, MOUSE, Keys
from napari_pathsam._napari.widgets import button, error_line, heading

QT_NAMES = (("Control", "Ctrl"), ("Escape", "Esc"), ("Delete", "Del"), ("Enter", "Return"))


def to_qt(key: str) -> str:
    """Napari's spelling of a key in Qt's: ``Control-Shift-Z`` is ``Ctrl+Shift+Z``."""
    for ours, theirs in QT_NAMES:
        key = key.replace(ours, theirs)
    return key.replace("-", "+")


def from_qt(key: str) -> str:
    """Qt's spelling of a key in napari's; of several keys in a row, the first."""
    parts = key.split(", ")[0].replace("+", "-").split("-")
    names = {theirs: ours for ours, theirs in QT_NAMES}
    return "-".join(names.get(part, part) for part in parts)


class CheatSheet(QDialog):
    """A window beside the viewer, never in front of its work: not modal."""

    keys_changed = Signal()

    def __init__(self, keys: Keys, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._keys = keys
        self.setWindowTitle("PathSAM: keys and mouse")
        self.setModal(False)
        self._edits: dict[str, QKeySequenceEdit] = {}
        self._error = error_line(self)
        inside = QWidget()
        grid = QGridLayout(inside)
        grid.setVerticalSpacing(3)
        grid.addWidget(heading("Mouse"), 0, 0, 1, 2)
        for row, (gesture, meaning) in enumerate(MOUSE, start=1):
            grid.addWidget(QLabel(f"<b>{gesture}</b>"), row, 0)
            grid.addWidget(QLabel(meaning), row, 1)
        start = len(MOUSE) + 1
        grid.addWidget(heading("Keys (click one and press another to change it)"), start, 0, 1, 2)
        for row, action in enumerate(ACTIONS, start=start + 1):
            grid.addWidget(QLabel(action.title), row, 1)
            grid.addWidget(self._edit(action.id), row, 0)
        scroll = QScrollArea(self)
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        buttons = QHBoxLayout()
        buttons.addWidget(button("Restore defaults", "All keys as they came", self._reset))
        buttons.addStretch()
        buttons.addWidget(button("Close", "", self.close))
        layout = QVBoxLayout(self)
        layout.addWidget(scroll)
        layout.addWidget(self._error)
        layout.addLayout(buttons)
        self.resize(460, 640)

    def rebind(self, action_id: str, qt_key: str) -> None:
        """Give an action another key; a key already in use is refused and explained."""
        other = self._keys.rebind(action_id, from_qt(qt_key))
        titles = {a.id: a.title for a in ACTIONS}
        self._error.setText(
            f"{qt_key} is already “{titles[other]}”. Change that one first." if other else ""
        )
        self._error.setVisible(bool(other))
        self._show_keys()
        if other is None:
            self.keys_changed.emit()

    def _edit(self, action_id: str) -> QKeySequenceEdit:
        edit = QKeySequenceEdit(QKeySequence(to_qt(self._keys[action_id])), self)
        edit.setMaximumWidth(150)
        edit.editingFinished.connect(lambda: self._on_edited(action_id))
        self._edits[action_id] = edit
        return edit

    def _on_edited(self, action_id: str) -> None:
        wanted = self._edits[action_id].keySequence().toString()
        if wanted != to_qt(self._keys[action_id]):
            self.rebind(action_id, wanted)

    def _reset(self) -> None:
        self._keys.reset()
        self._show_keys()
        self.keys_changed.emit()

    def _show_keys(self) -> None:
        for action_id, edit in self._edits.items():
            edit.blockSignals(True)
            edit.setKeySequence(QKeySequence(to_qt(self._keys[action_id])))
            edit.blockSignals(False)

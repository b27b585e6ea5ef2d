"""Small parts of the Fine-tune dock: folding sections, choosers, the presets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.segment_heads import QUIET
from napari_pathsam.workspace.teaching_choices import PRESETS

LABEL_PX = 88
TITLES = {"fast": "Fast", "balanced": "Balanced", "thorough": "Thorough"}
TIPS = {
    "fast": "Seconds: to see at once whether your strokes say enough",
    "balanced": "Minutes: each field also turned, mirrored and in other stains",
    "thorough": "Longer: more variants and more steps, for the model you keep",
}


class Section(QWidget):
    """A part of the dock under a title that folds it."""

    toggled = Signal(bool)

    def __init__(self, title: str, tip: str, *, opened: bool, parent: QWidget | None = None):
        super().__init__(parent)
        self._toggle = QToolButton(self)
        self._toggle.setText(title.upper())
        self._toggle.setToolTip(tip)
        self._toggle.setCheckable(True)
        self._toggle.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        self._toggle.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._toggle.setStyleSheet(
            "QToolButton { border: none; background: transparent; color: #858c94;"
            " font-size: 10px; font-weight: bold; padding: 2px 0px; }"
            "QToolButton:hover { color: #b8bec6; }"
        )
        self.body = QWidget(self)
        self.column = QVBoxLayout(self.body)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(5)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 3, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self._toggle)
        layout.addWidget(self.body)
        self._toggle.toggled.connect(self._on_toggled)
        self._toggle.setChecked(opened)
        self._on_toggled(opened)

    def is_open(self) -> bool:
        return bool(self._toggle.isChecked())

    def open(self, opened: bool = True) -> None:
        """Unfold it, or fold it."""
        self._toggle.setChecked(opened)

    def retitle(self, title: str) -> None:
        """Give it another title."""
        self._toggle.setText(title.upper())

    def _on_toggled(self, opened: bool) -> None:
        self._toggle.setArrowType(Qt.DownArrow if opened else Qt.RightArrow)
        self.body.setVisible(opened)
        self.toggled.emit(opened)


class Choice(QComboBox):
    """Edits one of a few named values."""

    value_changed = Signal(object)

    def __init__(
        self, values: Mapping[Any, str] | None = None, tip: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        self.setToolTip(tip)
        self._values: list[Any] = []
        self.set_values(values or {})
        self.currentIndexChanged.connect(lambda _: self.value_changed.emit(self.value()))

    def value(self) -> Any:
        row = self.currentIndex()
        return self._values[row] if 0 <= row < len(self._values) else None

    def set_value(self, value: Any) -> None:
        """Choose; emits nothing."""
        if value in self._values and value != self.value():
            self.blockSignals(True)
            self.setCurrentIndex(self._values.index(value))
            self.blockSignals(False)

    def set_values(self, values: Mapping[Any, str], tips: Mapping[Any, str] | None = None) -> None:
        """List these; the choice stays where it can, and nothing is emitted."""
        kept = self.value()
        self.blockSignals(True)
        self.clear()
        self._values = list(values)
        for row, (value, title) in enumerate(values.items()):
            self.addItem(title)
            self.setItemData(row, (tips or {}).get(value, title), Qt.ToolTipRole)
        if kept in self._values:
            self.setCurrentIndex(self._values.index(kept))
        self.blockSignals(False)


class PresetButtons(QWidget):
    """Edits how long and how thoroughly is trained; each says what it will take here."""

    value_changed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QToolButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        for preset in PRESETS:
            made = QToolButton(self)
            made.setCheckable(True)
            made.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
            made.setMinimumHeight(40)
            made.setStyleSheet(
                "QToolButton { padding: 2px 0px; border-radius: 4px; background: #3a3f4a;"
                " color: #d6d8db; }"
                "QToolButton:hover { background: #4a515e; }"
                "QToolButton:checked { background: #2f5f95; color: white; }"
            )
            self._group.addButton(made)
            self._buttons[preset] = made
            row.addWidget(made, 1)
            made.clicked.connect(lambda _=False, p=preset: self.value_changed.emit(p))
        self.set_estimates({})
        self.set_value("fast")

    def value(self) -> str:
        return next(p for p, made in self._buttons.items() if made.isChecked())

    def set_value(self, preset: str) -> None:
        """Choose; emits nothing."""
        self._buttons[preset].setChecked(True)

    def set_estimates(self, estimates: Mapping[str, tuple[str, str]]) -> None:
        """What each takes: a few words for its button, and a line of explanation."""
        for preset, made in self._buttons.items():
            words, line = estimates.get(preset, ("", ""))
            made.setText(f"{TITLES[preset]}\n{words}" if words else TITLES[preset])
            made.setToolTip("\n".join(t for t in (TIPS[preset], line) if t))

    def text(self, preset: str) -> str:
        return self._buttons[preset].text()


def label(text: str) -> QLabel:
    """A form's label, as wide as in the other docks."""
    made = QLabel(text)
    made.setMinimumWidth(LABEL_PX)
    return made


def quiet(text: str = "") -> QLabel:
    """A line of small, wrapping text."""
    made = QLabel(text)
    made.setWordWrap(True)
    made.setStyleSheet(QUIET)
    return made


def form(rows: Iterable[tuple[str, QWidget]]) -> QFormLayout:
    """Fields below each other, their labels of one width."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for text, widget in rows:
        layout.addRow(label(text), widget)
    return layout


def row(*widgets: QWidget, stretch: bool = True) -> QHBoxLayout:
    """Widgets beside each other."""
    layout = QHBoxLayout()
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget, 1 if stretch else 0)
    if not stretch:
        layout.addStretch(1)
    return layout

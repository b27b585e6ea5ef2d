"""A list to choose from in a narrow dock."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QStylePainter


class ElidedBox(QComboBox):
    """A combo box whose text ends in “…” where there is no room; the opened list has all of it."""

    def paintEvent(self, event: Any) -> None:
        """Draw it as its style does, with the text cut."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        style, part = self.style(), QStyle.SC_ComboBoxEditField
        room = style.subControlRect(QStyle.CC_ComboBox, option, part, self).width() - 4
        option.currentText = self.fontMetrics().elidedText(option.currentText, Qt.ElideRight, room)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.CC_ComboBox, option)
        painter.drawControl(QStyle.CE_ComboBoxLabel, option)

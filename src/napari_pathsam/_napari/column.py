"""The column a dock's parts stand in."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QScrollArea, QSizePolicy, QVBoxLayout, QWidget


class Column(QWidget):
    """Parts below each other, in ``self.column``; it scrolls, and is as wide as they need."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._inside = QWidget()
        self.column = QVBoxLayout(self._inside)
        self.column.setContentsMargins(8, 6, 8, 6)
        self.column.setSpacing(6)
        self._scroll = QScrollArea(self)
        self._scroll.setWidget(self._inside)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QScrollArea.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._scroll)
        self._inside.installEventFilter(self)
        # Else napari adds an empty half below.
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Expanding)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """As wide as the parts need that are shown now, in the viewer's style."""
        if event.type() in (QEvent.Show, QEvent.LayoutRequest, QEvent.StyleChange):
            bar = self._scroll.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(self._inside.minimumSizeHint().width() + bar)
        return bool(super().eventFilter(watched, event))

    def show_widget(self, widget: QWidget) -> None:
        """Scroll to a part."""
        self._scroll.ensureWidgetVisible(widget, 0, 8)

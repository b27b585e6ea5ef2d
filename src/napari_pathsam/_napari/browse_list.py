"""The list of a data set's images, with what the model scored on each; any number of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QTableView, QVBoxLayout, QWidget

from napari_pathsam._napari.tables import GREY, make_plain

ROW_PX, ROWS = 24, 9
NUMBER, NAME, SCORE = range(3)
TIPS = (
    "Place in the data set",
    "The image; hover over it for its patient, slide or case and its split",
    "What the model scored on this image, by the figure chosen above",
)


class _Rows(QAbstractTableModel):
    """Images in the order they are listed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.order: Sequence[int] = ()
        self.samples: Sequence[Any] = ()
        self.scores: Mapping[int, float] = {}
        self.title = "score"

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else 3

    def headerData(self, section: int, orientation: Any, role: int = Qt.DisplayRole) -> Any:
        if orientation != Qt.Horizontal:
            return None
        if role == Qt.DisplayRole:
            return ("#", "Image", self.title if len(self.title) < 15 else "Score")[section]
        return TIPS[section] if role == Qt.ToolTipRole else None

    def data(self, at: QModelIndex, role: int = Qt.DisplayRole) -> Any:
        index = self.order[at.row()]
        if role == Qt.TextAlignmentRole and at.column() != NAME:
            return int(Qt.AlignRight | Qt.AlignVCenter)
        if role == Qt.ToolTipRole:
            sample = self.samples[index]
            return f"{sample.name}\npatient, slide or case: {sample.group}\nsplit: {sample.split}"
        if role == Qt.ForegroundRole and at.column() == NUMBER:
            return QColor(GREY)
        if role != Qt.DisplayRole:
            return None
        if at.column() == NUMBER:
            return str(index + 1)
        return self.samples[index].name if at.column() == NAME else score_text(self.scores, index)


class ImageList(QWidget):
    """Shows the images; a click, or Enter, asks for one."""

    chosen = Signal(int)  # its place in the data set

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows = _Rows(self)
        view = self._view = QTableView(self)
        view.setModel(self._rows)
        make_plain(view, {NUMBER: 48, SCORE: 104}, ROW_PX)
        view.setVerticalScrollBarPolicy(Qt.ScrollBarAlwaysOn)
        view.setFixedHeight(ROW_PX * (ROWS + 1) + 4)
        view.clicked.connect(self._on_row)
        view.activated.connect(self._on_row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(view)

    def set_value(
        self, order: Sequence[int], samples: Sequence[Any], scores: Mapping[int, float], title: str
    ) -> None:
        """List these images in this order, with these scores by place in the data set."""
        shown = self.value()
        self._rows.beginResetModel()
        rows = self._rows
        rows.order, rows.samples, rows.scores, rows.title = list(order), samples, scores, title
        self._rows.endResetModel()
        self.show_chosen(shown)

    def value(self) -> int | None:
        """Place in the data set of the image that is marked."""
        found = self._view.selectionModel().selectedRows()
        return self._rows.order[found[0].row()] if found else None

    def show_chosen(self, index: int | None) -> None:
        """Mark an image as the one that is shown; emits nothing."""
        if index is not None and index in self._rows.order:
            self._view.selectRow(self._rows.order.index(index))

    def texts(self) -> list[tuple[str, ...]]:
        """What the rows say."""
        model = self._rows
        return [
            tuple(str(model.data(model.index(row, column))) for column in range(3))
            for row in range(model.rowCount())
        ]

    def _on_row(self, at: QModelIndex) -> None:
        self.chosen.emit(self._rows.order[at.row()])


def score_text(scores: Mapping[int, float], index: int) -> str:
    """``0.873``; a dash where nothing could be measured, nothing where nobody did."""
    if index not in scores:
        return ""
    return figure_text(scores[index])


def figure_text(value: float) -> str:
    """A figure with three places, a distance with one, a dash for what could not be measured."""
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"

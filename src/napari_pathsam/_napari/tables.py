"""Tables in our docks: narrow, plain, a tooltip on every column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

GREY = "#9aa0a6"


class PlainTable(QTableWidget):
    """As high as its rows.

    Parameters
    ----------
    headers, tips
        Of the columns.
    widths
        Of the columns that have a fixed one, in pixels; the others share what is left.
    row_px
        Height of a row.
    chosen
        Whether rows can be selected, one at a time, and cells edited; else it only shows.
    """

    def __init__(
        self,
        headers: Sequence[str],
        tips: Sequence[str],
        widths: Mapping[int, int],
        *,
        row_px: int = 26,
        chosen: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(0, len(headers), parent)
        self._row_px = row_px
        self.setHorizontalHeaderLabels(headers)
        for column, tip in enumerate(tips):
            self.horizontalHeaderItem(column).setToolTip(tip)
        self.setIconSize(QSize(16, 16))
        make_plain(self, widths, row_px)
        if not chosen:
            self.setSelectionMode(QAbstractItemView.NoSelection)
            self.setEditTriggers(QAbstractItemView.NoEditTriggers)
            self.setFocusPolicy(Qt.NoFocus)
        self._waiting: Callable[[], None] | None = None
        # Later: Qt has not put the editor away yet.
        self.itemDelegate().closeEditor.connect(lambda *_: QTimer.singleShot(0, self._catch_up))

    def when_free(self, fill: Callable[[], None]) -> None:
        """Fill it: now, or once the cell is left into which a person types.

        A cell that is written meanwhile would take what was typed with it.
        """
        if self.state() == QAbstractItemView.EditingState:
            self._waiting = fill
        else:
            self._waiting = None
            fill()

    def _catch_up(self) -> None:
        if self._waiting is not None:
            self.when_free(self._waiting)

    def fit_rows(self, least: int, most: int) -> None:
        """Be as high as the rows, or as so many; more of them scroll."""
        self.setFixedHeight(self._row_px * (min(max(self.rowCount(), least), most) + 1) + 4)

    def chosen_row(self) -> int | None:
        """The selected row."""
        rows = self.selectionModel().selectedRows()
        return rows[0].row() if rows else None

    def text(self, row: int, column: int) -> str:
        """What a cell says."""
        item = self.item(row, column)
        return "" if item is None else item.text()


def make_plain(view: QTableView, widths: Mapping[int, int], row_px: int) -> None:
    """Rows of one height, no grid, one chosen at a time; columns as in :class:`PlainTable`."""
    view.verticalHeader().hide()
    view.verticalHeader().setDefaultSectionSize(row_px)
    view.setShowGrid(False)
    view.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
    view.setSelectionBehavior(QAbstractItemView.SelectRows)
    view.setSelectionMode(QAbstractItemView.SingleSelection)
    header = view.horizontalHeader()
    header.setMinimumSectionSize(22)
    header.setFixedHeight(row_px)
    header.setSectionResizeMode(QHeaderView.Stretch)
    for column, width in widths.items():
        header.setSectionResizeMode(column, QHeaderView.Fixed)
        view.setColumnWidth(column, width)


def cell(text: str, tip: str = "", *, right: bool = False) -> QTableWidgetItem:
    """A cell that is not edited."""
    item = QTableWidgetItem(text)
    item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
    item.setToolTip(tip)
    if right:
        item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
    return item


def swatch(color: str, tip: str = "") -> QTableWidgetItem:
    """A cell with a colour; empty where there is none."""
    item = cell("", tip)
    if color:
        item.setIcon(swatch_icon(color))
    return item


def swatch_icon(color: str) -> QIcon:
    """A filled square with rounded corners."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.Antialiasing)
    painter.setBrush(QColor(color))
    painter.setPen(Qt.NoPen)
    painter.drawRoundedRect(2, 2, 28, 28, 7, 7)
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Selected)  # as it is, not tinted
    return icon


def short(number: float) -> str:
    """For a narrow column: ``9 876``, ``57.6 k``, ``6.04 M``; a tooltip has all of it."""
    if number < 10_000:
        return grouped(number)
    size, unit = next((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= s)
    value = number / size
    return f"{value:.0f}\u2009{unit}" if value >= 100 else f"{value:.3g}\u2009{unit}"


def grouped(number: float) -> str:
    """``1 234 567`` with thin spaces."""
    return f"{number:,.0f}".replace(",", "\u2009")

"""The class table: names, colours, visibility, counts; the selected row is the active class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.widgets import button, error_line
from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.errors import PathsamError

SHOWN, COLOR, NAME, COUNT, AREA, KEY = range(6)
HEADERS = ("", "", "Class", "n", "Area", "Key")
ROW_PX = 26
TIPS = (
    "Whether objects of this class are shown",
    "Colour; double-click to change it",
    "Name; double-click to change it. The selected class is given to accepted objects",
    "Accepted objects of this class",
    "Their area",
    "The key that selects this class",
)


@dataclass(frozen=True)
class ClassCount:
    """How much of a class there is: objects and pixels."""

    n: int = 0
    area_px: int = 0


class ClassTableWidget(QWidget):
    """Edits one :class:`ClassTable`.

    What the person asks for goes out as signals; the table shows what :meth:`set_value` says, so
    an undo shows itself in the same way as an edit.
    """

    value_changed = Signal(object)  # ClassTable
    imported = Signal(object)  # ClassTable, all of it from a file
    active_changed = Signal(int)
    hidden_changed = Signal(object)  # frozenset of class ids

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value = ClassTable()
        self._active = 0
        self._hidden: frozenset[int] = frozenset()
        self._counts: Mapping[int, ClassCount] = {}
        self._mpp: float | None = None
        self._keys: dict[int, str] = {}
        self._filling = False
        self._table = self._make_table()
        self._error = error_line(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._table)
        layout.addWidget(self._error)
        layout.addLayout(self._make_buttons())

    # --- the value ---

    def value(self) -> ClassTable:
        return self._value

    def set_value(self, table: ClassTable) -> None:
        """Show these classes; emits nothing."""
        self._value = table
        self._fill()

    def active(self) -> int:
        return self._active

    def set_active(self, class_id: int) -> None:
        """Select the row of a class; emits nothing."""
        self._active = class_id
        self._select_active()

    def hidden(self) -> frozenset[int]:
        return self._hidden

    def set_counts(self, counts: Mapping[int, ClassCount], mpp: float | None) -> None:
        """Objects and area of each class; in µm² (mm² when large) where ``mpp`` is known."""
        self._counts, self._mpp = counts, mpp
        self._filling = True
        for row, info in enumerate(self._value):
            self._fill_counts(row, info.id)
        self._filling = False

    def set_keys(self, keys: dict[int, str]) -> None:
        """The keys printed beside the first nine rows, by row number from 1."""
        self._keys = keys
        self._fill()

    def area_text(self, class_id: int) -> str:
        """The area as it is printed."""
        return area_text(self._counts.get(class_id, ClassCount()).area_px, self._mpp)

    # --- edits ---

    def add_class(self, name: str | None = None) -> None:
        """One more class, its name ready to be typed over."""
        taken = set(self._value.names)
        name = name or next(n for i in range(1, 256) if (n := f"Class {i}") not in taken)
        before = {c.id for c in self._value}
        if self._change(lambda: self._value.with_class(name)):
            self._activate(next(c.id for c in self._value if c.id not in before))

    def delete_active(self) -> None:
        """Remove the selected class."""
        if any(c.id == self._active for c in self._value):
            self._change(lambda: self._value.without(self._active))

    def import_csv(self, path: Path | None = None) -> None:
        """Replace the classes by those of a CSV file."""
        path = path or _ask(QFileDialog.getOpenFileName(self, "Import classes", "", "CSV (*.csv)"))
        if path is not None:
            self._change(lambda: ClassTable.from_csv(path.read_text("utf-8")), self.imported)

    def export_csv(self, path: Path | None = None) -> None:
        """Write the classes as CSV."""
        path = path or _ask(
            QFileDialog.getSaveFileName(self, "Export classes", "classes.csv", "CSV (*.csv)")
        )
        if path is None:
            return
        try:
            path.write_text(self._value.to_csv(), "utf-8")
            self._say("")
        except OSError as error:
            self._say(f"The classes could not be written to {path}: {error.strerror or error}.")

    def _change(self, edit: object, changed: Any = None) -> bool:
        """Apply an edit; an edit that breaks a rule is explained and leaves all as it was."""
        assert callable(edit)
        try:
            table = edit()
        except (PathsamError, ValueError, OSError, StopIteration) as error:
            self._say(edit_error(error))
            self._fill()
            return False
        self._say("")
        if table != self._value:
            self._value = table
            self._fill()
            (changed or self.value_changed).emit(table)
        return True

    def _say(self, text: str) -> None:
        self._error.setText(text)
        self._error.setVisible(bool(text))

    def _activate(self, class_id: int) -> None:
        if class_id != self._active:
            self._active = class_id
            self.active_changed.emit(class_id)
        self._select_active()

    # --- the table ---

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, len(HEADERS), self)
        table.setHorizontalHeaderLabels(HEADERS)
        for column, tip in enumerate(TIPS):
            table.horizontalHeaderItem(column).setToolTip(tip)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(ROW_PX)
        table.setShowGrid(False)
        table.setIconSize(QSize(16, 16))
        table.setSelectionBehavior(QAbstractItemView.SelectRows)
        table.setSelectionMode(QAbstractItemView.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(24)
        header.setDefaultAlignment(Qt.AlignLeft | Qt.AlignVCenter)
        header.setFixedHeight(ROW_PX)
        header.setSectionResizeMode(QHeaderView.Fixed)
        header.setSectionResizeMode(NAME, QHeaderView.Stretch)
        for column, width in ((SHOWN, 28), (COLOR, 28), (COUNT, 34), (AREA, 76), (KEY, 42)):
            table.setColumnWidth(column, width)
        table.itemChanged.connect(self._on_item)
        table.itemSelectionChanged.connect(self._on_select)
        table.cellDoubleClicked.connect(self._on_double_click)
        return table

    def _make_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(button("Add class", "Add a class; double-click its name to change it",
                             self.add_class))  # fmt: skip
        row.addWidget(button("Delete", "Delete the selected class with its objects; undo brings "
                             "all back",
                             self.delete_active))  # fmt: skip
        row.addStretch()
        more = QToolButton(self)
        more.setText("CSV")
        more.setToolTip("Import the classes from a CSV file (id,name,color), or export them")
        more.setPopupMode(QToolButton.InstantPopup)
        more.setMinimumSize(52, 26)
        more.setStyleSheet("QToolButton { border-radius: 2px; background: #414851; }")
        menu = QMenu(more)
        menu.addAction("Import classes…").triggered.connect(lambda: self.import_csv())
        menu.addAction("Export classes…").triggered.connect(lambda: self.export_csv())
        more.setMenu(menu)
        row.addWidget(more)
        return row

    def _fill(self) -> None:
        self._filling = True
        self._table.setRowCount(len(self._value))
        for row, info in enumerate(self._value):
            self._fill_row(row, info)
        self._filling = False
        self._table.setFixedHeight(ROW_PX * (min(max(len(self._value), 3), 9) + 1) + 4)
        self._select_active()

    def _fill_row(self, row: int, info: ClassInfo) -> None:
        eye = QTableWidgetItem()
        eye.setFlags(Qt.ItemIsUserCheckable | Qt.ItemIsEnabled)
        eye.setCheckState(Qt.Unchecked if info.id in self._hidden else Qt.Checked)
        swatch = QTableWidgetItem(swatch_icon(info.color), "")
        swatch.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
        name = QTableWidgetItem(info.name)
        for column, item in ((SHOWN, eye), (COLOR, swatch), (NAME, name)):
            item.setToolTip(TIPS[column])
            self._table.setItem(row, column, item)
        self._fill_counts(row, info.id)
        key = _read_only(self._keys.get(row + 1, ""))
        key.setForeground(QColor("#9aa0a6"))
        self._table.setItem(row, KEY, key)

    def _fill_counts(self, row: int, class_id: int) -> None:
        count = self._counts.get(class_id, ClassCount())
        self._table.setItem(row, COUNT, _read_only(str(count.n), right=True))
        area = area_text(count.area_px, self._mpp) if count.n or count.area_px else ""
        self._table.setItem(row, AREA, _read_only(area, right=True))

    def _select_active(self) -> None:
        self._filling = True
        for row, info in enumerate(self._value):
            if info.id == self._active:
                self._table.selectRow(row)
        self._filling = False

    def _id_at(self, row: int) -> int:
        return self._value.classes[row].id

    def _on_select(self) -> None:
        rows = self._table.selectionModel().selectedRows()
        if not self._filling and rows:
            self._activate(self._id_at(rows[0].row()))

    def _on_item(self, item: QTableWidgetItem) -> None:
        if self._filling:
            return
        info = self._value.classes[item.row()]
        if item.column() == SHOWN:
            shown = item.checkState() == Qt.Checked
            self._hidden = self._hidden - {info.id} if shown else self._hidden | {info.id}
            self.hidden_changed.emit(self._hidden)
        elif item.column() == NAME:
            renamed = item.text()
            self._change(lambda: self._value.replacing(_class(info.id, renamed, info.color)))

    def _on_double_click(self, row: int, column: int) -> None:
        if column == COLOR:
            info = self._value.classes[row]
            color = QColorDialog.getColor(QColor(info.color), self, f"Colour of {info.name}")
            if color.isValid():
                self._change(
                    lambda: self._value.replacing(_class(info.id, info.name, color.name()))
                )


def _class(class_id: int, name: str, color: str) -> ClassInfo:
    return ClassInfo(id=class_id, name=name, color=color)


def _read_only(text: str, *, right: bool = False) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
    if right:
        item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
    return item


def _ask(answer: tuple[str, str]) -> Path | None:
    return Path(answer[0]) if answer[0] else None


def edit_error(error: Exception) -> str:
    """The rule an edit broke, without pydantic's frame round it."""
    if hasattr(error, "errors") and callable(error.errors):
        messages = [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()]
        return "; ".join(messages).capitalize() + "."
    if isinstance(error, StopIteration):
        return "There can be at most 254 classes."
    return str(error)


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


def area_text(area_px: int, mpp: float | None) -> str:
    """An area for people: µm² or mm² where the pixel size is known, pixels elsewhere."""
    if mpp is None:
        return f"{area_px:,} px".replace(",", "\u2009")
    area = area_px * mpp**2
    if area >= 1e5:
        return f"{area / 1e6:.3g} mm²"
    return (f"{area:,.0f} µm²" if area >= 100 else f"{area:.3g} µm²").replace(",", "\u2009")

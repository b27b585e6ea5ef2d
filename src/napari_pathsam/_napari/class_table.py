"""The class table: names, colours, visibility, counts; the selected row is the active class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.class_editor import ClassEditor
from napari_pathsam._napari.tables import GREY, PlainTable, cell, grouped, short, swatch
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.classes import ClassInfo, ClassTable

SHOWN, COLOR, NAME, COUNT, AREA, KEY = range(6)
HEADERS = ("", "", "Class", "n", "Area", "Key")
WIDTHS = {SHOWN: 28, COLOR: 28, COUNT: 52, AREA: 76, KEY: 42}
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


class ClassTableWidget(ClassEditor):
    """Classes with what there is of each, whether it is shown, and its key."""

    imported = Signal(object)  # ClassTable, all of it from a file
    hidden_changed = Signal(object)  # frozenset of class ids

    def __init__(self, parent: QWidget | None = None) -> None:
        table = PlainTable(HEADERS, TIPS, WIDTHS)
        table.horizontalHeader().setDefaultAlignment(Qt.AlignLeft | Qt.AlignVCenter)
        super().__init__(table, name=NAME, color=COLOR, parent=parent)
        self._hidden: frozenset[int] = frozenset()
        self._counts: Mapping[int, ClassCount] = {}
        self._mpp: float | None = None
        self._keys: dict[int, str] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(table)
        layout.addWidget(self._error)
        layout.addLayout(self._make_buttons())

    # --- the value ---

    def set_value(self, table: ClassTable) -> None:
        """Show these classes; emits nothing."""
        self._value = table
        self._fill()

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

    def import_csv(self, path: Path | None = None) -> None:
        """Replace the classes by those of a CSV file."""
        path = path or _ask(QFileDialog.getOpenFileName(self, "Import classes", "", "CSV (*.csv)"))
        if path is not None:
            self.change(lambda: ClassTable.from_csv(path.read_text("utf-8")), self.imported)

    def export_csv(self, path: Path | None = None) -> None:
        """Write the classes as CSV."""
        path = path or _ask(
            QFileDialog.getSaveFileName(self, "Export classes", "classes.csv", "CSV (*.csv)")
        )
        if path is None:
            return
        try:
            path.write_text(self._value.to_csv(), "utf-8")
            self.say("")
        except OSError as error:
            self.say(f"The classes could not be written to {path}: {error.strerror or error}.")

    # --- the table ---

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

    def fill_rows(self) -> None:
        for row, info in enumerate(self._value):
            self._fill_row(row, info)
        self._table.fit_rows(3, 9)

    def _fill_row(self, row: int, info: ClassInfo) -> None:
        eye = QTableWidgetItem()
        eye.setFlags(Qt.ItemIsUserCheckable | Qt.ItemIsEnabled)
        eye.setCheckState(Qt.Unchecked if info.id in self._hidden else Qt.Checked)
        name = QTableWidgetItem(info.name)
        for column, item in ((SHOWN, eye), (COLOR, swatch(info.color)), (NAME, name)):
            item.setToolTip(TIPS[column])
            self._table.setItem(row, column, item)
        self._fill_counts(row, info.id)
        key = cell(self._keys.get(row + 1, ""))
        key.setForeground(QColor(GREY))
        self._table.setItem(row, KEY, key)

    def _fill_counts(self, row: int, class_id: int) -> None:
        count = self._counts.get(class_id, ClassCount())
        tip = f"{TIPS[COUNT]}: {grouped(count.n)}"
        self._table.setItem(row, COUNT, cell(short(count.n), tip, right=True))
        there = count.n or count.area_px
        area = area_text(count.area_px, self._mpp) if there else ""
        tip = f"{TIPS[AREA]}: {grouped(count.area_px)} px" if there else TIPS[AREA]
        self._table.setItem(row, AREA, cell(area, tip, right=True))

    def edited(self, info: ClassInfo, item: QTableWidgetItem) -> None:
        if item.column() == SHOWN:
            shown = item.checkState() == Qt.Checked
            self._hidden = self._hidden - {info.id} if shown else self._hidden | {info.id}
            self.hidden_changed.emit(self._hidden)


def _ask(answer: tuple[str, str]) -> Path | None:
    return Path(answer[0]) if answer[0] else None


def area_text(area_px: int, mpp: float | None) -> str:
    """An area for people: µm² or mm² where the pixel size is known, pixels elsewhere."""
    if mpp is None:
        return f"{short(area_px)} px"
    return um2_text(area_px * mpp**2)


def um2_text(area: float) -> str:
    """An area given in µm²; from a tenth of a mm² in those."""
    if area >= 1e5:
        return f"{area / 1e6:.3g} mm²"
    return f"{grouped(area) if area >= 100 else f'{area:.3g}'} µm²"

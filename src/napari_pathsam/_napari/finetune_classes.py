"""The class table of the Fine-tune dock: what is painted of each class, and what is too little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.class_table import edit_error, swatch_icon
from napari_pathsam._napari.finetune_parts import Choice, form, quiet, row
from napari_pathsam._napari.segment_table import grouped
from napari_pathsam._napari.widgets import button, error_line
from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.errors import PathsamError

if TYPE_CHECKING:
    from napari_pathsam.core.strokes import ClassStrokes

COLOR, NAME, PX, REGIONS, IMAGES = range(5)
HEADERS = ("", "Class", "Pixels", "Regions", "Images")
TIPS = (
    "Colour; double-click to change it",
    "Name; double-click to change it. The selected class is painted",
    "Painted pixels",
    "Separate regions: pieces of one stroke count once",
    "Images on which it is painted",
)
HINT = (
    "Select a class, press “Paint it”, and draw over a few separate places of it. Do the same for "
    "each class, then train."
)
ROW_PX = 26
FEW = "#e0a030"


class PaintedClasses(QWidget):
    """Edits a :class:`ClassTable` and which class is background; shows what is painted."""

    value_changed = Signal(object)
    background_changed = Signal(object)  # class id | None
    zero_changed = Signal(object)
    active_changed = Signal(int)
    paint_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value = ClassTable()
        self._counts: Mapping[int, ClassStrokes] = {}
        self._active = 0
        self._filling = False
        self._table = self._make_table()
        self._error = error_line(self)
        self.hint = quiet(HINT)
        self.warning = quiet()
        self.warning.setStyleSheet(f"color: {FEW}; font-size: 11px;")
        self.add_button = button("Add class", "Add a class; double-click its name to change it",
                                 lambda: self.add_class())  # fmt: skip
        self.delete_button = button(
            "Delete", "Remove the selected class from the table; what is painted stays",
            lambda: self.delete_active(),
        )  # fmt: skip
        self.paint_button = button(
            "Paint it", "Take the brush, in the selected class's colour", self.paint_wanted.emit
        )
        self.background = Choice(tip="The class that is background: no class of the model, but "
                                 "what the others are told from")  # fmt: skip
        self.zero = Choice(
            {"unlabelled": "left out: not known", "background": "taken as background"},
            "Pixels you did not paint are never background unless you say so here",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._table)
        layout.addWidget(self._error)
        layout.addWidget(self.hint)
        layout.addWidget(self.warning)
        layout.addLayout(row(self.add_button, self.delete_button, self.paint_button))
        layout.addLayout(form((("Background", self.background), ("Unpainted", self.zero))))
        self.background.value_changed.connect(self.background_changed)
        self.zero.value_changed.connect(self.zero_changed)
        self.set_value(ClassTable())

    # --- the value ---

    def value(self) -> ClassTable:
        return self._value

    def set_value(self, classes: ClassTable, background_id: int | None = None) -> None:
        """Show these classes; emits nothing."""
        self._value = classes
        self.background.set_values({None: "none of them", **{c.id: c.name for c in classes}})
        self.background.set_value(background_id)
        self._fill()

    def set_zero(self, zero: str) -> None:
        """Show what bare pixels are; emits nothing."""
        self.zero.set_value(zero)

    def set_counts(self, counts: tuple[ClassStrokes, ...]) -> None:
        """What is painted of each class."""
        self._counts = {c.class_id: c for c in counts}
        self._fill()

    def active(self) -> int:
        return self._active

    def set_active(self, class_id: int) -> None:
        """Select the row of a class; emits nothing."""
        self._active = class_id
        self._select_active()

    def text(self, table_row: int, column: int) -> str:
        """What a cell says."""
        item = self._table.item(table_row, column)
        return "" if item is None else item.text()

    # --- edits ---

    def add_class(self, name: str | None = None) -> None:
        """One more class."""
        taken = set(self._value.names)
        name = name or next(n for i in range(1, 256) if (n := f"Class {i}") not in taken)
        before = {c.id for c in self._value}
        if self._change(lambda: self._value.with_class(name)):
            self._activate(next(c.id for c in self._value if c.id not in before))

    def delete_active(self) -> None:
        """Remove the selected class."""
        if any(c.id == self._active for c in self._value):
            self._change(lambda: self._value.without(self._active))

    def rename(self, class_id: int, name: str) -> None:
        """Give a class another name."""
        info = self._value[class_id]
        self._change(
            lambda: self._value.replacing(ClassInfo(id=class_id, name=name, color=info.color))
        )

    def error(self) -> str:
        return self._error.text()

    def _change(self, edit: Callable[[], ClassTable]) -> bool:
        try:
            table = edit()
        except (PathsamError, ValueError, StopIteration) as error:
            self._say(edit_error(error))
            self._fill()
            return False
        self._say("")
        if table != self._value:
            self._value = table
            self._fill()
            self.value_changed.emit(table)
        return True

    def _say(self, text: str) -> None:
        self._error.setText(text)
        self._error.setVisible(bool(text))

    def _activate(self, class_id: int) -> None:
        self.set_active(class_id)
        self.active_changed.emit(class_id)

    # --- the table ---

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, len(HEADERS), self)
        table.setHorizontalHeaderLabels(HEADERS)
        for column, tip in enumerate(TIPS):
            table.horizontalHeaderItem(column).setToolTip(tip)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(ROW_PX)
        table.setSelectionBehavior(QAbstractItemView.SelectRows)
        table.setSelectionMode(QAbstractItemView.SingleSelection)
        table.setIconSize(QSize(16, 16))
        table.setShowGrid(False)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(24)
        header.setSectionResizeMode(QHeaderView.Fixed)
        header.setSectionResizeMode(NAME, QHeaderView.Stretch)
        for column, width in ((COLOR, 26), (PX, 62), (REGIONS, 62), (IMAGES, 58)):
            table.setColumnWidth(column, width)
        table.itemSelectionChanged.connect(self._on_select)
        table.itemChanged.connect(self._on_item)
        table.cellDoubleClicked.connect(self._on_double_click)
        return table

    def _fill(self) -> None:
        self._filling = True
        self._table.setRowCount(len(self._value))
        for n, info in enumerate(self._value):
            swatch = QTableWidgetItem(swatch_icon(info.color), "")
            swatch.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
            name = QTableWidgetItem(info.name)
            for column, item in ((COLOR, swatch), (NAME, name)):
                item.setToolTip(TIPS[column])
                self._table.setItem(n, column, item)
            self._fill_counts(n, info)
        self._table.setFixedHeight(ROW_PX * (min(max(len(self._value), 2), 9) + 1) + 4)
        self._filling = False
        self._select_active()
        few = [c.name for c in self._value if (s := self._counts.get(c.id)) and s.n_regions == 1]
        none = [c.name for c in self._value if not self._painted(c.id)]
        painted = any(self._painted(c.id) for c in self._value)
        self.warning.setText(_warning(few, none) if painted else "")
        self.warning.setVisible(bool(self.warning.text()))
        self.hint.setVisible(not painted)

    def _painted(self, class_id: int) -> int:
        found = self._counts.get(class_id)
        return 0 if found is None else found.n_px

    def _fill_counts(self, n: int, info: ClassInfo) -> None:
        found = self._counts.get(info.id)
        px, regions, images = (
            (0, 0, 0) if found is None else (found.n_px, found.n_regions, found.n_images)
        )
        for column, number in ((PX, px), (REGIONS, regions), (IMAGES, images)):
            item = QTableWidgetItem(grouped(number) if px else "–")
            item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
            item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
            item.setToolTip(TIPS[column])
            if column == REGIONS and px and regions < 2:
                item.setForeground(QColor(FEW))
            self._table.setItem(n, column, item)

    def _select_active(self) -> None:
        self._filling = True
        self._table.clearSelection()
        for n, info in enumerate(self._value):
            if info.id == self._active:
                self._table.selectRow(n)
        self._filling = False

    def _on_select(self) -> None:
        rows = self._table.selectionModel().selectedRows()
        if not self._filling and rows:
            self._activate(self._value.classes[rows[0].row()].id)

    def _on_item(self, item: QTableWidgetItem) -> None:
        if not self._filling and item.column() == NAME:
            self.rename(self._value.classes[item.row()].id, item.text())

    def _on_double_click(self, n: int, column: int) -> None:
        if column != COLOR:
            return
        info = self._value.classes[n]
        color: Any = QColorDialog.getColor(QColor(info.color), self, f"Colour of {info.name}")
        if color.isValid():
            self._change(
                lambda: self._value.replacing(
                    ClassInfo(id=info.id, name=info.name, color=color.name())
                )
            )


def _warning(few: list[str], none: list[str]) -> str:
    """What is too little, in a sentence."""
    said = []
    if few:
        names = " and ".join(f"“{n}”" for n in few)
        have = "has" if len(few) == 1 else "have"
        said.append(
            f"{names} {have} one region: paint a second elsewhere, or nothing of it can be held "
            "out to score."
        )
    if none:
        names = " and ".join(f"“{n}”" for n in none)
        said.append(f"{names} {'is' if len(none) == 1 else 'are'} not painted yet.")
    return " ".join(said)

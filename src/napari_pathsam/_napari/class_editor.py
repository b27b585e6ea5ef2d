"""Editing a table of classes: names, colours, which one is active; docks add columns to it."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QTableWidgetItem, QWidget

from napari_pathsam._napari.tables import PlainTable
from napari_pathsam._napari.widgets import error_line
from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.errors import PathsamError


class ClassEditor(QWidget):
    """Edits one :class:`ClassTable` in a table whose columns a subclass names and fills.

    What the person asks for goes out as signals; the table shows what it is told, so an undo shows
    itself in the same way as an edit.
    """

    value_changed = Signal(object)  # ClassTable
    active_changed = Signal(int)

    def __init__(
        self, table: PlainTable, *, name: int, color: int, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._value = ClassTable()
        self._deleted: set[int] = set()  # an undo of strokes may bring them back
        self._active = 0
        self._filling = False
        self._rows: tuple[int, ...] = ()  # ids as the table shows them, while a cell is edited too
        self._table, self._name, self._color = table, name, color
        self._error = error_line(self)
        table.itemChanged.connect(self._on_item)
        table.itemSelectionChanged.connect(self._on_select)
        table.cellDoubleClicked.connect(self._on_double_click)

    def fill_rows(self) -> None:
        """Fill the table from the value."""

    def edited(self, info: ClassInfo, item: QTableWidgetItem) -> None:
        """A cell other than the name was changed by the person."""

    # --- the value ---

    def value(self) -> ClassTable:
        return self._value

    def active(self) -> int:
        return self._active

    def set_active(self, class_id: int) -> None:
        """Select the row of a class; emits nothing."""
        self._active = class_id
        self._select_active()

    def text(self, row: int, column: int) -> str:
        """What a cell says."""
        return self._table.text(row, column)

    def error(self) -> str:
        return str(self._error.text())

    # --- edits ---

    def add_class(self, name: str | None = None) -> None:
        """One more class."""
        taken = set(self._value.names)
        name = name or next(n for i in range(1, 256) if (n := f"Class {i}") not in taken)
        before = {c.id for c in self._value}
        if self.change(lambda: self._value.with_class(name, avoid=self._deleted)):
            self._activate(next(c.id for c in self._value if c.id not in before))

    def delete_active(self) -> None:
        """Remove the selected class."""
        if any(c.id == self._active for c in self._value):
            self._deleted.add(self._active)
            self.change(lambda: self._value.without(self._active))

    def rename(self, class_id: int, name: str) -> None:
        """Give a class another name."""
        color = self._value[class_id].color
        self._replace(lambda: ClassInfo(id=class_id, name=name, color=color))

    def change(self, edit: Callable[[], ClassTable], changed: Signal | None = None) -> bool:
        """Apply an edit; an edit that breaks a rule is explained and leaves all as it was."""
        try:
            table = edit()
            if same := _called_alike(table) - _called_alike(self._value):
                raise ValueError(f"Two classes share the name {', '.join(sorted(same))}.")
        except (PathsamError, ValueError, OSError, StopIteration) as error:
            self.say(edit_error(error))
            self._fill()
            return False
        self.say("")
        if table != self._value:
            self._value = table
            self._fill()
            (changed or self.value_changed).emit(table)
        return True

    def say(self, text: str) -> None:
        """Say what went wrong below the table; nothing hides it."""
        self._error.setText(text)
        self._error.setVisible(bool(text))

    def _replace(self, made: Callable[[], ClassInfo]) -> None:
        self.change(lambda: self._value.replacing(made()))

    # --- the table ---

    def _fill(self) -> None:
        self._table.when_free(self._fill_now)

    def _fill_now(self) -> None:
        self._filling = True
        self._rows = tuple(c.id for c in self._value)
        self._table.setRowCount(len(self._rows))
        self.fill_rows()
        self._filling = False
        self._select_active()

    def _select_active(self) -> None:
        self._filling = True
        self._table.clearSelection()
        for row, class_id in enumerate(self._rows):
            if class_id == self._active:
                self._table.selectRow(row)
        self._filling = False

    def _activate(self, class_id: int) -> None:
        if class_id != self._active:
            self._active = class_id
            self.active_changed.emit(class_id)
        self._select_active()

    def _on_select(self) -> None:
        row = self._table.chosen_row()
        if not self._filling and row is not None:
            self._activate(self._rows[row])

    def _class_in(self, row: int) -> ClassInfo | None:
        """The class a row shows; None: it went while a cell was edited."""
        return next((c for c in self._value if c.id == self._rows[row]), None)

    def _on_item(self, item: QTableWidgetItem) -> None:
        info = self._class_in(item.row())
        if self._filling or info is None:
            return
        if item.column() == self._name:
            self.rename(info.id, item.text())
        else:
            self.edited(info, item)

    def _on_double_click(self, row: int, column: int) -> None:
        info = self._class_in(row)
        if column != self._color or info is None:
            return
        color = QColorDialog.getColor(QColor(info.color), self, f"Colour of {info.name}")
        if color.isValid():
            self._replace(lambda: ClassInfo(id=info.id, name=info.name, color=color.name()))


def _called_alike(table: ClassTable) -> set[str]:
    """Names that differ from a name before them in case or spaces only: one reads them as one."""
    seen: set[str] = set()
    found = set()
    for info in table:
        plain = " ".join(info.name.casefold().split())
        if plain in seen:
            found.add(info.name)
        seen.add(plain)
    return found


def edit_error(error: Exception) -> str:
    """The rule an edit broke, without pydantic's frame round it."""
    if hasattr(error, "errors") and callable(error.errors):
        messages = [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()]
        said = "; ".join(messages)
        return f"{said[:1].upper()}{said[1:]}."  # names stay as they were typed
    if isinstance(error, StopIteration):
        return "There can be at most 254 classes."
    return str(error)

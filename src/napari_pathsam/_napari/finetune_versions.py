"""The versions of a lesson: what was trained when, how good it was; back, save, load, use."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QFont
from qtpy.QtWidgets import QFileDialog, QMessageBox, QTableWidgetItem, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import quiet, row
from napari_pathsam._napari.tables import GREY, PlainTable
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.duration import duration
from napari_pathsam.workspace.teaching_lesson import Lesson, Version

NUMBER, NAME, DICE, NOTE = range(4)
HEADERS = ("", "Name", "Dice", "Note")
TIPS = (
    "The version in use is bold",
    "Double-click to rename",
    "Held-out mean Dice: compare versions only where the same was held out. With a question mark: "
    "on too little to say",
    "Double-click to write a note",
)
HINT = "Each training is kept as a version. Double-click a name or a note to change it."


class Versions(QWidget):
    """Shows a :class:`Lesson`'s versions; what the person wants goes out as signals."""

    chosen = Signal(int)
    revert_wanted = Signal(int)
    described = Signal(int, object, object)  # number, name | None, note | None
    delete_wanted = Signal(int)
    save_wanted = Signal(int, object)  # number, Path
    load_wanted = Signal(object)
    segment_wanted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._versions: tuple[Version, ...] = ()
        self._current: int | None = None
        self._filling = False
        self._table = PlainTable(HEADERS, TIPS, {NUMBER: 26, DICE: 50}, row_px=24)
        self._table.itemSelectionChanged.connect(self._on_select)
        self._table.itemChanged.connect(self._on_item)
        self.hint = quiet(HINT)
        self.revert_button = button(
            "Go back to it", "Use the selected version again: its classes are shown",
            lambda: self._with_selected(self.revert_wanted),
        )  # fmt: skip
        self.delete_button = button(
            "Delete…", "Remove the selected version from this list and from the disk", self.delete
        )
        self.save_button = button("Save…", "As one model file, to keep or to send", self.save)
        self.load_button = button("Load…", "A model file of yours or a colleague's", self.load)
        self.segment_button = button(
            "Use for Segment all classes", "Open the Segment dock with the selected version",
            lambda: self._with_selected(self.segment_wanted),
        )  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.hint)
        layout.addWidget(self._table)
        layout.addLayout(row(self.revert_button, self.save_button, self.load_button,
                             self.delete_button))  # fmt: skip
        layout.addWidget(self.segment_button)
        self.set_value(None)

    def value(self) -> int | None:
        """The selected version."""
        row = self._table.chosen_row()
        return None if row is None or not self._versions else self._versions[row].number

    def set_value(self, lesson: Lesson | None) -> None:
        """Show these versions, the newest on top; the one in use is selected where it changed."""
        self._table.when_free(lambda: self._show(lesson))

    def _show(self, lesson: Lesson | None) -> None:
        before, kept = self._current, self.value()
        self._versions = tuple(reversed(lesson.versions)) if lesson else ()
        self._current = lesson.current if lesson else None
        self._filling = True
        self._table.setRowCount(len(self._versions))
        for n, version in enumerate(self._versions):
            self._fill(n, version)
        self._table.fit_rows(1, 6)
        self._filling = False
        self.select(self._current if self._current != before else kept)
        self._table.setVisible(bool(self._versions))
        self.hint.setVisible(not self._versions)
        self._enable()

    def select(self, number: int | None) -> None:
        """Select a version; emits nothing."""
        self._filling = True
        self._table.clearSelection()
        for n, version in enumerate(self._versions):
            if version.number == number:
                self._table.selectRow(n)
        self._filling = False
        self._enable()

    def text(self, table_row: int, column: int) -> str:
        """What a cell says."""
        item = self._table.item(table_row, column)
        return "" if item is None else item.text()

    def save(self, path: Path | None = None) -> None:
        """Write the selected version as a model file."""
        number = self.value()
        if number is None:
            return
        if path is None:
            name = next(v.name for v in self._versions if v.number == number)
            chosen, _ = QFileDialog.getSaveFileName(
                self, "Save the model", f"{name}.safetensors", "Model file (*.safetensors)"
            )
            if not chosen:
                return
            path = Path(chosen)
        if path.suffix != ".safetensors":
            path = path.with_name(path.name + ".safetensors")
        self.save_wanted.emit(number, path)

    def delete(self) -> None:
        """Remove the selected version, once the person has said yes."""
        number = self.value()
        if number is None:
            return
        name = next(v.name for v in self._versions if v.number == number)
        answer = QMessageBox.question(
            self, "Delete a version",
            f"Delete version {number}, “{name}”? It is removed from the disk and cannot be brought "
            "back. Model files that you saved of it stay.",
            QMessageBox.Yes | QMessageBox.Cancel, QMessageBox.Cancel,
        )  # fmt: skip
        if answer == QMessageBox.Yes:
            self.delete_wanted.emit(number)

    def load(self, path: Path | None = None) -> None:
        """Take a model file in."""
        if path is None:
            chosen, _ = QFileDialog.getOpenFileName(
                self, "A model that knows classes", "", "Model files (*.safetensors)"
            )
            if not chosen:
                return
            path = Path(chosen)
        self.load_wanted.emit(path)

    def _fill(self, n: int, version: Version) -> None:
        dice = "" if version.mean_dice is None else f"{version.mean_dice:.2f}"
        few = bool(dice) and version.too_few
        bold = QFont()
        bold.setBold(version.number == self._current)
        dice += " ?" if few else ""
        for column, text in ((NUMBER, str(version.number)), (NAME, version.name), (DICE, dice),
                             (NOTE, version.note)):  # fmt: skip
            item = QTableWidgetItem(text)
            item.setFont(bold)
            item.setToolTip(_about(version))
            if column in (NUMBER, DICE):
                item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
            if column == NUMBER or (column == DICE and few):
                item.setForeground(QColor(GREY))
            if column == DICE:
                item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
            self._table.setItem(n, column, item)

    def _enable(self) -> None:
        number = self.value()
        for made in (self.save_button, self.segment_button, self.delete_button):
            made.setEnabled(number is not None)
        self.revert_button.setEnabled(number is not None and number != self._current)

    def _with_selected(self, signal: Signal) -> None:
        number = self.value()
        if number is not None:
            signal.emit(number)

    def _on_select(self) -> None:
        self._enable()
        number = self.value()
        if not self._filling and number is not None:
            self.chosen.emit(number)

    def _on_item(self, item: QTableWidgetItem) -> None:
        if self._filling:
            return
        number, text = self._versions[item.row()].number, item.text().strip()
        if item.column() == NAME and text:
            self.described.emit(number, text, None)
        elif item.column() == NOTE:
            self.described.emit(number, None, text)


def _about(version: Version) -> str:
    """All there is to know of a version, for its tooltip."""
    lines = [f"{version.name}, {version.created:%d %B %Y %H:%M}"]
    if version.preset:
        ended = "" if version.finished else ", cancelled"
        lines.append(
            f"{version.preset.capitalize()}, best at epoch {version.epoch}, "
            f"{duration(version.seconds)}{ended}"
        )
    if version.mean_dice is not None:
        few = ", too little to say" if version.too_few else ""
        lines.append(f"Held-out mean Dice {version.mean_dice:.3f} on {version.n_px} pixels{few}")
    if version.note:
        lines.append(version.note)
    return "\n".join(lines)

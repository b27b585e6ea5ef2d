"""Which images are trained on: open layers, and files of folders; each can be left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import quiet, row
from napari_pathsam._napari.widgets import button

ROW_PX = 24
SHOWN = 5


@dataclass(frozen=True)
class PairRow:
    """An image with labels, as the list shows it."""

    key: str
    name: str
    labels: str
    used: bool
    is_file: bool


class PairList(QWidget):
    """Edits which images are used."""

    used_changed = Signal(str, bool)
    removed = Signal(str)
    folder_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[PairRow, ...] = ()
        self._filling = False
        self._list = QListWidget(self)
        self._list.setStyleSheet("QListWidget::item { height: 22px; }")
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)  # it would hide a row
        self._list.setTextElideMode(Qt.ElideMiddle)
        self._hint = quiet(
            "Images you have painted on stay in use when you open the next one. A folder of images "
            "with label images or GeoJSON can be added."
        )
        self.folder_button = button(
            "Add folder…", "Images with NAME_labels.png or NAME.geojson beside them",
            self._ask_folder,
        )  # fmt: skip
        self.remove_button = button("Remove", "Take the selected file out of the list",
                                    self._remove)  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._hint)
        layout.addWidget(self._list)
        layout.addLayout(row(self.folder_button, self.remove_button))
        self._list.itemChanged.connect(self._on_item)
        self._list.currentRowChanged.connect(lambda _: self._enable())
        self.set_value(())

    def value(self) -> tuple[PairRow, ...]:
        return self._rows

    def set_value(self, rows: Iterable[PairRow]) -> None:
        """List these; emits nothing."""
        self._rows = tuple(rows)
        self._filling = True
        self._list.clear()
        for each in self._rows:
            item = QListWidgetItem(f"{each.name}  ·  {each.labels}")
            item.setFlags(item.flags() | Qt.ItemIsUserCheckable)
            item.setCheckState(Qt.Checked if each.used else Qt.Unchecked)
            item.setToolTip(f"{each.name}\nlabels: {each.labels}\nUntick to leave it out")
            self._list.addItem(item)
        self._filling = False
        self._list.setFixedHeight(ROW_PX * min(max(len(self._rows), 1), SHOWN) + 4)
        self._list.setVisible(bool(self._rows))
        self._enable()

    def _enable(self) -> None:
        n = self._list.currentRow()
        self.remove_button.setEnabled(0 <= n < len(self._rows) and self._rows[n].is_file)

    def _remove(self) -> None:
        n = self._list.currentRow()
        if 0 <= n < len(self._rows):
            self.removed.emit(self._rows[n].key)

    def _on_item(self, item: QListWidgetItem) -> None:
        if not self._filling:
            each = self._rows[self._list.row(item)]
            self.used_changed.emit(each.key, item.checkState() == Qt.Checked)

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A folder of images with labels")
        if chosen:
            self.folder_chosen.emit(Path(chosen))

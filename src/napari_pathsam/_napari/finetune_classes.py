"""The class table of the Fine-tune dock: what is painted of each class, and what is too little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QTableWidgetItem, QVBoxLayout, QWidget

from napari_pathsam._napari.class_editor import ClassEditor
from napari_pathsam._napari.finetune_parts import Choice, form, quiet, row
from napari_pathsam._napari.tables import PlainTable, cell, grouped, short, swatch
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.classes import ClassInfo, ClassTable

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
WIDTHS = {COLOR: 26, PX: 62, REGIONS: 62, IMAGES: 58}
FEW = "#e0a030"


class PaintedClasses(ClassEditor):
    """Classes, which of them is background, and what is painted of each."""

    background_changed = Signal(object)  # class id | None
    zero_changed = Signal(object)
    paint_wanted = Signal()
    erase_wanted = Signal(int)
    """A class goes: its strokes are to go with it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        table = PlainTable(HEADERS, TIPS, WIDTHS)
        super().__init__(table, name=NAME, color=COLOR, parent=parent)
        self._counts: Mapping[int, ClassStrokes] = {}
        self.hint = quiet(HINT)
        self.warning = quiet()
        self.warning.setStyleSheet(f"color: {FEW}; font-size: 11px;")
        self.add_button = button("Add class", "Add a class; double-click its name to change it",
                                 lambda: self.add_class())  # fmt: skip
        self.delete_button = button(
            "Delete", "Remove the selected class, and what is painted of it",
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
        layout.addWidget(table)
        layout.addWidget(self._error)
        layout.addWidget(self.hint)
        layout.addWidget(self.warning)
        layout.addLayout(row(self.add_button, self.delete_button, self.paint_button))
        layout.addLayout(form((("Background", self.background), ("Unpainted", self.zero))))
        self.background.value_changed.connect(self.background_changed)
        self.zero.value_changed.connect(self.zero_changed)
        self.set_value(ClassTable())

    # --- the value ---

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

    def delete_active(self) -> None:
        """Remove the selected class and its strokes."""
        gone = self._active
        if any(c.id == gone for c in self._value):
            self.erase_wanted.emit(gone)
            super().delete_active()
            if len(self._value):
                self._activate(neighbour(self._value, gone))

    # --- the table ---

    def fill_rows(self) -> None:
        for n, info in enumerate(self._value):
            name = QTableWidgetItem(info.name)
            name.setToolTip(TIPS[NAME])
            self._table.setItem(n, COLOR, swatch(info.color, TIPS[COLOR]))
            self._table.setItem(n, NAME, name)
            self._fill_counts(n, info)
        self._table.fit_rows(2, 9)
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
            tip = f"{TIPS[column]}: {grouped(number)}" if px else TIPS[column]
            item = cell(short(number) if px else "–", tip, right=True)
            if column == REGIONS and px and regions < 2:
                item.setForeground(QColor(FEW))
            self._table.setItem(n, column, item)


def neighbour(classes: ClassTable, gone: int) -> int:
    """The class whose row is where that of another was, or the last."""
    ids = [c.id for c in classes]
    return next((i for i in ids if i > gone), ids[-1])


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

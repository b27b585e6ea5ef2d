"""The legend and the areas: one row a class; its colour, area, objects, their density and size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.class_table import um2_text
from napari_pathsam._napari.segment_heads import QUIET
from napari_pathsam._napari.segment_layers import UNSURE, UNSURE_COLOR
from napari_pathsam._napari.tables import PlainTable, cell, grouped, short, swatch
from napari_pathsam.core.areas import AreaTable, to_csv
from napari_pathsam.core.classes import ClassTable

SMALLEST_PX = 350
"""Narrower, the names of the packaged heads' classes would be cut."""

COLOR, NAME, PX, MM2, COUNT, DENSITY, SIZE = range(7)
WIDTHS = {COLOR: 24, PX: 46, MM2: 50, COUNT: 42, DENSITY: 52, SIZE: 62}
HEADERS = ("", "Class", "px", "mm²", "n", "n/mm²", "px each")
TIPS = (
    "Colour in the labels layer",
    "Class",
    "Area in pixels of the image",
    "Area",
    "Objects; without “Split up”, areas that hang together",
    "Objects per mm² of the tissue that was segmented, whatever its class",
    "Median size of an object, in µm² where the pixel size is known",
)


class AreaTableWidget(QWidget):
    """Shows classes with their colours, and the areas once they are known."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._areas: AreaTable | None = None
        self._classes = ClassTable()
        table = self._table = PlainTable(HEADERS, TIPS, WIDTHS, chosen=False)
        table.horizontalHeader().setDefaultAlignment(Qt.AlignLeft | Qt.AlignVCenter)
        table.setMinimumWidth(SMALLEST_PX)
        self._tissue = QLabel("", self)
        self._tissue.setWordWrap(True)
        self._tissue.setStyleSheet(QUIET)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(table)
        layout.addWidget(self._tissue)
        self.set_value(ClassTable(), None)

    def value(self) -> AreaTable | None:
        return self._areas

    def set_value(self, classes: ClassTable, areas: AreaTable | None) -> None:
        """Show these classes; ``areas`` is None while they are not known."""
        self._classes, self._areas = classes, areas
        rows = [(c.id, c.name, c.color) for c in classes]
        if rows:
            rows = [*rows, (UNSURE, "unsure", UNSURE_COLOR), (0, "background", "")]
        px = areas is not None and all(r.um2_per_px is None for r in areas.rows)
        self._table.horizontalHeaderItem(SIZE).setText("px each" if px else "µm² each")
        for column in (PX, MM2, DENSITY):  # there is no room for pixels beside mm²
            self._table.setColumnHidden(column, (column == PX) != px)
        said = tissue_text(areas)
        self._tissue.setText(said)
        self._tissue.setVisible(bool(said))
        self._table.setRowCount(len(rows))
        for row, (class_id, name, color) in enumerate(rows):
            self._fill(row, class_id, name, color)
        self._table.fit_rows(2, 11)
        self.setVisible(bool(rows))

    def text(self, row: int, column: int) -> str:
        """What a cell says."""
        return self._table.text(row, column)

    def tissue_text(self) -> str:
        """What is said below the table: what densities are of."""
        return self._tissue.text()

    def save_csv(self, path: Path | None = None, *, say: Callable[[str], None]) -> None:
        """Write the areas; ``say`` is told what became of it."""
        if self._areas is None:
            return
        if path is None:
            chosen, _ = QFileDialog.getSaveFileName(
                self, "Save the areas", "areas.csv", "CSV (*.csv)"
            )
            if not chosen:
                return
            path = Path(chosen)
        try:
            path.write_text(to_csv([self._areas]), "utf-8")
        except OSError as error:
            say(f"{path.name} could not be written: {error.strerror or error}.")
        else:
            say(f"Written: {path}")

    def _fill(self, row: int, class_id: int, name: str, color: str) -> None:
        self._table.setItem(row, COLOR, swatch(color))
        self._table.setItem(row, NAME, cell(name, name))
        numbers = self._numbers(class_id)
        for column, number in numbers.items():
            text, whole = ("", "") if number is None else (short(number), grouped(number))
            if column == MM2 and number is not None:
                text = mm2_text(number)
                whole = f"{um2_text(number * 1e6)}, {grouped(numbers[PX] or 0)} px"
            elif column == DENSITY and number is not None:
                text, whole = density_text(number), f"{number:.4g}"
            tip = f"{TIPS[column]}: {whole}" if whole else TIPS[column]
            self._table.setItem(row, column, cell(text, tip, right=True))

    def _numbers(self, class_id: int) -> dict[int, float | None]:
        found = self._areas.rows if self._areas is not None else ()
        row = next((r for r in found if r.class_id == class_id), None)
        if row is None:
            return dict.fromkeys((PX, MM2, COUNT, DENSITY, SIZE))
        size = row.median_px if row.um2_per_px is None else row.median_um2
        return {PX: row.px, MM2: row.mm2, COUNT: row.objects, DENSITY: row.objects_per_mm2,
                SIZE: size}  # fmt: skip


def tissue_text(areas: AreaTable | None) -> str:
    """What densities are of, or why there are none; empty: nothing is to be said."""
    if areas is None or all(row.um2_per_px is None for row in areas.rows):
        return ""
    if not areas.tissue_mm2:
        return (
            "No densities: they are per mm² of coloured tissue on a bright ground; none is seen "
            "here."
        )
    said = f"objects per mm² of tissue ({mm2_text(areas.tissue_mm2)} mm² were segmented)"
    if all(row.objects is None for row in areas.rows):
        return f"No densities: they are {said}, and no objects were counted."
    if all(row.objects_per_mm2 is None for row in areas.rows):
        return f"No densities: they are {said}, and what was found covers more than that."
    return f"n/mm²: {said}."


def mm2_text(area: float) -> str:
    """As short as it can be: ``1234``, ``12``, ``0.0021``, ``0.0009``, ``≈0``, ``0``."""
    if 0 < area < 1e-4:
        return "≈0"
    if area >= 100:
        return f"{area:.0f}"
    return f"{area:.2g}" if area >= 1e-3 else f"{area:.1g}"


def density_text(density: float) -> str:
    """Two figures below ten, ``0.043``, ``3.1``; then as :func:`short`."""
    return f"{density:.2g}" if density < 10 else short(density)

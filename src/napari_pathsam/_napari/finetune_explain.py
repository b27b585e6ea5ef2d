"""“Explain”: the functions a class's KAN has learned, and where each of the strongest acts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import Choice, quiet, row
from napari_pathsam._napari.finetune_plots import function_plot
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.classes import ClassTable

if TYPE_CHECKING:
    from napari_pathsam.training.explain import Explanation

COLUMNS = 2


class ExplainPanel(QWidget):
    """Asks about a class; shows what came back."""

    wanted = Signal(int)
    map_wanted = Signal(int)  # which of the functions

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.classes = Choice(tip="The class to explain")
        self.explain_button = button(
            "Explain", "What the version in use has learned of this class", self._ask
        )
        self.text = quiet("Which functions of the KAN speak for a class, and where in the field.")
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self.plots: list[Any] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        asked = row(self.classes, self.explain_button)
        asked.setStretch(0, 2)
        asked.setStretch(1, 1)
        layout.addLayout(asked)
        layout.addWidget(self.text)
        layout.addLayout(self._grid)

    def set_classes(self, classes: ClassTable, background_id: int | None) -> None:
        """The classes of the model."""
        self.classes.set_values({c.id: c.name for c in classes if c.id != background_id})

    def set_value(self, explanation: Explanation | None) -> None:
        """Show an explanation; None: none was asked for."""
        while (item := self._grid.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()
        self.plots = []
        if explanation is None:
            return
        self.text.setText(explanation.text)
        for n, each in enumerate(explanation.activations):
            made = QWidget(self)
            column = QVBoxLayout(made)
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(1)
            drawn = function_plot(each.x, each.y, each.at, each.value)
            self.plots.append(drawn)
            title = QLabel(f"{n + 1}.  {100 * each.share:.0f} % of what is said", made)
            title.setStyleSheet("font-size: 11px;")
            column.addWidget(title)
            column.addWidget(drawn)
            column.addWidget(
                button(
                    "Where it acts",
                    "As a layer over the field: red where it speaks for the class, blue where "
                    "against it",
                    partial(self.map_wanted.emit, n),
                )
            )
            self._grid.addWidget(made, n // COLUMNS, n % COLUMNS)

    def _ask(self) -> None:
        if self.classes.value() is not None:
            self.wanted.emit(self.classes.value())

"""“Explain”: the patterns a class is told by, where each of them acts, and what weighs it."""

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
ASK = "Which patterns in the image speak for a class and which against it, where you look now."
TITLE = "{n}.  {share} of what is said"
TITLE_TIP = (
    "How far this pattern moves the model for or against the class from place to place; all {all} "
    "patterns together are 100 %. In technical words: feature map {number} of the mask decoder, "
    "weighed by an output of the class's KAN"
)
CURVE_TIP = (
    "The strongest of the learned functions (of the KAN's last layer) that make this pattern's "
    "weight: {part} of what they say. Across: what goes in; up: what comes out; the dot: here"
)


class ExplainPanel(QWidget):
    """Asks about a class; shows what came back."""

    wanted = Signal(int)
    map_wanted = Signal(int)  # which of the patterns

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.classes = Choice(tip="The class to explain")
        self.explain_button = button(
            "Explain", "What the version in use has learned of this class", self._ask
        )
        self.text = quiet(ASK)
        self._where = quiet()
        self._where.hide()
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
        layout.addWidget(self._where)
        layout.addWidget(self.text)
        layout.addLayout(self._grid)

    def set_classes(self, classes: ClassTable, background_id: int | None) -> None:
        """The classes of the model."""
        self.classes.set_values({c.id: c.name for c in classes if c.id != background_id})

    def set_value(self, explanation: Explanation | None) -> None:
        """Show an explanation; None: there is none."""
        self.say("")
        while (item := self._grid.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()
        self.plots = []
        self.text.setText(ASK if explanation is None else explanation.text)
        if explanation is None:
            return
        for n, each in enumerate(explanation.patterns):
            made = QWidget(self)
            column = QVBoxLayout(made)
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(1)
            drawn = function_plot(each.x, each.y, each.at, each.value)
            self.plots.append(drawn)
            drawn.setToolTip(CURVE_TIP.format(part=_percent(each.part)))
            title = QLabel(TITLE.format(n=n + 1, share=_percent(each.share)), made)
            title.setToolTip(TITLE_TIP.format(all=explanation.n, number=each.number + 1))
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

    def say(self, text: str) -> None:
        """Which part of the image it is of."""
        self._where.setText(text)
        self._where.setVisible(bool(text))

    def where(self) -> str:
        """What was said of that."""
        return self._where.text()

    def _ask(self) -> None:
        if self.classes.value() is not None:
            self.wanted.emit(self.classes.value())


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"

"""Plots of the Fine-tune dock: loss and score as they come, reliability, learned functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph
from numpy.typing import ArrayLike
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_report import Reliability

INK, GRID, LINE, GOOD_LINE = "#b8bec6", "#414851", "#69c0ff", "#7bd88f"
REDRAWN_MS = 300
HEIGHT_PX = 132
SMOOTHED = 0.9
"""The loss of one step says little: the curve is a running mean."""


def plot(title: str, parent: QWidget | None = None, *, height_px: int = HEIGHT_PX) -> Any:
    """An empty plot in the docks' colours, that a wheel over it does not zoom."""
    made = pyqtgraph.PlotWidget(parent, background=None)
    made.setFixedHeight(height_px)
    made.setMinimumWidth(80)
    item = made.getPlotItem()
    item.setTitle(title, color=INK, size="9pt")
    item.hideButtons()
    item.setMenuEnabled(False)
    item.setMouseEnabled(False, False)
    for side in ("left", "bottom"):
        axis = item.getAxis(side)
        axis.setPen(GRID)
        axis.setTextPen(INK)
        axis.setStyle(tickLength=-4, tickTextOffset=3, maxTickLevel=0)
        axis.enableAutoSIPrefix(False)
    item.getAxis("left").setWidth(34)
    made.wheelEvent = lambda event: event.ignore()  # the dock scrolls
    return made


class Curves(QWidget):
    """Loss over steps and held-out Dice over epochs, redrawn now and then."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.loss_plot, self.dice_plot = plot("Loss", self), plot("Held-out mean Dice", self)
        self.loss_plot.setToolTip("By step")
        self.dice_plot.setToolTip("By epoch; 0 is what training starts from")
        self._loss_line = self.loss_plot.plot(pen=pyqtgraph.mkPen(LINE, width=2))
        self._dice_line = self.dice_plot.plot(
            pen=pyqtgraph.mkPen(GOOD_LINE, width=2), symbol="o", symbolSize=5,
            symbolBrush=GOOD_LINE, symbolPen=None,
        )  # fmt: skip
        self.dice_plot.setYRange(0, 1, padding=0.02)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.loss_plot, 1)
        layout.addWidget(self.dice_plot, 1)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAWN_MS)
        self._timer.timeout.connect(self._redraw)
        self.clear()

    def clear(self) -> None:
        """Begin a new run."""
        self.losses: list[float] = []
        self.scores: list[tuple[int, float]] = []
        self._mean: float | None = None
        self._redraw()

    def add_loss(self, loss: float) -> None:
        """One more step."""
        if not np.isfinite(loss):
            return
        mean = loss if self._mean is None else SMOOTHED * self._mean + (1 - SMOOTHED) * loss
        self._mean = mean
        self.losses.append(mean)
        self._later()

    def add_score(self, epoch: int, dice: float) -> None:
        """One more epoch."""
        if np.isfinite(dice):
            self.scores.append((epoch, dice))
            self._later()

    def _later(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _redraw(self) -> None:
        self._loss_line.setData(np.arange(1, len(self.losses) + 1), np.array(self.losses))
        x, y = np.array(self.scores, float).reshape(-1, 2).T
        self._dice_line.setData(x, y)


class ReliabilityPlot(QWidget):
    """How often the model is right against how sure it says it is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = plot("Right, by how sure it is", self, height_px=150)
        self.plot.setXRange(0, 1, padding=0.06)
        self.plot.setYRange(0, 1, padding=0.06)
        self.plot.plot([0, 1], [0, 1], pen=pyqtgraph.mkPen(INK, style=Qt.DashLine))
        self._line = self.plot.plot(
            pen=pyqtgraph.mkPen(LINE, width=2), symbol="o", symbolBrush=LINE, symbolPen=None
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)

    def set_value(self, reliability: Reliability | None) -> None:
        """Show it; None: nothing was held out."""
        if reliability is None:
            self._line.setData([], [])
            return
        count = np.asarray(reliability.count, float)
        there = count > 0
        confidence, correct = (values[there] for values in reliability.curve)
        sizes = 4 + 8 * np.sqrt(count[there] / max(count.max(), 1))
        self._line.setData(confidence, correct, symbolSize=sizes)


def function_plot(x: ArrayLike, y: ArrayLike, at: float, value: float) -> Any:
    """One learned function, and where this field's mean lies on it."""
    made = plot("", height_px=84)
    made.getPlotItem().setTitle(None)
    made.plot(np.asarray(x), np.asarray(y), pen=pyqtgraph.mkPen(LINE, width=2))
    made.plot([at], [value], pen=None, symbol="o", symbolSize=7, symbolBrush=GOOD_LINE)
    return made

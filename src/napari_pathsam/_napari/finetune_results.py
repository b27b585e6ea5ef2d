"""How good a training is: a headline, curves, a row a class, and what n allows to say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import Section, quiet, row
from napari_pathsam._napari.finetune_plots import Curves, ReliabilityPlot
from napari_pathsam._napari.progress_bar import ProgressBar
from napari_pathsam._napari.tables import GREY, PlainTable, cell, grouped, short, swatch
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.duration import duration

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_report import Scores, TeachReport
    from napari_pathsam.workspace.teaching_lesson import Version
    from napari_pathsam.workspace.teaching_run import TeachProgress

COLOR, NAME, DICE, IOU, PRECISION, RECALL, PX = range(7)
HEADERS = ("", "Class", "Dice", "IoU", "Prec.", "Recall", "n px")
TIPS = (
    "",
    "Class",
    "Dice: twice what both say, over all that either says",
    "Intersection over union",
    "Precision: of what the model calls this class, the part that is",
    "Recall: of what is this class, the part the model finds",
    "Held-out pixels of this class",
)
WIDTHS = {COLOR: 24, DICE: 42, IOU: 42, PRECISION: 46, RECALL: 48, PX: 56}
WAITING = "Nothing is scored yet."
NOT_HELD_OUT = (
    "So there is no score to trust. By region: paint at least two separate regions of each class. "
    "By image: train on several images. By a layer: choose one that is painted."
)
LOADED = "What it was scored on is not here: compare it by eye, with “Before” and the swipe."
ENOUGH = "font-size: 13px; font-weight: bold;"
FEW = "font-size: 13px;"
HINT = "Train, and the score on what was held out is shown here: pixels the model never saw."


class TrainBar(QWidget):
    """Train and Cancel, and how far a training is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.train_button = button("Train", "", lambda: None)
        self.train_button.setMinimumHeight(32)
        self.cancel_button = button("Cancel", "Stop; the best so far is kept", lambda: None)
        self.cancel_button.setMinimumHeight(32)
        self.bar = ProgressBar(self)
        self.bar.setFixedHeight(18)
        self._text = quiet()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        buttons = row(self.train_button, self.cancel_button)
        buttons.setStretch(0, 3)
        buttons.setStretch(1, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self._text)
        self.show_progress(None)

    def text(self) -> str:
        return self._text.text()

    def show_progress(self, progress: TeachProgress | None) -> None:
        """Show it; None: nothing is under way."""
        running = progress is not None
        for widget in (self.bar, self._text, self.cancel_button):
            widget.setVisible(running)
        self.train_button.setEnabled(not running)
        if progress is None:
            self.bar.rest()
            return
        done, total = progress.done, progress.total
        self.bar.show_steps(done, total, f"{done} of {total}")
        parts = [f"{progress.text}…"]
        if progress.epochs and progress.epoch:
            parts.append(f"epoch {progress.epoch} of at most {progress.epochs}")
        if progress.seconds_left is not None:
            parts.append(f"about {duration(progress.seconds_left)} left")
        self._text.setText(" · ".join(parts))


class Results(QWidget):
    """Shows one training: its curves while it runs, its scores."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.headline = QLabel(WAITING, self)
        self.headline.setWordWrap(True)
        self.sentence = quiet()
        self.curves = Curves(self)
        self.curves_of: int | None = None
        """The version whose training they show; None: the one under way."""
        self._table = PlainTable(HEADERS, TIPS, WIDTHS, row_px=24, chosen=False)
        self.reliability = ReliabilityPlot(self)
        self._reliability_text = quiet(
            "Points on the dashed line: when it says 80 % sure, it is right in 80 of 100 pixels. "
            "Below the line it is too sure of itself. Larger points stand for more pixels."
        )
        more = Section("Reliability", "Whether the model knows when it is wrong", opened=False)
        more.column.addWidget(self.reliability)
        more.column.addWidget(self._reliability_text)
        self.reliability_section = more
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.headline, self.sentence, self.curves, self._table, more):
            layout.addWidget(widget)
        self.show_scores(None, {})

    def begin(self) -> None:
        """A new training: empty curves."""
        self.curves.clear()
        self.curves_of = None
        self.show_scores(None, {})

    def add(self, report: TeachReport) -> None:
        """One more report of the training under way."""
        if report.phase == "training" and report.loss is not None:
            self.curves.add_loss(float(report.loss))
            self.curves.show()
        if report.scores is not None:
            self.curves.add_score(report.epoch, float(report.scores.mean_dice))

    def text(self, table_row: int, column: int) -> str:
        """What a cell says."""
        return self._table.text(table_row, column)

    def show_version(
        self, version: Version, scores: Scores | None, colors: Mapping[str, str]
    ) -> None:
        """The scores of a version, or why there are none."""
        what = f"Version {version.number}"
        if scores is not None:
            self.show_scores(scores, colors, what)
        elif version.run is None:
            self.show_scores(None, colors, f"{what} was loaded", LOADED)
        else:
            self.show_scores(None, colors, f"{what}: nothing was held out", NOT_HELD_OUT)
        self.curves.setVisible(bool(self.curves.losses) and self.curves_of == version.number)

    def show_scores(
        self, scores: Scores | None, colors: Mapping[str, str], what: str = "", why: str = HINT
    ) -> None:
        """Scores on what was held out; ``colors`` by class name, ``what`` they are of.

        ``why`` there are none.
        """
        rows = () if scores is None else scores.rows
        self._table.setRowCount(len(rows))
        for n, each in enumerate(rows):
            self._fill(n, each, colors.get(each.name, ""))
        self._table.fit_rows(1, 9)
        self._table.setVisible(bool(rows))
        self.curves.setVisible(bool(self.curves.losses))
        self.reliability_section.setVisible(bool(rows))
        self.sentence.setText(why if scores is None else " ".join(scores.sentences))
        self.sentence.setVisible(bool(self.sentence.text()))
        few = scores is not None and scores.too_few
        self.headline.setStyleSheet(FEW if few else ENOUGH)
        if scores is None:
            self.headline.setText(what or WAITING)
            self.reliability.set_value(None)
            return
        dice, px = scores.mean_dice, grouped(scores.n_px)
        figure = f"{dice:.2f}" if math.isfinite(dice) else "not known"
        said = (
            f"too little held out to say  ·  Dice {figure}"
            if few
            else f"held-out mean Dice {figure}  ·  {px} px"
        )
        self.headline.setText(f"{what}: {said}" if what else f"{said[0].upper()}{said[1:]}")
        self.reliability.set_value(scores.reliability)

    def _fill(self, n: int, each: Any, color: str) -> None:
        self._table.setItem(n, COLOR, swatch(color))
        self._table.setItem(n, NAME, cell(each.name, each.name))
        texts = [f"{v:.2f}" if math.isfinite(v) else "–"
                 for v in (each.dice, each.iou, each.precision, each.recall)]  # fmt: skip
        for column, text in zip((DICE, IOU, PRECISION, RECALL), texts, strict=True):
            self._put(n, column, text)
            if each.too_few:
                self._table.item(n, column).setForeground(QColor(GREY))
        self._put(n, PX, short(each.n_px))
        regions = getattr(each, "n_regions", None)
        if regions is not None:
            self._table.item(n, PX).setToolTip(f"{TIPS[PX]}, in {regions} separate regions")

    def _put(self, n: int, column: int, text: str) -> None:
        self._table.setItem(n, column, cell(text, TIPS[column], right=True))

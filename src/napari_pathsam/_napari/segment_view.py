"""What the “PathSAM: Segment” dock looks like: its parts and where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.column import Column
from napari_pathsam._napari.copy_as import CopyButton
from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.progress_bar import ProgressBar
from napari_pathsam._napari.segment_extent import ExtentChooser
from napari_pathsam._napari.segment_heads import QUIET, HeadChooser
from napari_pathsam._napari.segment_similar import SimilarPanel
from napari_pathsam._napari.segment_table import AreaTableWidget
from napari_pathsam._napari.widgets import (
    AMBER,
    BLUE,
    RED,
    MessageBar,
    PixelSize,
    button,
    heading,
)
from napari_pathsam.core.duration import duration
from napari_pathsam.workspace.segment_request import Progress, SegmentOptions

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_pathsam.models.advice import Advice


SHARPEN_TIP = (
    "Redraw each object with the prompt decoder. Slower; off, because it does not always help: "
    "compare on your images"
)
VIEWS = (None, 1, 2, 4, 8)
VIEWS_TIP = (
    "Look at each tile so often, turned and mirrored, and average the answers: often a little more "
    "exact, and so many times as long"
)
NO_SHARPEN_TIP = (
    "Not on what is larger than 16,384 pixels a side: objects are redrawn from encodings in memory,"
    " and a slide's are not kept. Choose a smaller part of it under “Where”"
)


class OptionsPanel(QWidget):
    """Edits :class:`SegmentOptions`."""

    value_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.instances = self._check(
            "Split up", "Objects one by one: a second labels layer, one number per gland or nucleus"
        )
        self.sharpen = self._check("Sharpen outlines", SHARPEN_TIP)
        self.threshold = self._share(
            "Pixels whose likeliest class has a lower probability are “unsure” (grey, number 255)",
        )
        self.surest = self._share(
            "Whole areas of a class, a nucleus or a gland, whose pixels are on average less likely "
            "are “unsure”: fewer false objects. Of a slide, areas of at most 256 pixels as the "
            "model sees them",
        )
        self.smallest, self.holes = self._pixels(), self._pixels()
        self.smallest.setToolTip("Smaller areas of a class take the class round them")
        self.holes.setToolTip("Smaller enclosed background takes the class round it")
        self.views = QComboBox(self)
        self.views.addItems(["as the model says", *map(str, VIEWS[1:])])
        self.views.setToolTip(VIEWS_TIP)
        self.views.currentIndexChanged.connect(lambda *_: self.value_changed.emit())
        self.probabilities = self._check(
            "Probabilities", "One image layer a class, at the model's resolution"
        )
        self.uncertainty = self._check(
            "Uncertainty", "An image layer: one minus the probability of the likeliest class"
        )
        self.advised_button = button("", "", self._take_advice)
        self.advised_button.hide()
        self._advice: tuple[Advice, float] | None = None
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.addRow(self.advised_button)
        form.addRow(_label("Unsure below"), _row(self.threshold, QLabel("areas"), self.surest))
        form.addRow(_label("Smallest area"), _left(self.smallest))
        form.addRow(_label("Fill holes to"), _left(self.holes))
        form.addRow(_label("Objects"), _row(self.instances, self.sharpen))
        form.addRow(_label("Views"), _left(self.views))
        form.addRow(_label("Also show"), _row(self.probabilities, self.uncertainty))
        self._large = False
        self._allow_sharpen()
        self.value_changed.connect(self._show_advice)
        self.instances.toggled.connect(self._allow_sharpen)
        for box in (self.threshold, self.surest, self.smallest, self.holes):
            box.setKeyboardTracking(False)
            box.valueChanged.connect(lambda *_: self.value_changed.emit())

    def value(self) -> SegmentOptions:
        return SegmentOptions(
            threshold=round(self.threshold.value(), 4),
            surest=round(self.surest.value(), 4),
            smallest_px=self.smallest.value(),
            fill_holes_px=self.holes.value(),
            instances=self.instances.isChecked(),
            sharpen=self._may_sharpen() and self.sharpen.isChecked(),
            probabilities=self.probabilities.isChecked(),
            uncertainty=self.uncertainty.isChecked(),
            views=VIEWS[self.views.currentIndex()],
        )

    def set_value(self, options: SegmentOptions) -> None:
        """Show these options; emits nothing."""
        self.blockSignals(True)
        self.threshold.setValue(options.threshold)
        self.surest.setValue(options.surest)
        self.smallest.setValue(options.smallest_px)
        self.holes.setValue(options.fill_holes_px)
        for box, on in (
            (self.instances, options.instances), (self.sharpen, options.sharpen),
            (self.probabilities, options.probabilities), (self.uncertainty, options.uncertainty),
        ):  # fmt: skip
            box.setChecked(on)
        self.views.setCurrentIndex(VIEWS.index(options.views))
        self.blockSignals(False)
        self._show_advice()

    def set_advice(self, title: str, advice: Advice | None, mpp: float | None) -> None:
        """Offer what is advised for a model, on an image of this pixel size.

        What was taken follows the pixel size, and goes with the model it was advised for.
        """
        before, taken = self._advice, self.advised() == self.value()
        self._advice = None if advice is None or mpp is None else (advice, mpp)
        if taken and self._advice != before:
            same = before is not None and before[0] == advice
            kept = self.advised() if same else None
            self.set_value(kept or _unadvised(self.value()))
        self.advised_button.setText(f"Use what is advised for {title}")
        self.advised_button.setToolTip("" if advice is None else advice.why)
        self._show_advice()

    def advised(self) -> SegmentOptions | None:
        """The options with what is advised in them; None: nothing is."""
        if self._advice is None:
            return None
        advice, mpp = self._advice
        smallest_px, fill_holes_px = advice.pixels(mpp)
        return replace(
            self.value(),
            threshold=advice.threshold,
            surest=advice.surest,
            smallest_px=smallest_px,
            fill_holes_px=fill_holes_px,
            views=advice.views,
        )

    def _take_advice(self) -> None:
        if (options := self.advised()) is not None:
            self.set_value(options)
            self.value_changed.emit()

    def _show_advice(self) -> None:
        self.advised_button.setVisible(self.advised() not in (None, self.value()))

    def set_large(self, large: bool) -> None:
        """Whether the result will be a slide's, whose objects are not redrawn."""
        self._large = large
        self.sharpen.setToolTip(NO_SHARPEN_TIP if large else SHARPEN_TIP)
        self._allow_sharpen()

    def _allow_sharpen(self, *_: bool) -> None:
        self.sharpen.setEnabled(self._may_sharpen())

    def _may_sharpen(self) -> bool:
        return self.instances.isChecked() and not self._large

    def set_mpp(self, mpp: float | None) -> None:
        """Say what areas in pixels are in µm²."""
        for box in (self.smallest, self.holes):
            area = "" if mpp is None else f"  ({box.value() * mpp**2:.3g} µm²)"
            box.setSuffix(" px" + (area if box.value() else ""))

    def _check(self, text: str, tip: str) -> QCheckBox:
        box = QCheckBox(text, self)
        box.setToolTip(tip)
        box.toggled.connect(lambda *_: self.value_changed.emit())
        return box

    def _share(self, tip: str) -> QDoubleSpinBox:
        box = QDoubleSpinBox(self)
        box.setRange(0, 1)
        box.setSingleStep(0.05)
        box.setDecimals(2)
        box.setToolTip(tip)
        return box

    def _pixels(self) -> QSpinBox:
        box = QSpinBox(self)
        box.setRange(0, 10_000_000)
        box.setSingleStep(50)
        box.setSuffix(" px")
        box.setMinimumWidth(140)
        return box


def _unadvised(options: SegmentOptions) -> SegmentOptions:
    """Options without anything that is advised for models."""
    plain = SegmentOptions()
    return replace(
        options,
        threshold=plain.threshold,
        surest=plain.surest,
        smallest_px=plain.smallest_px,
        fill_holes_px=plain.fill_holes_px,
        views=plain.views,
    )


class ProgressPanel(QWidget):
    """Shows how far a run is, with a button that stops it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = ProgressBar(self)
        self.bar.setFixedHeight(20)
        self._text = QLabel("", self)
        self._text.setWordWrap(True)
        self._text.setStyleSheet(QUIET)
        self.cancel_button = button("Cancel", "Stop; what is done stays", lambda: None)
        top = QHBoxLayout()
        top.addWidget(self.bar, 1)
        top.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self._text)
        self.show_progress(None)

    def text(self) -> str:
        return self._text.text()

    def show_progress(self, progress: Progress | None) -> None:
        """Show it; None: nothing is under way."""
        self.setVisible(progress is not None)
        if progress is None:
            self.bar.rest()
            return
        done, total = progress.done, progress.total
        self.bar.show_steps(done, total, f"{done} of {total} tiles")
        parts = [f"{progress.text}…"]
        if progress.seconds_left is not None and progress.done < progress.total:
            parts.append(f"about {duration(progress.seconds_left)} left")
        if progress.reused:
            parts.append(f"{progress.reused} from the encoding that was there")
        self._text.setText(" · ".join(parts))


class SegmentView(Column):
    """The dock's parts in one column; none of them knows another."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.images = LayerChooser(viewer, ("Image",), "choose an image…", self)
        self.images.setToolTip("The image to segment")
        self.pixel_size = PixelSize(self)
        self.heads = HeadChooser(self)
        self.fetch_bar = MessageBar(BLUE, self)
        self.mpp_bar = MessageBar(AMBER, self)
        self.error_bar = MessageBar(RED, self)
        self.error_bar.add("Close", "Hide this message", lambda: self.error_bar.say(""))
        self.extent = ExtentChooser(viewer, self)
        self.options = OptionsPanel(self)
        self.encoding = QLabel("", self)
        self.encoding.setWordWrap(True)
        self.encoding.setStyleSheet(QUIET)
        self.run_button = button("Segment all classes", "Give every pixel a class, in a labels "
                                 "layer of its own", lambda: None)  # fmt: skip
        self.run_button.setMinimumHeight(32)
        self.progress = ProgressPanel(self)
        self.table = AreaTableWidget(self)
        self.csv_button = button(
            "Save areas…", "The table as CSV, with all there is to know of each class", lambda: None
        )
        self.copy_button = CopyButton(self)
        self.similar = SimilarPanel(viewer, self)
        self.components_button = button(
            "Embedding as colours", "The first three principal components of what the encoder sees,"
            " as an RGB layer: like colours, like tissue", lambda: None,
        )  # fmt: skip
        self.status = QLabel("", self)
        self.status.setWordWrap(True)
        self._lay_out()

    def _lay_out(self) -> None:
        column = self.column
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.addRow(_label("Image"), self.images)
        form.addRow(_label("Pixel size"), self.pixel_size)
        form.addRow(_label("Find"), self.heads)
        form.addRow(_label("Where"), self.extent)
        column.addLayout(form)
        for bar in (self.fetch_bar, self.mpp_bar, self.error_bar):
            column.addWidget(bar)
        column.addWidget(self.options)
        column.addWidget(self.encoding)
        column.addWidget(self.run_button)
        column.addWidget(self.progress)
        column.addWidget(heading("Legend and areas"))
        column.addWidget(self.table)
        column.addLayout(_buttons(self.csv_button, self.copy_button))
        column.addWidget(self.status)
        column.addWidget(heading("Find similar"))
        column.addWidget(self.similar)
        column.addWidget(heading("Look into it"))
        column.addLayout(_buttons(self.components_button))
        column.addStretch(1)


LABEL_PX = 88
"""Width of the left column, the same in all forms, so that the fields stand below each other."""


def _label(text: str) -> QLabel:
    label = QLabel(text)
    label.setMinimumWidth(LABEL_PX)
    return label


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(8)
    for widget in widgets:
        row.addWidget(widget)
    row.addStretch(1)
    return row


_left = _row


def _buttons(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row

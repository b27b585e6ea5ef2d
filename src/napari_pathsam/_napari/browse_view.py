"""What the “PathSAM: Browse” dock looks like: its parts and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.browse_list import ImageList
from napari_pathsam._napari.browse_models import TASKS
from napari_pathsam._napari.column import Column
from napari_pathsam._napari.copy_as import CopyButton
from napari_pathsam._napari.finetune_parts import Choice, form, quiet, row
from napari_pathsam._napari.segment_heads import HeadChooser
from napari_pathsam._napari.segment_view import ProgressPanel
from napari_pathsam._napari.widgets import BLUE, RED, MessageBar, PixelSize, button, heading

BY_FILES = "tell it by its files"
AS_LISTED = "as in the data set"


class SetChooser(QWidget):
    """Edits which data set lies where: ``value()`` is its name (None: told by files) and folder."""

    value_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.set = Choice({None: BY_FILES}, "The data set: how the folder is read", self)
        self._path = QLineEdit(self)
        self._path.setPlaceholderText("its folder…")
        self._path.setToolTip("The folder that holds the data set. Enter opens it")
        self.folder_button = button("Folder…", "Choose the data set's folder", self._ask)
        self.info = quiet()
        self.info.setTextFormat(Qt.RichText)
        self.info.setOpenExternalLinks(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.set)
        line = row(self._path, self.folder_button)
        line.setStretch(1, 0)
        layout.addLayout(line)
        layout.addWidget(self.info)
        self._path.returnPressed.connect(self.value_changed)
        self.set.value_changed.connect(lambda _: self._path.text() and self.value_changed.emit())

    def value(self) -> tuple[str | None, Path | None]:
        text = self._path.text().strip()
        return self.set.value(), Path(text).expanduser() if text else None

    def set_value(self, name: str | None, folder: Path | None) -> None:
        """Show a data set and a folder; emits nothing."""
        self.set.set_value(name)
        self._path.setText("" if folder is None else str(folder))

    def _ask(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "The data set's folder", self._path.text())
        if folder:
            self._path.setText(folder)
            self.value_changed.emit()


class BrowseView(Column):
    """The dock's parts in one column, at most 380 pixels wide; none of them knows another."""

    def __init__(self) -> None:
        super().__init__()
        self.source = SetChooser(self)
        self.split = Choice({}, "Which of its parts; “all” is every image there is", self)
        self.target = Choice({}, "What its labels are read as", self)
        self.pixel_size = PixelSize(self)
        self.error_bar, self.fetch_bar = MessageBar(RED, self), MessageBar(BLUE, self)
        self.error_bar.add("Close", "Hide this message", lambda: self.error_bar.say(""))
        self.previous_button = button("◀", "The image before, in the list's order", lambda: None)
        self.next_button = button("▶", "The next image of the list", lambda: None)
        self.worst_button = button("Worst", "To the image with the worst score", lambda: None)
        self.place = QLabel("", self)
        self.place.setWordWrap(True)
        self.place.setToolTip("The image that is shown")
        self.heads = HeadChooser(self)
        self.task = Choice(
            TASKS, "What the model is scored by. Clicks and boxes are simulated: the first click "
            "falls on an object's innermost point, the next ones where the answer is most wrong",
            self,
        )  # fmt: skip
        self.score = quiet()
        self.score.setTextFormat(Qt.RichText)
        self.score.setToolTip(
            "What the model scored on this image. Every figure counts pixels or objects first and "
            "divides once; a dash: nothing to measure"
        )
        self.all_button = button(
            "Score all", "Ask the model for every image of the list; one can look on meanwhile",
            lambda: None,
        )  # fmt: skip
        self.copy_button = CopyButton(self)
        self.copy_button.setToolTip("“Score all”, as code that measures the same without a window")
        self.progress = ProgressPanel(self)
        self.progress.cancel_button.setToolTip("Stop; scores that are known stay")
        self.totals = quiet()
        self.order = Choice({"": AS_LISTED}, "What the list begins with", self)
        self.list = ImageList(self)
        self.status = quiet()
        self._lay_out()

    def show_targets(self, names: Any) -> None:
        """List ways to read the labels; hidden where there is one."""
        self.target.set_values({None: "by default", **{name: name for name in names}})
        self._form.labelForField(self.target).setVisible(bool(names))
        self.target.setVisible(bool(names))

    def _lay_out(self) -> None:
        column = self.column
        self._form = form((
            ("Data set", self.source), ("Part", self.split), ("Labels are", self.target),
            ("Pixel size", self.pixel_size),
        ))  # fmt: skip
        column.addLayout(self._form)
        column.addWidget(self.error_bar)
        column.addWidget(self.place)
        column.addLayout(row(self.previous_button, self.next_button, self.worst_button))
        column.addWidget(heading("Score a model"))
        column.addLayout(form((("Model", self.heads), ("Scored by", self.task))))
        column.addWidget(self.fetch_bar)
        column.addWidget(self.score)
        column.addLayout(row(self.all_button, self.copy_button))
        column.addWidget(self.progress)
        column.addWidget(self.totals)
        column.addWidget(heading("Images"))
        column.addLayout(form((("First", self.order),)))
        column.addWidget(self.list)
        column.addWidget(self.status)
        column.addStretch(1)
        self.show_targets(())

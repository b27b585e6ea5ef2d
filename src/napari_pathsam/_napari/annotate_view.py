"""What the “PathSAM: Annotate” dock looks like: its parts and where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.class_table import ClassTableWidget
from napari_pathsam._napari.column import Column
from napari_pathsam._napari.copy_as import CopyButton
from napari_pathsam._napari.export import ExportButton
from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.keys import Keys
from napari_pathsam._napari.model_panel import ModelPanel
from napari_pathsam._napari.restore_bar import RestoreBar
from napari_pathsam._napari.widgets import (
    AMBER,
    BLUE,
    RED,
    CandidatePanel,
    MessageBar,
    PixelSize,
    ToolBar,
    button,
    heading,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer


class AnnotateView(Column):
    """The dock's parts in one column, at most 380 pixels wide; none of them knows another."""

    def __init__(
        self, viewer: Viewer, models: ModelPanel, export: Callable[[str, Path], None]
    ) -> None:
        super().__init__()
        self.images = LayerChooser(viewer, ("Image",), "choose an image…", self)
        self.images.setToolTip("The image to annotate. Choosing it is all the set-up there is")
        self.pixel_size = PixelSize(self)
        self.models = models
        self.restore_bar = RestoreBar(BLUE, self)
        self.error_bar = MessageBar(RED, self)
        self.error_bar.add("Close", "Hide this message", lambda: self.error_bar.say(""))
        self.stray_bar = MessageBar(AMBER, self)
        self.tools = ToolBar(self)
        self.candidate = CandidatePanel(self)
        self.classes = ClassTableWidget(self)
        self.undo_button = button("Undo", "", lambda: None)
        self.redo_button = button("Redo", "", lambda: None)
        self.export_button = ExportButton(export, self)
        self.copy_button = CopyButton(self)
        self.help_button = button("Keys", "All keys and mouse gestures, and changing them",
                                  lambda: None)  # fmt: skip
        self.status = QLabel("", self)
        self.status.setWordWrap(True)
        self.points_layer = LayerChooser(viewer, ("Points",), "PathSAM's own", self)
        self.shapes_layer = LayerChooser(viewer, ("Shapes",), "PathSAM's own", self)
        self.boxes_button = button(
            "", "Take each shape of the layer above for a box and add the object in it, all in one "
            "step and in the active class", lambda: None,
        )  # fmt: skip
        self.points_layer.setToolTip(
            "Points of this layer are the prompts; those accepted or rejected are taken out of it"
        )
        self.shapes_layer.setToolTip(
            "Shapes drawn or moved in this layer are prompts; nothing is taken out of it"
        )
        self._lay_out()
        self.of_an_image = (
            self.pixel_size, self.tools, self.candidate, self.classes, self.export_button,
            self.copy_button,
        )  # fmt: skip
        """What makes no sense without an image."""

    def print_keys(self, keys: Keys) -> None:
        """Print the keys on the buttons."""
        shown = keys.shown
        self.tools.set_keys(shown)
        self.candidate.set_keys(shown)
        self.classes.set_keys({n: shown(f"class{n}") for n in range(1, 10)})
        self.help_button.setText(f"Keys  {shown('help')}")

    def show_history(self, keys: Keys, undo: str | None, redo: str | None) -> None:
        """What undo and redo would do, in words; None: nothing."""
        for made, title, action, what in (
            (self.undo_button, "Undo", "undo", undo),
            (self.redo_button, "Redo", "redo", redo),
        ):
            key = keys.shown(action)
            made.setText(f"{title}  {key}")
            made.setEnabled(what is not None)
            made.setToolTip(f"{title}: {what} ({key})" if what else f"Nothing to {title.lower()}")

    def _lay_out(self) -> None:
        column = self.column
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.addRow("Image", self.images)
        form.addRow("Pixel size", self.pixel_size)
        form.addRow("Model", self.models)
        column.addLayout(form)
        for bar in (self.restore_bar, self.error_bar, self.stray_bar):
            column.addWidget(bar)
        column.addWidget(heading("Prompt"))
        column.addWidget(self.tools)
        column.addWidget(self.candidate)
        column.addWidget(heading("Classes"))
        column.addWidget(self.classes)
        column.addWidget(heading("Work"))
        column.addLayout(_row(self.undo_button, self.redo_button))
        column.addLayout(_row(self.export_button, self.copy_button, self.help_button))
        column.addWidget(self.status)
        column.addStretch(1)
        column.addWidget(self._layers_section())

    def _layers_section(self) -> QWidget:
        """Rarely needed, so folded: prompts from layers the person already has."""
        section = QWidget(self)
        toggle = QToolButton(section)
        toggle.setText("Prompts from my own layers")
        toggle.setArrowType(Qt.RightArrow)
        toggle.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        toggle.setCheckable(True)
        toggle.setStyleSheet("QToolButton { border: none; background: transparent; }")
        toggle.setToolTip("Take prompts from a points or shapes layer that is already there")
        body = QWidget(section)
        form = QFormLayout(body)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Points", self.points_layer)
        form.addRow("Shapes", self.shapes_layer)
        form.addRow("", self.boxes_button)
        body.hide()
        self._own_layers = body
        toggle.toggled.connect(body.setVisible)
        toggle.toggled.connect(
            lambda shown: toggle.setArrowType(Qt.DownArrow if shown else Qt.RightArrow)
        )
        layout = QVBoxLayout(section)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(toggle)
        layout.addWidget(body)
        return section


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row

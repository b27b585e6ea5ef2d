"""“All shapes → objects”: each shape of a layer of the person's is a box with an object in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QPushButton

from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.prompt_marks import ShapeMarks, box_of

if TYPE_CHECKING:
    from napari_pathsam._napari.session import Session

TEXT = "All shapes → objects"


class ShapeBoxes(QObject):
    """A button that answers all shapes of the chosen layer, and stops that."""

    def __init__(self, button: QPushButton, chooser: LayerChooser, session: Session) -> None:
        super().__init__(session)
        self._button, self._chooser, self._session = button, chooser, session
        button.clicked.connect(lambda: self._on_click())
        session.workspace.boxes_progress.connect(self._on_progress)
        self._on_progress(0, 0)

    def close(self) -> None:
        """The dock goes."""
        self._session.workspace.boxes_progress.disconnect(self._on_progress, missing_ok=True)

    def _on_click(self) -> None:
        session, layer = self._session, self._chooser.value()
        if session.workspace.answering_boxes:
            session.workspace.stop_boxes()
        elif layer is None or session.source is None:
            session.failed.emit(
                "Choose a shapes layer of your own first, just above this button; PathSAM's own "
                "holds the one box you are working with."
            )
        else:
            marks = ShapeMarks(layer, session.viewer, session.source.now.plane)
            session.workspace.accept_boxes([box_of(outline) for outline in marks.outlines()])

    def _on_progress(self, done: int, total: int) -> None:
        self._button.setText(f"Cancel ({done} of {total} boxes done)" if total else TEXT)
